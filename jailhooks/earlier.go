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

// A tree is hidden if it stayed mounted when its jail stopped, because it was in use, and the next start
// mounted the jail's root over it. Its changes since its last save are nowhere else. An md(4) is
// unmounted by its device and mounted elsewhere to read it. A tmpfs(5) is gone when it is unmounted, and
// cannot be reached while it is hidden: it stays, and its record is kept to identify it when it is
// visible again.

// clearHidden deals with memory that the record names and that is not visible. Either jail(8) could not
// unmount the root of a failed start above it, and the next start mounted another root over it (over the
// same root nullfs(5) mounts nothing: see fstabmounts.go), or a hook was killed before it destroyed an md. If
// the tree was complete, it may hold what is saved nowhere else.
func (s *stop) clearHidden(ctx context.Context, p *place) error {
	r := p.Record
	switch {
	case r == nil:
		return nil
	case r.Device != "":
		return s.clearMD(ctx, p)
	case len(p.mounts) == 0:
		return nil
	case r.State == overlay.Populated:
		s.done.Hidden = true
		s.warn("an earlier start left a tmpfs on %s that the jail's root now hides, with all that was not "+
			"saved in it:"+
			" when the jail is stopped, umount %s and run cfgd jail cleanup %s, which puts it in an archive",
			s.Target.Live, s.Target.Root, s.Target.Name)
		return s.Overlay.KeepHidden(r)
	case len(p.mounts) == 1 && p.mounts[0].Type == "tmpfs" && s.GOOS == "freebsd":
		// Here umount(8) finds the mount in the table of mounts, and so reaches the hidden one, as long
		// as it is the only one of its name.
		_, err := s.Run.Run(ctx, run.Command("umount", p.mounts[0].Dir))
		return err
	}
	s.warn("an earlier start left a tmpfs on %s that the jail's root now hides; it goes when both are "+
		"unmounted", s.Target.Live)
	return nil
}

// clearMD unmounts and destroys the md of an earlier start, and saves what it holds. Its number may
// belong to something else by now. So, unless it is mounted where the record says, only a swap-backed md
// is touched, and mount(8) and mdconfig(8) refuse while it is in use.
func (s *stop) clearMD(ctx context.Context, p *place) error {
	r := p.Record
	md := mount.Memdisk{Backing: mount.MD, Device: r.Device}
	mounted := slices.ContainsFunc(p.mounts, func(m mount.Mount) bool { return device(&m) == r.Device })
	if !mounted {
		out, err := s.Run.Run(
			ctx, run.Command("mdconfig", "-l", "-v", "-u", strings.TrimPrefix(r.Device, "md")),
		)
		if err != nil || !strings.Contains(out, "swap") {
			return nil
		}
	}
	switch {
	case r.State == overlay.Populated:
		err := s.saveHidden(ctx, md, mounted)
		if err != nil {
			err = errors.Join(fmt.Errorf("%s holds the /etc of an earlier start: %w", r.Device, err),
				s.Overlay.KeepHidden(r))
		}
		return err
	case mounted:
		return md.Unmake(ctx, s.Run)
	}
	return md.Destroy(ctx, s.Run)
}

// saveHidden saves the recorded tree on an md(4) that is no longer visible, and destroys the md. The md
// is unmounted, which fails while it is in use, and mounted read-only on a directory of the host.
func (s *stop) saveHidden(ctx context.Context, md mount.Memdisk, mounted bool) error {
	if mounted {
		if _, err := s.Run.Run(ctx, md.UnmakePlan()[0]); err != nil {
			return err
		}
	}
	dir, done, err := s.mountScratch(ctx, "etc", run.Command("mount", "-o", "ro", "/dev/"+md.Device))
	if err != nil {
		return err
	}
	s.Overlay.LiveAt = dir
	st, err := s.Overlay.State()
	ours := err == nil && st.Populated
	if ours {
		err = s.lastSave(ctx)
	}
	s.Overlay.LiveAt = ""
	s.Overlay.Forget()
	if err2 := done(); err != nil || err2 != nil {
		return errors.Join(err, err2)
	}
	if !ours {
		s.warn("%s, which an earlier start had, holds something else now, and was left alone", md.Device)
		return nil
	}
	return md.Destroy(ctx, s.Run)
}

// archiveEarlier removes a visible tree of an earlier start, which an overlay.EarlierError reported. It is
// not saved, because the jail has run since then and what it saved is newer. Everything in it that
// differs from the defaults goes to an archive first.
func (s *stop) archiveEarlier(ctx context.Context, r *overlay.Record) error {
	s.Overlay.Known = r
	defer func() { s.Overlay.Known = nil }()
	p, err := s.inspect()
	if err != nil {
		return err
	}
	if s.done.Rescue, err = s.rescue(ctx, nil); err != nil {
		return fmt.Errorf("%s holds the /etc of an earlier start, and %w;"+
			" mend the cause and run cfgd jail cleanup %s again", s.Target.Live,
			s.noArchive(s.done.Rescue, err), s.Target.Name)
	}
	s.warn("%s held the /etc of an earlier start, and cfg has newer state; what differs in it from the "+
		"defaults is in %s",
		s.Target.Live, s.done.Rescue)
	if err := s.removeTree(ctx, &p); err != nil {
		return err
	}
	return s.Overlay.DropHidden(r.Identity)
}

// discard removes a tree of our own that was never complete, and so holds nothing worth keeping.
func (h *Hooks) discard(ctx context.Context, p *place) error {
	if p.backing == config.BackingDir {
		return h.Overlay.Clear(ctx)
	}
	m, err := h.memdisk(p)
	if err != nil {
		return err
	}
	if err := m.Unmake(ctx, h.Run); err != nil {
		return fmt.Errorf("clear what an interrupted start left: %w", err)
	}
	return h.forget()
}
