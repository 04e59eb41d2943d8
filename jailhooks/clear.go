package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cfgd/config"
	"cfgd/internal/mount"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// discard removes a tree of our own that was never complete, and so holds nothing worth keeping.
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

// clearHidden deals with memory that the record names and that is not visible. Either jail(8) could not
// unmount the root of a failed start above it, and the next start mounted another root over it (over the
// same root nullfs(5) mounts nothing: see left.go), or a hook was killed before it destroyed an md. If
// the tree was complete, it may hold what is saved nowhere else.
func (h *Hooks) clearHidden(ctx context.Context, p *place, s *Stopped) error {
	r := p.Record
	switch {
	case r == nil:
		return nil
	case r.Device != "":
		return h.clearMD(ctx, p, s)
	case len(p.mounts) == 0:
		return nil
	case r.State == overlay.Populated:
		s.Hidden = true
		h.warn("an earlier start left a tmpfs on %s that the jail's root now hides, with all that was not "+
			"saved in it:"+
			" when the jail is stopped, umount %s and run cfgd jail cleanup %s, which puts it in an archive",
			h.Target.Live, h.Target.Root, h.Target.Name)
		return h.keepHidden(r)
	case len(p.mounts) == 1 && p.mounts[0].Type == "tmpfs" && h.GOOS == "freebsd":
		// Here umount(8) finds the mount in the table of mounts, and so reaches the hidden one, as long
		// as it is the only one of its name.
		_, err := h.Run.Run(ctx, run.Command("umount", p.mounts[0].Dir))
		return err
	}
	h.warn("an earlier start left a tmpfs on %s that the jail's root now hides; it goes when both are "+
		"unmounted", h.Target.Live)
	return nil
}

// clearMD unmounts and destroys the md of an earlier start, and saves what it holds. Its number may
// belong to something else by now. So, unless it is mounted where the record says, only a swap-backed md
// is touched, and mount(8) and mdconfig(8) refuse while it is in use.
func (h *Hooks) clearMD(ctx context.Context, p *place, s *Stopped) error {
	r := p.Record
	md := mount.Memdisk{Backing: config.BackingMD, Device: r.Device}
	mounted := slices.ContainsFunc(p.mounts, func(m mount.Mount) bool { return device(&m) == r.Device })
	if !mounted {
		out, err := h.Run.Run(
			ctx, run.Command("mdconfig", "-l", "-v", "-u", strings.TrimPrefix(r.Device, "md")),
		)
		if err != nil || !strings.Contains(out, "swap") {
			return nil
		}
	}
	switch {
	case r.State == overlay.Populated:
		err := h.saveHidden(ctx, md, mounted, s)
		if err != nil {
			err = errors.Join(fmt.Errorf("%s holds the /etc of an earlier start: %w", r.Device, err),
				h.keepHidden(r))
		}
		return err
	case mounted:
		return md.Unmake(ctx, h.Run)
	}
	return md.Destroy(ctx, h.Run)
}
