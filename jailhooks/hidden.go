package jailhooks

import (
	"context"
	"errors"
	"fmt"

	"cfgd/internal/memory"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// A tree may be hidden: it stayed mounted when its jail stopped, because somebody was in it, and the next
// start mounted the jail's root over it. What was changed in it since its last save is nowhere else. An md(4)
// is unmounted by its device and looked at elsewhere. A tmpfs(5) is gone when it is unmounted, and cannot be
// reached while it is hidden: it stays, and its record is kept, so that it is known again when it is seen
// again.

// saveHidden saves the tree of the record that is on an md(4), which nothing shows any more, and destroys the
// md. The md is unmounted, which fails as long as somebody uses it, and mounted read-only on a directory of
// the host's own.
func (h *Hooks) saveHidden(ctx context.Context, md memory.Memory, mounted bool, s *Stopped) error {
	if mounted {
		if _, err := h.Run.Run(ctx, md.UnmakePlan()[0]); err != nil {
			return err
		}
	}
	dir, done, err := h.mountAside(ctx, "etc", run.Command("mount", "-o", "ro", "/dev/"+md.Device))
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

// archiveOld takes away a tree of an earlier start that is seen again: an overlay.EarlierError told of
// it. It is never saved, since the jail has run meanwhile and what it saved is newer. All of it that
// differs from the defaults goes to an archive first.
func (h *Hooks) archiveOld(ctx context.Context, r *overlay.Record, s *Stopped) error {
	h.Overlay.Known = r
	defer func() { h.Overlay.Known = nil }()
	p, err := h.look()
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
	if err := h.takeAway(ctx, &p, s); err != nil {
		return err
	}
	return h.Overlay.DropHidden(r.Identity)
}
