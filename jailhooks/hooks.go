package jailhooks

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"cfgd/config"
	"cfgd/internal/flock"
	"cfgd/internal/mount"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// Daemon is the part of the daemon that hooks use. If none runs, both calls return nil.
type Daemon interface {
	Attach(ctx context.Context, target string) error
	Detach(ctx context.Context, target string) error
}

// Hooks are the hooks of one jail.
type Hooks struct {
	Target  *config.Target
	Overlay *overlay.Overlay
	Run     run.Runner
	Daemon  Daemon
	// Mounted is mount.On.
	Mounted func(dir string) ([]mount.Mount, error)
	GOOS    string
	// Embedded is true with --root: nothing is mounted, and Init makes the directories that a start would
	// mount on.
	Embedded bool
	// RescueDir is /var/db/cfgd/rescue.
	RescueDir string
	Now       func() time.Time

	mountpoint func() (bool, error) // for tests, which cannot mount; nil for the real check
	warnings   []string
}

// How long a hook waits for others. Each wait has its own limit, so that time is left for what follows:
// for the rescue archive if a save waits in vain for a daemon that hangs.
const (
	hookWithin   = 30 * time.Second // for another hook of the same jail
	daemonWithin = 10 * time.Second // for the daemon's answer
	saveWithin   = 30 * time.Second
	workWithin   = 3 * time.Minute // all the rest of a hook
)

func (h *Hooks) warn(format string, args ...any) {
	h.warnings = append(h.warnings, fmt.Sprintf(format, args...))
}

// notify calls the daemon. No hook depends on it: if it does not answer, that is a warning.
func (h *Hooks) notify(ctx context.Context, call func(context.Context, string) error,
	trouble string) (done bool) {
	ctx, cancel := context.WithTimeout(ctx, daemonWithin)
	defer cancel()
	err := call(ctx, h.Target.Name)
	if err != nil {
		h.warn("%s: %v", trouble, err)
	}
	return err == nil
}

// lock prevents two hooks of the same jail from running at once.
func (h *Hooks) lock(ctx context.Context) (func(), error) {
	file := filepath.Join(h.Overlay.RunDir, "hook", h.Target.Name)
	return flock.Lock(ctx, file, "the start or stop of "+h.Target.Name, hookWithin)
}
