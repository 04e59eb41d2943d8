package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"os"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/mount"
	"cfgd/overlay"
)

// Started is the result of Init.
type Started struct {
	AlreadyPopulated bool                // nothing was touched
	Adopted          bool                // something else had populated it with the content of base and cfg
	Population       *overlay.Population // nil if nothing was populated
	Warnings         []string
}

// start is an Init at work.
type start struct {
	*Hooks
	mountOver bool // the new memory is mounted over what is mounted on live
	covered   int  // how many mounts are covered so
}

// make makes the memory filesystem, unless an empty one is mounted.
func (s *start) make(ctx context.Context, p *place) (mount.Memdisk, error) {
	if s.Target.Memory == config.BackingDir {
		return mount.Memdisk{Backing: string(config.BackingDir)}, nil
	}
	live, err := s.Overlay.OpenLive()
	if err != nil {
		return mount.Memdisk{}, fmt.Errorf(
			"%w; a filesystem is mounted on a directory, and on no link: is the jail's root mounted?", err,
		)
	}
	defer live.Close()
	p.backing = s.Target.Memory
	m, err := s.memdisk(p)
	if err != nil || p.mounted && inMemory(p.top()) {
		return m, err
	}
	return s.mount(ctx, live, m)
}

// mount makes a memory filesystem on the open live directory, and checks that it is mounted there.
func (s *start) mount(ctx context.Context, live *dirfd.Dir, m mount.Memdisk) (mount.Memdisk, error) {
	m.Note = func(device string) error { m.Device = device; return s.writeIntent(&m) }
	if err := s.writeIntent(&m); err != nil {
		return m, err
	}
	on := m
	on.Dir = mountPath(s.GOOS, live, m.Dir)
	_, err := on.Make(ctx, s.Run)
	misplaced := false
	if err == nil {
		err = s.checkMounted(&m)
		misplaced = err != nil && on.Dir != m.Dir
	}
	if err != nil {
		if misplaced {
			// The directory was moved, and the filesystem is mounted on it. Its descriptor tells where it
			// is now.
			m.Dir, _ = os.Readlink(on.Dir)
		}
		err = errors.Join(err, s.unmount(context.WithoutCancel(ctx), &m, misplaced))
	}
	return m, err
}

// unmount undoes a mount that went wrong, because the mount may have been done all the same. It uses the
// path only while the memory filesystem is visible there, because umount(8) would follow a link. If it
// fails, the record is kept and the next hook tries again.
func (s *start) unmount(ctx context.Context, m *mount.Memdisk, known bool) error {
	p, err := s.inspect()
	if known || m.Device != "" || p.ours() && len(p.mounts) > s.covered {
		err = m.Unmake(ctx, s.Run)
	}
	if err != nil {
		return err
	}
	return s.forget()
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
func (s *start) checkMounted(m *mount.Memdisk) error {
	p, err := s.inspect()
	if err != nil {
		return err
	}
	if top := p.top(); top == nil || !inMemory(top) || device(top) != m.Device || len(p.mounts) <= s.covered {
		return fmt.Errorf("%s was mounted, but %s shows something else: was a part of the path swapped? "+
			"mount(8) lists where it went", m.Backing, s.Target.Live)
	}
	return nil
}

// undo removes a tree that could not be populated. Memory that was mounted before, and not by a start,
// stays and is emptied.
func (s *start) undo(ctx context.Context, p *place, m mount.Memdisk) error {
	var err error
	if m.Backing == string(config.BackingDir) || p.mounted && !p.ours() {
		err = s.Overlay.Clear(ctx)
	} else {
		err = m.Unmake(ctx, s.Run)
	}
	if err != nil { // the record stays, and the next start clears it
		return err
	}
	return s.forget()
}
