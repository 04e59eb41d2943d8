package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/overlay"
)

// Stopped is what Cleanup did.
type Stopped struct {
	Nothing  bool            // there was nothing to clean up
	Result   *overlay.Result // of the last save; nil if there was none
	Rescue   string          // the archive, "" if none was needed
	HostSide bool            // cfg was no longer mounted, and was saved to from the host's side
	Hidden   bool            // live stays mounted, hidden by the jail's root
	// Unmounted lists the mounts of the jail's fstab that jail(8) had left and that were unmounted.
	Unmounted []string
	Warnings  []string
}

// Cleanup saves the jail's /etc for the last time, then unmounts and destroys its memory filesystem. The
// order: the daemon releases the tree; the last save, from the host's side if cfg is not at its place any
// more; if the save fails or is not complete, a rescue archive; only then the unmount; the record goes
// last. If both save and archive fail, or the unmount is refused, the tree stays, the daemon watches it
// again, and the error says what to do. Finally Cleanup unmounts what jail(8) could not, so that the jail
// can be started again.
func (h *Hooks) Cleanup(ctx context.Context) (*Stopped, error) {
	unlock, err := h.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return h.cleanupLocked(ctx)
}

// Settle is Cleanup for a jail that is certainly not being started or stopped. The mounts show that: the
// jail's root is mounted, which prevents every start, and cfg or base is not. For other jails Settle does
// nothing.
func (h *Hooks) Settle(ctx context.Context) (*Stopped, error) {
	unlock, err := h.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if left, err := h.leftMounts(ctx); len(left) == 0 || err != nil {
		return &Stopped{Nothing: true, Warnings: h.warnings}, err
	}
	return h.cleanupLocked(ctx)
}

func (h *Hooks) cleanupLocked(ctx context.Context) (*Stopped, error) {
	h.sweepScratch(ctx)
	released := h.notify(ctx, h.Daemon.Detach, "the daemon did not let go")
	s := &Stopped{}
	err := h.cleanup(ctx, s)
	if err != nil && released {
		h.takeBack(ctx)
	}
	if err == nil {
		err = h.unmountLeft(ctx, s)
	}
	if err == nil && s.HostSide && len(s.Unmounted) == 0 {
		h.warnRootMounted()
	}
	s.Warnings = h.warnings
	return s, err
}

// takeBack makes the daemon watch a tree that stays.
func (h *Hooks) takeBack(ctx context.Context) {
	if st, err := h.Overlay.State(); err == nil && st.Populated {
		h.notify(context.WithoutCancel(ctx), h.Daemon.Attach, "the daemon did not take it back")
	}
}

func (h *Hooks) cleanup(ctx context.Context, s *Stopped) error {
	ctx, cancel := context.WithTimeout(ctx, workWithin)
	defer cancel()
	p, err := h.inspect()
	if err != nil {
		return err
	}
	switch {
	case p.Populated:
	case p.backing != config.BackingDir && !p.mounted:
		s.Nothing = p.Record == nil
		if err := h.clearHidden(ctx, &p, s); err != nil {
			return fmt.Errorf("clear what an earlier start left: %w", err)
		}
		return h.forget()
	case p.Interrupted, p.Empty && p.ours():
		return h.discard(ctx, &p)
	case p.Empty || p.Missing:
		s.Nothing = true
		return h.forget()
	default:
		var old *overlay.EarlierError
		_, err := h.Overlay.AdoptLive(ctx)
		switch {
		case errors.As(err, &old):
			return h.archiveOld(ctx, old.Record, s)
		case err != nil && p.Record == nil && h.notMounted():
			s.Nothing = true // jail(8) has not mounted anything yet; init checks again after the mounts
			return nil
		case err != nil:
			return h.inTheWay(&p, err)
		}
	}
	if err := h.lastSave(ctx, s); err != nil {
		return err
	}
	return h.removeTree(ctx, &p, s)
}

// lastSave saves everything in live to cfg, and what cannot be saved to a rescue archive.
func (h *Hooks) lastSave(ctx context.Context, s *Stopped) error {
	why := h.save(ctx, s)
	if why != nil {
		why = h.saveHostSide(ctx, s, why)
	}
	if why == nil {
		return nil
	}
	var err error
	if s.Rescue, err = h.rescue(ctx); err != nil {
		return fmt.Errorf("%s: not saved: %w; and no rescue archive: %w; %s stays as it is: mend the cause "+
			"and run cfgd jail cleanup %s again",
			h.Target.Name, why, err, h.Target.Live, h.Target.Name)
	}
	h.warn("not saved: %v; what differs from the defaults is in %s", why, s.Rescue)
	return nil
}

// save does the last save. Its error says why not everything is in cfg that belongs there.
func (h *Hooks) save(ctx context.Context, s *Stopped) error {
	ctx, cancel := context.WithTimeout(ctx, saveWithin)
	defer cancel()
	r, err := h.Overlay.Save(ctx, overlay.SaveOptions{Times: true})
	s.Result = r
	if err != nil {
		return err
	}
	var unread []string
	for _, k := range r.Kept {
		if k.Class == config.Report {
			h.warn("%s is not saved, and goes: %s", pathname.Quote(k.Path), k.Reason)
			continue
		}
		unread = append(unread, pathname.Quote(k.Path)+": "+string(k.Reason))
	}
	if len(unread) > 0 {
		return fmt.Errorf("not wholly: %s", strings.Join(unread, "; "))
	}
	var left []string
	for _, path := range append(append(left, r.Conflicts...), r.Unsettled...) {
		left = append(left, pathname.Quote(path))
	}
	if len(left) > 0 {
		return fmt.Errorf("changed in cfg by hand as well, or while it was saved: %s",
			strings.Join(left, ", "))
	}
	return nil
}

// removeTree unmounts and destroys the filesystem of the saved tree.
func (h *Hooks) removeTree(ctx context.Context, p *place, s *Stopped) error {
	if p.backing == config.BackingDir {
		return h.Overlay.Clear(ctx)
	}
	done := "all is saved"
	if s.Rescue != "" {
		done = "what was not saved is in " + s.Rescue
	}
	m, err := h.memory(p)
	if err != nil {
		return err
	}
	if top := p.top(); top == nil || !inMemory(top) {
		return fmt.Errorf("%s, but no memory filesystem is mounted on %s that could be taken away: %w", done,
			h.Target.Live, ErrInTheWay)
	}
	if _, err := h.Run.Run(ctx, m.UnmakePlan()[0]); err != nil {
		return h.busy(ctx, done, err)
	}
	if err := m.Destroy(ctx, h.Run); err != nil {
		return fmt.Errorf("%s, and %s is unmounted, but %s still takes its memory: %w; cfgd jail cleanup "+
			"%s tries again", done, h.Target.Live, m.Device, err, h.Target.Name)
	}
	return h.forget()
}

// busy returns the error for a live tree that is in use, and names who uses it. It is not unmounted by
// force, because then its users would lose what they write next without knowing it.
func (h *Hooks) busy(ctx context.Context, done string, err error) error {
	who := h.usersOf(h.Target.Live) + " shows who uses it"
	if holders := h.holders(ctx, h.Target.Live); holders != "" {
		who += ": " + holders
	}
	return fmt.Errorf("%s, but %s is still mounted: %w (%s); end what uses it, then run cfgd jail cleanup "+
		"%s again",
		done, h.Target.Live, err, who, h.Target.Name)
}

// usersOf returns the command that lists who uses a filesystem.
func (h *Hooks) usersOf(dir string) string {
	if h.GOOS == "linux" {
		return "fuser -vm " + dir
	}
	return "fstat -f " + dir
}
