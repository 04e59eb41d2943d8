package jailhooks

import (
	"context"
	"errors"
	"fmt"

	"cfgd/config"
	"cfgd/internal/memory"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// Started is what Init did.
type Started struct {
	Already    bool                // it was populated, and nothing was touched
	Adopted    bool                // something else had populated it as base and cfg say
	Population *overlay.Population // nil where nothing was populated
	Warnings   []string
}

// Init makes the memory filesystem of the jail's /etc, populates it from base and cfg, and tells the daemon. The order: what an
// earlier start left is cleared; the memory is made and mounted; the record says populating; the tree is populated; the record
// says populated; the daemon attaches. A step that fails undoes those before it.
func (h *Hooks) Init(ctx context.Context) (*Started, error) {
	unlock, err := h.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if h.Embedded {
		if err := h.Overlay.MakeDirs(); err != nil {
			return nil, err
		}
	}
	s, err := h.init(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.Daemon.Attach(ctx, h.Target.Name); err != nil {
		h.warn("the daemon was not told: %v", err)
	}
	s.Warnings = h.warnings
	return s, nil
}

func (h *Hooks) init(ctx context.Context) (*Started, error) {
	p, err := h.look()
	switch {
	case err != nil:
		return nil, err
	case p.Populated:
		return &Started{Already: true}, nil
	}
	adopted, err := h.clear(ctx, &p)
	if err != nil {
		return nil, err
	}
	if adopted {
		return &Started{Adopted: true}, nil
	}
	made, err := h.make(ctx, p)
	if err != nil {
		return nil, err
	}
	pop, err := h.Overlay.Populate(ctx, string(made.Backing), made.Device)
	if err != nil {
		return nil, errors.Join(err, h.undo(context.WithoutCancel(ctx), made))
	}
	return &Started{Population: pop}, nil
}

// clear takes away what a start left that failed or was killed, so that an empty place is left. It reports whether the tree in
// place was adopted instead.
func (h *Hooks) clear(ctx context.Context, p *place) (adopted bool, err error) {
	if h.Target.Memory != config.BackingDir && !p.mounted {
		return false, h.clearHidden(ctx, p)
	}
	switch {
	case p.Interrupted:
		h.warn("cleared what an interrupted start left in %s", h.Target.Live)
		return false, h.discard(ctx, p)
	case p.Empty || p.Missing:
		return false, h.Overlay.DropRecord()
	}
	if err := h.Overlay.AdoptLive(ctx); err != nil {
		return false, h.inTheWay(p, err)
	}
	h.warn("%s was populated already, and not by this cfgd: taken over as it is", h.Target.Live)
	return true, nil
}

func (h *Hooks) inTheWay(p *place, why error) error {
	if p.mounted {
		m := p.mounts[len(p.mounts)-1]
		return fmt.Errorf("live: %s (%s) is mounted on %s and cfgd did not populate it: %w (%w); unmount it, then try again", m.Source, m.Type, h.Target.Live, ErrInTheWay, why)
	}
	return fmt.Errorf("live: %s holds files and cfgd did not populate it: %w (%w); move them away, then try again", h.Target.Live, ErrInTheWay, why)
}

// discard empties a place of our own that holds nothing worth keeping: a tree that was never whole.
func (h *Hooks) discard(ctx context.Context, p *place) error {
	if h.Target.Memory == config.BackingDir {
		return h.Overlay.Clear(ctx)
	}
	m, err := h.memory(*p)
	if err != nil {
		return err
	}
	if err := m.Unmake(ctx, h.Run); err != nil {
		return err
	}
	p.mounted, p.mounts = false, p.mounts[:len(p.mounts)-1]
	h.Overlay.Forget()
	return h.Overlay.DropRecord()
}

// clearHidden deals with a record whose tree is not what one sees: jail(8) undid the mounts of a failed start below it, or
// could not, and the next start mounted the jail's root over it. An md is unmounted by its device; a tmpfs has none.
func (h *Hooks) clearHidden(ctx context.Context, p *place) error {
	r := p.Record
	if r == nil {
		return nil
	}
	if r.Device != "" {
		hidden := memory.Memory{Backing: config.BackingMD, Device: r.Device}
		for _, m := range p.mounts {
			if device(m) != r.Device {
				continue
			}
			if _, err := h.Run.Run(ctx, run.Command("umount", m.Source)); err != nil {
				return fmt.Errorf("unmount what an earlier start left: %w", err)
			}
		}
		if err := hidden.Destroy(ctx, h.Run); err != nil {
			h.warn("%s of an earlier start is still there: %v", r.Device, err)
		}
	} else if len(p.mounts) > 0 {
		h.warn("an earlier start left a tmpfs on %s that the jail's root now hides; it goes when both are unmounted", h.Target.Live)
	}
	h.Overlay.Forget()
	return h.Overlay.DropRecord()
}

// make makes the memory, unless an empty one is mounted.
func (h *Hooks) make(ctx context.Context, p place) (memory.Memory, error) {
	if h.Target.Memory == config.BackingDir {
		return memory.Memory{Backing: config.BackingDir}, nil
	}
	m, err := h.memory(p)
	if err != nil || p.mounted && inMemory(p.mounts[len(p.mounts)-1]) {
		return m, err
	}
	if p.Missing {
		return m, fmt.Errorf("live: %s is not there: is the jail's root mounted?", h.Target.Live)
	}
	if m.Device, err = m.Make(ctx, h.Run); err != nil {
		return m, err
	}
	if on, err := h.mountpoint(); err != nil || !on {
		return m, errors.Join(fmt.Errorf("%s was mounted, but %s still shows what is below it", m.Backing, h.Target.Live), err, m.Unmake(ctx, h.Run))
	}
	return m, nil
}

// undo takes away a tree that could not be populated.
func (h *Hooks) undo(ctx context.Context, m memory.Memory) error {
	if m.Backing == config.BackingDir {
		return h.Overlay.Clear(ctx)
	}
	if err := m.Unmake(ctx, h.Run); err != nil {
		return err
	}
	return h.Overlay.DropRecord()
}
