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

// outlived clears a tree that outlived its jail.
type outlived struct {
	clear   func()        // nil if that is not done
	cfgGone bool          // cfg was not mounted at the last scan
	clearAt time.Duration // when to clear the tree
}

// scanned clears the tree once the scans have found for long enough that it outlived its jail. err is the
// error of the last scan.
func (o *outlived) scanned(now time.Duration, err error) {
	switch {
	case o.clear == nil:
	case !errors.Is(err, overlay.ErrNotMounted):
		o.cfgGone = false
	case !o.cfgGone:
		o.cfgGone, o.clearAt = true, now+outlivedFor
	case now >= o.clearAt:
		o.clearAt = now + clearRetry
		o.clear()
	}
}
