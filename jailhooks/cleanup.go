package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"cfgd/config"
	"cfgd/overlay"
)

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

// ClearStopped is Cleanup for a jail that is certainly not being started or stopped. The mounts show
// that: the jail's root is mounted, which prevents every start, and cfg or base is not. For other jails
// ClearStopped does nothing.
func (h *Hooks) ClearStopped(ctx context.Context) (*Stopped, error) {
	unlock, err := h.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if all, err := h.remainingMounts(ctx); len(all) == 0 || err != nil {
		return &Stopped{AlreadyClean: true, Warnings: h.warnings}, err
	}
	return h.cleanupLocked(ctx)
}

func (h *Hooks) cleanupLocked(ctx context.Context) (*Stopped, error) {
	h.sweepScratch(ctx)
	released := h.notify(ctx, h.Daemon.Detach, "the daemon did not let go")
	s := &stop{Hooks: h, done: &Stopped{}}
	err := s.cleanup(ctx)
	if err != nil && released {
		s.takeBack(ctx)
	}
	if err == nil {
		s.done.Unmounted, err = h.unmountFstab(ctx)
	}
	if err == nil && s.done.HostSide && len(s.done.Unmounted) == 0 {
		s.warnRootMounted()
	}
	s.done.Warnings = h.warnings
	return s.done, err
}

// takeBack makes the daemon watch a tree that stays.
func (s *stop) takeBack(ctx context.Context) {
	if st, err := s.Overlay.State(); err == nil && st.Populated {
		s.notify(context.WithoutCancel(ctx), s.Daemon.Attach, "the daemon did not take it back")
	}
}

func (s *stop) cleanup(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, workWithin)
	defer cancel()
	p, err := s.inspect()
	if err != nil {
		return err
	}
	switch {
	case p.Populated:
	case p.backing != config.BackingDir && !p.mounted:
		s.done.AlreadyClean = p.Record == nil
		if err := s.clearHidden(ctx, &p); err != nil {
			return fmt.Errorf("clear what an earlier start left: %w", err)
		}
		return s.forget()
	case p.Interrupted, p.Empty && p.ours():
		return s.discard(ctx, &p)
	case p.Empty || p.Missing:
		s.done.AlreadyClean = true
		return s.forget()
	default:
		var old *overlay.EarlierError
		_, err := s.Overlay.AdoptLive(ctx)
		switch {
		case errors.As(err, &old):
			return s.archiveEarlier(ctx, old.Record)
		case err != nil && p.Record == nil && s.notMounted():
			// jail(8) has not mounted anything yet; init checks again after the mounts
			s.done.AlreadyClean = true
			return nil
		case err != nil:
			return s.inTheWay(&p, err)
		}
	}
	if err := s.lastSave(ctx); err != nil {
		return err
	}
	return s.removeTree(ctx, &p)
}

// warnRootMounted warns of a root that stays mounted and is not what the jail's fstab mounts. The next
// start would mount the root again, which nullfs(5) and ZFS refuse.
func (s *stop) warnRootMounted() {
	root, err := filepath.EvalSymlinks(s.Target.Root)
	if err != nil {
		return
	}
	if on, err := s.Mounted(root); err == nil && len(on) > 0 {
		s.warn("the jail's root %s is still mounted: umount %[1]s before the jail is started again",
			s.Target.Root)
	}
}
