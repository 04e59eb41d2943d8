package overlay

import (
	"context"
	"path/filepath"
	"time"

	"cfgd/internal/flock"
)

// lockPatience is longer than any save or restore takes.
const lockPatience = 30 * time.Second

// Locked runs f under the target's lock, so that nobody else writes cfg and live.
func (o *Overlay) Locked(ctx context.Context, f func() error) error {
	unlock, err := o.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// lock takes the target's lock, which one writer holds at a time.
func (o *Overlay) lock(ctx context.Context) (unlock func(), err error) {
	return flock.Lock(ctx, filepath.Join(o.RunDir, "lock", o.Target.Name), o.Target.Name, lockPatience)
}
