package jails

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"cfgd/config"
	"cfgd/internal/flock"
)

// ErrBusy reports that another process makes, switches, relocates or destroys the same jail or prototype.
var ErrBusy = errors.New("another cfgd is at work on it")

// exclusivePatience is how long one command waits for another. A switch with a restart may take minutes:
// then the waiting command ends with ErrBusy.
const exclusivePatience = 10 * time.Second

// Exclusive takes the lock of a jail or prototype. Whatever changes its datasets, its fstab or its
// records holds the lock from the first step to the last. The lock ends with its process, so whoever
// holds it and finds a journal knows that the process that wrote the journal is dead.
func Exclusive(ctx context.Context, m *config.Model, name string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, exclusivePatience)
	defer cancel()
	return exclusive(ctx, m, name)
}

// exclusiveNow is Exclusive without waiting.
func exclusiveNow(m *config.Model, name string) (unlock func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return exclusive(ctx, m, name)
}

func exclusive(ctx context.Context, m *config.Model, name string) (func(), error) {
	unlock, err := flock.Wait(ctx, filepath.Join(m.RunDir(), "exclusive", name))
	if errors.Is(err, flock.ErrHeld) {
		return nil, fmt.Errorf("%s: %w", name, ErrBusy)
	}
	return unlock, err
}
