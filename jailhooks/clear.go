package jailhooks

import (
	"context"
	"fmt"
	"strings"

	"cfgd/config"
	"cfgd/internal/memory"
	"cfgd/internal/run"
)

// discard empties a place of our own that holds nothing worth keeping: a tree that was never whole.
func (h *Hooks) discard(ctx context.Context, p *place) error {
	if p.backing == config.BackingDir {
		return h.Overlay.Clear(ctx)
	}
	m, err := h.memory(p)
	if err != nil {
		return err
	}
	if err := m.Unmake(ctx, h.Run); err != nil {
		return fmt.Errorf("clear what an interrupted start left: %w", err)
	}
	return h.forget()
}

// clearHidden takes away memory that the record names and that nobody sees: jail(8) undid the mounts of a failed start below it, or
// could not, and the next start mounted the jail's root over it; or a hook was killed before it gave an md back.
func (h *Hooks) clearHidden(ctx context.Context, p *place) error {
	r := p.Record
	switch {
	case r == nil:
		return nil
	case r.Device != "":
		return h.clearMD(ctx, p, r.Device)
	case len(p.mounts) == 1 && p.mounts[0].Type == "tmpfs" && h.GOOS == "freebsd":
		// umount(8) there goes by the table of mounts, and so reaches what is hidden, as long as it is the only one of its name.
		_, err := h.Run.Run(ctx, run.Command("umount", p.mounts[0].Dir))
		return err
	case len(p.mounts) > 0:
		h.warn("an earlier start left a tmpfs on %s that the jail's root now hides; it goes when both are unmounted", h.Target.Live)
	}
	return nil
}

// clearMD unmounts and destroys the md of an earlier start. Its number may be somebody else's by now: unless it is mounted where the
// record says, only one that is swap-backed as ours are is destroyed, and mdconfig(8) refuses while it is in use.
func (h *Hooks) clearMD(ctx context.Context, p *place, dev string) error {
	md := memory.Memory{Backing: config.BackingMD, Device: dev}
	for i := range p.mounts {
		if device(&p.mounts[i]) == dev {
			return md.Unmake(ctx, h.Run)
		}
	}
	out, err := h.Run.Run(ctx, run.Command("mdconfig", "-l", "-v", "-u", strings.TrimPrefix(dev, "md")))
	if err != nil || !strings.Contains(out, "swap") {
		return nil
	}
	return md.Destroy(ctx, h.Run)
}
