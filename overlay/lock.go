package overlay

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"cfgd/internal/flock"
)

// ErrLocked says that another process has been writing to the target for too long.
var ErrLocked = errors.New("another cfgd is at work on this target")

// lockPatience is more than any save or restore takes.
const lockPatience = 30 * time.Second

// Locked runs f while nobody else writes the target's cfg and live.
func (o *Overlay) Locked(ctx context.Context, f func() error) error {
	unlock, err := o.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// lock takes the target's lock, which one writer holds at a time. It waits for a while, or until ctx ends, and at least once looks.
func (o *Overlay) lock(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	unlock, err = flock.Wait(ctx, filepath.Join(o.RunDir, "lock", o.Target.Name))
	if errors.Is(err, flock.ErrHeld) {
		return nil, fmt.Errorf("%s: %w: %w", o.Target.Name, ErrLocked, err)
	}
	return unlock, err
}
