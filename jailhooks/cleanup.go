package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cfgd/config"
	"cfgd/overlay"
)

// Stopped is what Cleanup did.
type Stopped struct {
	Nothing  bool            // there was nothing to clean up
	Result   *overlay.Result // of the last save; nil where there was none
	Rescue   string          // the archive, "" where none was needed
	Warnings []string
}

// Cleanup saves the jail's /etc for the last time, and unmounts and destroys the memory that holds it. The order: the daemon lets
// go; the last save; if that cannot be done, or leaves something unsaved, a rescue archive; only then the unmount; the record goes
// last. When neither save nor archive can be had, the tree stays mounted and the error says so.
func (h *Hooks) Cleanup(ctx context.Context) (*Stopped, error) {
	unlock, err := h.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := h.Daemon.Detach(ctx, h.Target.Name); err != nil {
		h.warn("the daemon did not let go: %v", err)
	}
	s := &Stopped{}
	err = h.cleanup(ctx, s)
	s.Warnings = h.warnings
	return s, err
}

func (h *Hooks) cleanup(ctx context.Context, s *Stopped) error {
	p, err := h.look()
	if err != nil {
		return err
	}
	dir := h.Target.Memory == config.BackingDir
	switch {
	case p.Populated:
	case p.Interrupted:
		return h.discard(ctx, &p)
	case !dir && !p.mounted:
		s.Nothing = p.Record == nil
		return h.clearHidden(ctx, &p)
	case p.Empty || p.Missing:
		s.Nothing = true
		return h.Overlay.DropRecord()
	default:
		if err := h.Overlay.AdoptLive(ctx); err != nil {
			return h.inTheWay(&p, err)
		}
	}
	if err := h.lastSave(ctx, s); err != nil {
		return err
	}
	return h.takeAway(ctx, &p)
}

// lastSave brings all that live holds to cfg, or what cannot be saved to a rescue archive.
func (h *Hooks) lastSave(ctx context.Context, s *Stopped) error {
	r, err := h.Overlay.Save(ctx, overlay.SaveOptions{Times: true})
	s.Result = r
	why := err
	if err == nil {
		for _, k := range r.Kept {
			h.warn("%s is not saved, and goes: %s", k.Path, k.Reason)
		}
		if left := append(append([]string{}, r.Conflicts...), r.Unsettled...); len(left) > 0 {
			why = fmt.Errorf("changed in cfg by hand as well: %s", strings.Join(left, ", "))
		}
	}
	if why == nil {
		return nil
	}
	s.Rescue, err = h.rescue(ctx)
	if err != nil {
		return fmt.Errorf("%s: not saved: %w; and no rescue archive: %w; %s stays as it is: mend the cause and run cfgd jail cleanup %s again",
			h.Target.Name, why, err, h.Target.Live, h.Target.Name)
	}
	h.warn("not saved: %v; what differs from the defaults is in %s", why, s.Rescue)
	return nil
}

// rescue writes the archive: a new file, fsynced, renamed to its name, the directory fsynced.
func (h *Hooks) rescue(ctx context.Context) (name string, err error) {
	if err := os.MkdirAll(h.RescueDir, 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(h.RescueDir, ".new-*") // mode 0600
	if err != nil {
		return "", err
	}
	defer func() {
		f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := h.Overlay.Rescue(ctx, f); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	name = filepath.Join(h.RescueDir, h.Target.Name+"-"+h.Now().UTC().Format("20060102T150405.000Z")+".tar")
	if err := os.Rename(f.Name(), name); err != nil {
		return "", err
	}
	return name, syncDir(h.RescueDir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// takeAway unmounts and destroys what holds the saved tree.
func (h *Hooks) takeAway(ctx context.Context, p *place) error {
	if h.Target.Memory == config.BackingDir {
		return h.Overlay.Clear(ctx)
	}
	m, err := h.memory(*p)
	if err != nil {
		return err
	}
	if !inMemory(p.mounts[len(p.mounts)-1]) {
		return h.inTheWay(p, errors.New("it is no memory filesystem"))
	}
	if err := m.Unmake(ctx, h.Run); err != nil {
		return fmt.Errorf("all is saved, but %s is still mounted: %w (fstat -f %s shows who uses it)", h.Target.Live, err, h.Target.Live)
	}
	h.Overlay.Forget()
	return h.Overlay.DropRecord()
}
