package jailhooks

import (
	"context"
	"errors"
	"fmt"

	"cfgd/internal/mount"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// A tree is hidden if it stayed mounted when its jail stopped, because it was in use, and the next start
// mounted the jail's root over it. Its changes since its last save are nowhere else. An md(4) is
// unmounted by its device and mounted elsewhere to read it. A tmpfs(5) is gone when it is unmounted, and
// cannot be reached while it is hidden: it stays, and its record is kept to identify it when it is
// visible again.

// saveHidden saves the recorded tree on an md(4) that is no longer visible, and destroys the md. The md
// is unmounted, which fails while it is in use, and mounted read-only on a directory of the host.
func (h *Hooks) saveHidden(ctx context.Context, md mount.Memdisk, mounted bool, s *Stopped) error {
	if mounted {
		if _, err := h.Run.Run(ctx, md.UnmakePlan()[0]); err != nil {
			return err
		}
	}
	dir, done, err := h.mountScratch(ctx, "etc", run.Command("mount", "-o", "ro", "/dev/"+md.Device))
	if err != nil {
		return err
	}
	h.Overlay.LiveAt = dir
	st, err := h.Overlay.State()
	ours := err == nil && st.Populated
	if ours {
		err = h.lastSave(ctx, s)
	}
	h.Overlay.LiveAt = ""
	h.Overlay.Forget()
	if err2 := done(); err != nil || err2 != nil {
		return errors.Join(err, err2)
	}
	if !ours {
		h.warn("%s, which an earlier start had, holds something else now, and was left alone", md.Device)
		return nil
	}
	return md.Destroy(ctx, h.Run)
}

// keepHidden keeps the record of a tree that is hidden.
func (h *Hooks) keepHidden(r *overlay.Record) error { return h.Overlay.KeepHidden(r) }

// archiveOld removes a visible tree of an earlier start, which an overlay.EarlierError reported. It is
// not saved, because the jail has run since then and what it saved is newer. Everything in it that
// differs from the defaults goes to an archive first.
func (h *Hooks) archiveOld(ctx context.Context, r *overlay.Record, s *Stopped) error {
	h.Overlay.Known = r
	defer func() { h.Overlay.Known = nil }()
	p, err := h.inspect()
	if err != nil {
		return err
	}
	if s.Rescue, err = h.rescue(ctx); err != nil {
		return fmt.Errorf("%s holds the /etc of an earlier start, and no rescue archive: %w;"+
			" mend the cause and run cfgd jail cleanup %s again", h.Target.Live, err, h.Target.Name)
	}
	h.warn("%s held the /etc of an earlier start, and cfg has newer state; what differs in it from the "+
		"defaults is in %s",
		h.Target.Live, s.Rescue)
	if err := h.removeTree(ctx, &p, s); err != nil {
		return err
	}
	return h.Overlay.DropHidden(r.Identity)
}
