package watcher

import (
	"context"
	"errors"
	"time"

	"cfgd/config"
	"cfgd/overlay"
)

// A live tree outlives its jail where the memory of its /etc could not be unmounted at a stop, or where a
// start failed, after which jail(8) runs no hook: cfg is not mounted any more, and the tree is. rc.conf
// has no hook before the mounts that could see to it, so the daemon does.

const (
	// outlivedFor is how long cfg has to be away: a stop or a start that is under way mounts and unmounts
	// within that time.
	outlivedFor = 30 * time.Second
	// settleAgain is the pause before the next try: somebody may be in the tree.
	settleAgain = 10 * time.Minute
)

// outlived sees to a tree that outlived its jail, when the looks, of which this is the last one's error,
// have found it so for long enough.
func (t *target) outlived(err error) {
	switch now := t.now(); {
	case t.settle == nil:
	case !errors.Is(err, overlay.ErrNotMounted):
		t.cfgGone = false
	case !t.cfgGone:
		t.cfgGone, t.settleAt = true, now+outlivedFor
	case now >= t.settleAt:
		t.settleAt = now + settleAgain
		t.settle()
	}
}

// settler is what a target calls where it outlived its jail. The target's own goroutine does not wait for
// it: it has to let go of the tree meanwhile.
func (d *Daemon) settler(ctx context.Context, m *config.Model, t *config.Target) func() {
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
