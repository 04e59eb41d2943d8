package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/memory"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// Daemon is the daemon as far as hooks talk to it. Where none runs, both calls return nil.
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
	// Mounted is memory.Mounted.
	Mounted func(dir string) ([]memory.Mount, error)
	GOOS    string
	// Embedded is true with --root: nothing is mounted, and directories that a start would mount are made.
	Embedded bool
	// RescueDir is /var/db/cfgd/rescue.
	RescueDir string
	Now       func() time.Time

	warnings []string
}

// ErrInTheWay says that something stands on the live path that cfgd did not put there.
var ErrInTheWay = errors.New("in the way")

func (h *Hooks) warn(format string, args ...any) {
	h.warnings = append(h.warnings, fmt.Sprintf(format, args...))
}

// lock keeps two hooks of the same jail apart, until ctx ends.
func (h *Hooks) lock(ctx context.Context) (func(), error) {
	dir := filepath.Join(h.Overlay.RunDir, "lock")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, h.Target.Name+".hook"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another init or cleanup of %s is at work: %w", h.Target.Name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// place is what stands at the live path.
type place struct {
	overlay.State
	mounts []memory.Mount // on exactly the path, the topmost last; a mount over the jail's root hides them
	// mounted says that the path is the root of a filesystem: the topmost of mounts is what one sees.
	mounted bool
}

func (h *Hooks) look() (place, error) {
	var p place
	var err error
	if p.State, err = h.Overlay.State(); err != nil {
		return p, err
	}
	if h.Target.Memory == config.BackingDir || p.Missing {
		return p, nil
	}
	dir, err := h.realDir()
	if err != nil {
		return p, err
	}
	if p.mounts, err = h.Mounted(dir); err != nil {
		return p, fmt.Errorf("mounts on %s: %w", dir, err)
	}
	p.mounted, err = h.mountpoint()
	p.mounted = p.mounted && len(p.mounts) > 0
	return p, err
}

// realDir is the live path as mount(8) lists it: links in the jail's root path are the administrator's and resolved, and
// there are none below it, which OpenLive has seen.
func (h *Hooks) realDir() (string, error) {
	root, err := filepath.EvalSymlinks(h.Target.Root)
	if err != nil {
		return "", err
	}
	rel, ok := strings.CutPrefix(h.Target.Live, strings.TrimSuffix(h.Target.Root, "/")+"/")
	if !ok {
		return filepath.EvalSymlinks(h.Target.Live)
	}
	return filepath.Join(root, rel), nil
}

// mountpoint reports whether a filesystem is mounted on the live path, for whoever looks at it now.
func (h *Hooks) mountpoint() (bool, error) {
	live, err := h.Overlay.OpenLive()
	if err != nil {
		return false, err
	}
	defer live.Close()
	return live.MountRoot()
}

// memory is the filesystem that holds, or is to hold, the live tree.
func (h *Hooks) memory(p place) (memory.Memory, error) {
	dir, err := h.realDir()
	m := memory.Memory{Backing: h.Target.Memory, Size: h.Target.MemorySize, Dir: dir, GOOS: h.GOOS}
	if p.mounted {
		m.Device = device(p.mounts[len(p.mounts)-1])
		m.Backing = config.BackingTmpfs
		if m.Device != "" {
			m.Backing = config.BackingMD
		}
	}
	return m, err
}

// device is the md of a mount, "" where there is none.
func device(m memory.Mount) string {
	if dev, ok := strings.CutPrefix(m.Source, "/dev/"); ok && strings.HasPrefix(dev, "md") {
		return dev
	}
	return ""
}

// inMemory reports whether a mount is one that a hook may have made.
func inMemory(m memory.Mount) bool { return m.Type == "tmpfs" || device(m) != "" }
