package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cfgd/config"
	"cfgd/overlay"
)

// Init makes the memory filesystem of the jail's /etc, populates it from base and cfg, and notifies the
// daemon. The order: clear what an earlier start left; record that memory is being made; make and mount
// it; record "populating"; populate the tree; record "populated"; attach the daemon. A step that fails
// undoes those before it.
func (h *Hooks) Init(ctx context.Context) (*Started, error) {
	unlock, err := h.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	h.sweepScratch(ctx)
	if h.Embedded {
		made, err := h.Overlay.MakeDirs()
		if err != nil {
			return nil, err
		}
		if slices.Contains(made, h.Target.Cfg) {
			h.warn("cfg %s was not there: made, with nothing saved in it", h.Target.Cfg)
		}
	}
	done, err := (&start{Hooks: h}).init(ctx)
	if err != nil {
		return nil, err
	}
	h.notify(ctx, h.Daemon.Attach, "the daemon was not told")
	h.warnArchives()
	done.Warnings = h.warnings
	return done, nil
}

func (s *start) init(ctx context.Context) (*Started, error) {
	ctx, cancel := context.WithTimeout(ctx, workWithin)
	defer cancel()
	p, err := s.inspect()
	switch {
	case err != nil:
		return nil, err
	case p.Populated:
		s.warnOtherBase(p.Record)
		return &Started{AlreadyPopulated: true}, nil
	}
	adopted, err := s.clear(ctx, &p)
	if err != nil {
		return nil, err
	}
	if adopted {
		return &Started{Adopted: true}, nil
	}
	if p, err = s.inspect(); err != nil { // something may have been below what was cleared
		return nil, err
	}
	if s.mountOver {
		p.mounted, s.covered = false, len(p.mounts)
	}
	return s.fill(ctx, &p)
}

// warnOtherBase warns if an earlier start populated the tree from another base than the one that this
// start uses.
func (s *start) warnOtherBase(r *overlay.Record) {
	is, next := r.BaseID, s.Target.BaseID
	if next == "" || is == next {
		is, next = r.BasePath, s.Target.Base
	}
	if is != "" && is != next {
		s.warn("%s is populated from %s, and fstab names %s now; cfgd jail cleanup %s, then another start, "+
			"takes that", s.Target.Live, is, next, s.Target.Name)
	}
}

// clear removes what a failed or killed start left, so that the place is empty. It reports whether the
// tree in place was adopted instead.
func (s *start) clear(ctx context.Context, p *place) (adopted bool, err error) {
	switch {
	case p.backing != config.BackingDir && !p.mounted:
		old := &stop{Hooks: s.Hooks, done: &Stopped{}}
		err := old.clearHidden(ctx, p)
		if errors.Is(err, overlay.ErrNotKept) { // this start's record would replace the only one
			return false, fmt.Errorf("clear what an earlier start left: %w", err)
		}
		if err != nil { // a start does not fail for it
			s.warn("what an earlier start left is still there: %v", err)
		}
		if r := old.done.Result; r != nil && len(r.Saved) > 0 && old.done.Rescue == "" {
			s.warn("an earlier start left its /etc hidden on %s: saved as generation %d, and taken away",
				p.Record.Device, r.Generation)
		}
		return false, s.forget()
	case p.Interrupted:
		s.warn("cleared what an interrupted start left in %s", s.Target.Live)
		return false, s.discard(ctx, p)
	case p.Empty && p.ours(): // this start uses it, and replaces the record
		return false, nil
	case p.Empty || p.Missing:
		return false, s.forget()
	}
	var old *overlay.EarlierError
	_, err = s.Overlay.AdoptLive(ctx)
	switch {
	case errors.As(err, &old):
		// If it cannot be removed, the start goes on. Its record identifies it when it is visible again.
		if err := (&stop{Hooks: s.Hooks, done: &Stopped{}}).archiveEarlier(ctx, old.Record); err != nil {
			s.warn("%v; the new one is mounted over it", err)
			s.mountOver = true
		}
		return false, s.forget()
	case err != nil:
		return false, s.inTheWay(p, err)
	}
	s.warn("%s was populated already, and not by this cfgd: taken over as it is", s.Target.Live)
	return true, nil
}

// fill makes the memory filesystem and populates it.
func (s *start) fill(ctx context.Context, p *place) (*Started, error) {
	m, err := s.make(ctx, p)
	if err != nil {
		return nil, err
	}
	pop, err := s.Overlay.Populate(ctx, m.Backing, m.Device)
	if err != nil {
		return nil, errors.Join(err, s.undo(context.WithoutCancel(ctx), p, m))
	}
	s.checkMerged(ctx, pop.Merge)
	return &Started{Population: pop}, nil
}
