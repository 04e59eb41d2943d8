package overlay

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"cfgd/internal/flock"
)

// ErrLocked says that another process kept the target's lock for too long.
var ErrLocked = errors.New("another cfgd is at work on this target")

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

// lock takes the target's lock, which one writer holds at a time. It waits up to lockPatience or until ctx
// ends, and tries at least once.
func (o *Overlay) lock(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	unlock, err = flock.Wait(ctx, filepath.Join(o.RunDir, "lock", o.Target.Name))
	if errors.Is(err, flock.ErrHeld) {
		return nil, fmt.Errorf("%s: %w: %w", o.Target.Name, ErrLocked, err)
	}
	return unlock, err
}
