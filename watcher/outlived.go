package watcher

import (
	"errors"
	"time"

	"cfgd/overlay"
)

// A live tree outlives its jail if the memory of its /etc could not be unmounted at a stop, or if a start
// failed, after which jail(8) runs no hook: cfg is no longer mounted, and the tree still is. rc.conf has
// no hook before the mounts that could clear it, so the daemon does.

const (
	// outlivedFor is how long cfg has to be unmounted. A stop or a start in progress takes less time to
	// mount or unmount it.
	outlivedFor = 30 * time.Second
	// clearRetry is the pause before the next try: a process may still use the tree.
	clearRetry = 10 * time.Minute
)

// outlived clears a tree that outlived its jail, once the scans have found it so for long enough. err is
// the error of the last scan.
func (t *target) outlived(err error) {
	switch now := t.now(); {
	case t.clearStopped == nil:
	case !errors.Is(err, overlay.ErrNotMounted):
		t.cfgGone = false
	case !t.cfgGone:
		t.cfgGone, t.clearAt = true, now+outlivedFor
	case now >= t.clearAt:
		t.clearAt = now + clearRetry
		t.clearStopped()
	}
}
