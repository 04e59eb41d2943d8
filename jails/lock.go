package jails

import (
	"context"
	"path/filepath"
	"time"

	"cfgd/config"
	"cfgd/internal/flock"
	"cfgd/prototype"
)

// exclusiveWithin is how long one command waits for another. A switch with a restart may take minutes:
// then the waiting command ends with flock.ErrHeld.
const exclusiveWithin = 10 * time.Second

// exclusive takes the lock of a jail. Whatever changes its datasets, its fstab or its records holds the
// lock from the first step to the last. The lock ends with its process, so whoever holds it and finds a
// journal knows that the process that wrote the journal is dead.
func exclusive(ctx context.Context, m *config.Model, name string, limit time.Duration) (func(), error) {
	return flock.Lock(ctx, filepath.Join(m.RunDir(), "exclusive", name), name, limit)
}

// lockOn takes the lock of a jail, and the shared lock of the prototype that it is to be on. A plan is made
// without locks. So whoever carries it out checks again, while it holds both, that the snapshot exists;
// then no prune destroys the snapshot before the fstab names it.
func lockOn(ctx context.Context, m *config.Model, jail string, base *config.Prototype) (func(), error) {
	unlock, err := exclusive(ctx, m, jail, exclusiveWithin)
	if err != nil || base == nil {
		return unlock, err
	}
	release, err := prototype.LockShared(ctx, m, base.Name)
	if err != nil {
		unlock()
		return nil, err
	}
	return func() { release(); unlock() }, nil
}

// lockPrototype takes the locks of a prototype and of its jail.
func lockPrototype(ctx context.Context, m *config.Model, name string) (func(), error) {
	unlock, err := exclusive(ctx, m, name, exclusiveWithin)
	if err != nil {
		return nil, err
	}
	release, err := prototype.Lock(ctx, m, name)
	if err != nil {
		unlock()
		return nil, err
	}
	return func() { release(); unlock() }, nil
}
