package watcher

import (
	"context"
	"errors"
	"time"

	"cfgd/config"
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
	case t.clearLeft == nil:
	case !errors.Is(err, overlay.ErrNotMounted):
		t.cfgGone = false
	case !t.cfgGone:
		t.cfgGone, t.clearAt = true, now+outlivedFor
	case now >= t.clearAt:
		t.clearAt = now + clearRetry
		t.clearLeft()
	}
}

// leftClearer returns the function that a target calls if it outlived its jail. The target's goroutine
// does not wait for it, because the target has to release the tree meanwhile.
func (d *Daemon) leftClearer(ctx context.Context, m *config.Model, t *config.Target) func() {
	if d.Settle == nil || t.Host() || m.Root != "" {
		return nil
	}
	return func() {
		go func() {
			log := d.Log.With().Str("target", t.Name).Logger()
			did, err := d.Settle(ctx, m, t)
			switch {
			case ctx.Err() != nil:
			case err != nil:
				log.Warn().Err(err).Msg("what is left of a jail that does not run")
			case did != "":
				log.Info().Msg("the jail does not run, and cfg was unmounted: " + did)
			}
		}()
	}
}
