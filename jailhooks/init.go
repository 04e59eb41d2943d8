package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/mount"
	"cfgd/overlay"
)

// Started is what Init did.
type Started struct {
	Already    bool                // it was populated, and nothing was touched
	Adopted    bool                // something else had populated it with the content of base and cfg
	Population *overlay.Population // nil if nothing was populated
	Warnings   []string
}

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
	s, err := h.init(ctx)
	if err != nil {
		return nil, err
	}
	h.notify(ctx, h.Daemon.Attach, "the daemon was not told")
	h.warnArchives()
	s.Warnings = h.warnings
	return s, nil
}

func (h *Hooks) init(ctx context.Context) (*Started, error) {
	ctx, cancel := context.WithTimeout(ctx, workWithin)
	defer cancel()
	p, err := h.inspect()
	switch {
	case err != nil:
		return nil, err
	case p.Populated:
		h.warnOtherBase(p.Record)
		return &Started{Already: true}, nil
	}
	adopted, err := h.clear(ctx, &p)
	if err != nil {
		return nil, err
	}
	if adopted {
		return &Started{Adopted: true}, nil
	}
	if p, err = h.inspect(); err != nil { // something may have been below what was cleared
		return nil, err
	}
	if h.mountOver {
		p.mounted, h.covered = false, len(p.mounts)
	}
	return h.fill(ctx, &p)
}

// warnOtherBase warns if an earlier start populated the tree from another base than the one that this
// start uses.
func (h *Hooks) warnOtherBase(r *overlay.Record) {
	is, next := r.BaseID, h.Target.BaseID
	if next == "" || is == next {
		is, next = r.BasePath, h.Target.Base
	}
	if is != "" && is != next {
		h.warn("%s is populated from %s, and fstab names %s now; cfgd jail cleanup %s, then another start, "+
			"takes that", h.Target.Live, is, next, h.Target.Name)
	}
}

// clear removes what a failed or killed start left, so that the place is empty. It reports whether the
// tree in place was adopted instead.
func (h *Hooks) clear(ctx context.Context, p *place) (adopted bool, err error) {
	switch {
	case p.backing != config.BackingDir && !p.mounted:
		old := &Stopped{}
		err := h.clearHidden(ctx, p, old)
		if errors.Is(err, overlay.ErrNotKept) { // this start's record would replace the only one
			return false, fmt.Errorf("clear what an earlier start left: %w", err)
		}
		if err != nil { // a start does not fail for it
			h.warn("what an earlier start left is still there: %v", err)
		}
		if old.Result != nil && len(old.Result.Saved) > 0 && old.Rescue == "" {
			h.warn("an earlier start left its /etc hidden on %s: saved as generation %d, and taken away",
				p.Record.Device, old.Result.Generation)
		}
		return false, h.forget()
	case p.Interrupted:
		h.warn("cleared what an interrupted start left in %s", h.Target.Live)
		return false, h.discard(ctx, p)
	case p.Empty && p.ours(): // this start uses it, and replaces the record
		return false, nil
	case p.Empty || p.Missing:
		return false, h.forget()
	}
	var old *overlay.EarlierError
	_, err = h.Overlay.AdoptLive(ctx)
	switch {
	case errors.As(err, &old):
		// If it cannot be removed, the start goes on. Its record identifies it when it is visible again.
		if err := h.archiveOld(ctx, old.Record, &Stopped{}); err != nil {
			h.warn("%v; the new one is mounted over it", err)
			h.mountOver = true
		}
		return false, h.forget()
	case err != nil:
		return false, h.inTheWay(p, err)
	}
	h.warn("%s was populated already, and not by this cfgd: taken over as it is", h.Target.Live)
	return true, nil
}

// fill makes the memory filesystem and populates it.
func (h *Hooks) fill(ctx context.Context, p *place) (*Started, error) {
	m, err := h.make(ctx, p)
	if err != nil {
		return nil, err
	}
	pop, err := h.Overlay.Populate(ctx, string(m.Backing), m.Device)
	if err != nil {
		return nil, errors.Join(err, h.undo(context.WithoutCancel(ctx), p, m))
	}
	h.checkMerged(ctx, pop.Merge)
	return &Started{Population: pop}, nil
}

// make makes the memory filesystem, unless an empty one is mounted.
func (h *Hooks) make(ctx context.Context, p *place) (mount.Memdisk, error) {
	if h.Target.Memory == config.BackingDir {
		return mount.Memdisk{Backing: config.BackingDir}, nil
	}
	live, err := h.Overlay.OpenLive()
	if err != nil {
		return mount.Memdisk{}, fmt.Errorf(
			"%w; a filesystem is mounted on a directory, and on no link: is the jail's root mounted?", err,
		)
	}
	defer live.Close()
	p.backing = h.Target.Memory
	m, err := h.memory(p)
	if err != nil || p.mounted && inMemory(p.top()) {
		return m, err
	}
	return h.mount(ctx, live, m)
}

// mount makes a memory filesystem on the open live directory, and checks that it is mounted there.
func (h *Hooks) mount(ctx context.Context, live *dirfd.Dir, m mount.Memdisk) (mount.Memdisk, error) {
	m.Note = func(device string) error { m.Device = device; return h.writeIntent(&m) }
	if err := h.writeIntent(&m); err != nil {
		return m, err
	}
	on := m
	on.Dir = mountPath(h.GOOS, live, m.Dir)
	_, err := on.Make(ctx, h.Run)
	misplaced := false
	if err == nil {
		err = h.checkMounted(&m)
		misplaced = err != nil && on.Dir != m.Dir
	}
	if err != nil {
		if misplaced {
			// The directory was moved, and the filesystem is mounted on it. Its descriptor tells where it
			// is now.
			m.Dir, _ = os.Readlink(on.Dir)
		}
		err = errors.Join(err, h.unmount(context.WithoutCancel(ctx), &m, misplaced))
	}
	return m, err
}

// unmount undoes a mount that went wrong, because the mount may have been done all the same. It uses the
// path only while the memory filesystem is visible there, because umount(8) would follow a link. If it
// fails, the record is kept and the next hook tries again.
func (h *Hooks) unmount(ctx context.Context, m *mount.Memdisk, known bool) error {
	p, err := h.inspect()
	if known || m.Device != "" || p.ours() && len(p.mounts) > h.covered {
		err = m.Unmake(ctx, h.Run)
	}
	if err != nil {
		return err
	}
	return h.forget()
}

// mountPath returns a path of a directory for mount(8). On Linux it goes by the descriptor, so that
// swapping a part of the path changes nothing. FreeBSD's mount(8) resolves every path with realpath(3):
// checkMounted has to find out.
func mountPath(goos string, live *dirfd.Dir, dir string) string {
	if goos != "linux" {
		return dir
	}
	byFd := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), live.Fd())
	if _, err := os.Readlink(byFd); err != nil { // no proc(5)
		return dir
	}
	return byFd
}

// checkMounted checks that the filesystem is where the descriptors lead: if mount(8) went by a path, a
// part of it may have been swapped.
func (h *Hooks) checkMounted(m *mount.Memdisk) error {
	p, err := h.inspect()
	if err != nil {
		return err
	}
	if top := p.top(); top == nil || !inMemory(top) || device(top) != m.Device || len(p.mounts) <= h.covered {
		return fmt.Errorf("%s was mounted, but %s shows something else: was a part of the path swapped? "+
			"mount(8) lists where it went", m.Backing, h.Target.Live)
	}
	return nil
}

// undo removes a tree that could not be populated. Memory that was mounted before, and not by a start,
// stays and is emptied.
func (h *Hooks) undo(ctx context.Context, p *place, m mount.Memdisk) error {
	var err error
	if m.Backing == config.BackingDir || p.mounted && !p.ours() {
		err = h.Overlay.Clear(ctx)
	} else {
		err = m.Unmake(ctx, h.Run)
	}
	if err != nil { // the record stays, and the next start clears it
		return err
	}
	return h.forget()
}
