package jailhooks

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"cfgd/config"
	"cfgd/internal/mount"
	"cfgd/overlay"
)

// place describes what is at the live path.
type place struct {
	overlay.State
	// backing is the filesystem that holds the tree, or will hold it. The configuration may have changed
	// since the tree was populated.
	backing config.Backing
	mounts  []mount.Mount // on exactly this path, the topmost last; a mount over the jail's root hides them
	// mounted is true if the path is the root of a filesystem. Then the topmost of mounts is the visible
	// one.
	mounted bool
}

// top returns the visible mount, nil if there is none.
func (p *place) top() *mount.Mount {
	if !p.mounted {
		return nil
	}
	return &p.mounts[len(p.mounts)-1]
}

func (h *Hooks) inspect() (place, error) {
	p := place{backing: h.Target.Memory}
	var err error
	if p.State, err = h.Overlay.State(); err != nil {
		return p, err
	}
	if (p.Populated || p.Interrupted) && p.Record.Memory != "" {
		p.backing = config.Backing(p.Record.Memory)
	}
	if p.backing == config.BackingDir {
		return p, nil
	}
	dir, err := h.realDir()
	if p.Missing && errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	if p.mounts, err = h.Mounted(dir); err != nil {
		return p, fmt.Errorf("mounts on %s: %w", dir, err)
	}
	if len(p.mounts) > 0 && !p.Missing {
		p.mounted, err = h.isMountRoot()
	}
	return p, err
}

// realDir returns the live path as mount(8) lists it. Links in the path of the jail's root are the
// administrator's and are resolved. Below the root there are none, or OpenLive reports the tree as
// missing.
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

// isMountRoot reports whether a filesystem is mounted on the live path and visible.
func (h *Hooks) isMountRoot() (bool, error) {
	if h.mountpoint != nil {
		return h.mountpoint()
	}
	live, err := h.Overlay.OpenLive()
	if err != nil {
		return false, err
	}
	defer live.Close()
	return live.MountRoot()
}

// memdisk returns the filesystem that holds, or will hold, the live tree.
func (h *Hooks) memdisk(p *place) (mount.Memdisk, error) {
	dir, err := h.realDir()
	m := mount.Memdisk{Backing: string(p.backing), Size: h.Target.MemorySize, Dir: dir, GOOS: h.GOOS}
	if top := p.top(); top != nil && inMemory(top) {
		m.Device, m.Backing = device(top), mount.Tmpfs
		if m.Device != "" {
			m.Backing = mount.MD
		}
	}
	return m, err
}

// device returns the md of a mount, "" if there is none.
func device(m *mount.Mount) string {
	if dev, ok := strings.CutPrefix(m.Source, "/dev/"); ok && strings.HasPrefix(dev, "md") {
		return dev
	}
	return ""
}

// inMemory reports whether a mount is one that a hook may have made.
func inMemory(m *mount.Mount) bool { return m.Type == "tmpfs" || device(m) != "" }

// ours reports whether the mounted filesystem is memory that a start made: the record names it, or on
// Linux its source does.
func (p *place) ours() bool {
	top, r := p.top(), p.Record
	switch {
	case top == nil || !inMemory(top):
		return false
	case p.Populated, p.Interrupted, top.Source == mount.TmpfsSource:
		return true
	}
	return r != nil && r.Identity == "" && r.Device == device(top)
}

// writeIntent records that memory is being made, so that a start that is killed before anything is
// populated leaves a trace.
func (h *Hooks) writeIntent(m *mount.Memdisk) error {
	return h.Overlay.WriteRecord(&overlay.Record{
		State:  overlay.Populating,
		Time:   h.Now().UTC(),
		Memory: m.Backing,
		Device: m.Device,
	})
}

// forget removes the record of a tree that is gone.
func (h *Hooks) forget() error {
	h.Overlay.Forget()
	return h.Overlay.DropRecord()
}

func (h *Hooks) inTheWay(p *place, why error) error {
	if top := p.top(); top != nil {
		return fmt.Errorf("live: %s (%s) is mounted on %s and cfgd did not populate it: %w (%w); unmount "+
			"it, then try again", top.Source, top.Type, h.Target.Live, ErrInTheWay, why)
	}
	return fmt.Errorf("live: %s holds files and cfgd did not populate it: %w (%w); move them away, then "+
		"try again", h.Target.Live, ErrInTheWay, why)
}

// ErrInTheWay reports that something is at the live path that cfgd did not put there.
var ErrInTheWay = errors.New("in the way")
