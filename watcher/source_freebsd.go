package watcher

import (
	"errors"

	"golang.org/x/sys/unix"

	"cfgd/overlay"
	"cfgd/overlay/tree"
)

// kqueue is a vnodeQueue made of kqueue(2).
type kqueue struct {
	fd  int
	buf []unix.Kevent_t // used by wait
}

func newSource(o *overlay.Overlay, e *collector) (source, error) {
	fd, err := unix.Kqueue()
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(fd)
	q := &kqueue{fd: fd}
	if err := q.change(0, unix.EVFILT_USER, unix.EV_ADD|unix.EV_CLEAR, 0); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return newVnodes(o, e, q), nil
}

func (q *kqueue) change(ident, filter, flags int, notes uint32) error {
	var k unix.Kevent_t
	unix.SetKevent(&k, ident, filter, flags)
	k.Fflags = notes
	_, err := unix.Kevent(q.fd, []unix.Kevent_t{k}, nil, nil)
	return err
}

const (
	// goneNotes are the events after which the vnode is no longer what its path names, or may not be.
	goneNotes = unix.NOTE_DELETE | unix.NOTE_RENAME | unix.NOTE_REVOKE
	allNotes  = goneNotes | unix.NOTE_WRITE | unix.NOTE_EXTEND | unix.NOTE_ATTRIB | unix.NOTE_LINK
)

// watch needs no counterpart: kqueue(2) forgets a descriptor that is closed.
func (q *kqueue) watch(fd int) error {
	return q.change(fd, unix.EVFILT_VNODE, unix.EV_ADD|unix.EV_CLEAR, allNotes)
}

func (q *kqueue) wait(events []vnodeEvent) (int, error) {
	if len(q.buf) != len(events) {
		q.buf = make([]unix.Kevent_t, len(events))
	}
	n, err := unix.Kevent(q.fd, nil, q.buf, nil)
	for err == unix.EINTR {
		n, err = unix.Kevent(q.fd, nil, q.buf, nil)
	}
	if err != nil {
		return 0, err
	}
	for i, k := range q.buf[:n] {
		if k.Filter == unix.EVFILT_USER {
			return 0, nil
		}
		events[i] = vnodeEvent{
			fd:     int(k.Ident),
			gone:   k.Fflags&goneNotes != 0,
			linked: k.Fflags&unix.NOTE_LINK != 0,
		}
	}
	return n, nil
}

func (q *kqueue) stop() error  { return q.change(0, unix.EVFILT_USER, 0, unix.NOTE_TRIGGER) }
func (q *kqueue) close() error { return unix.Close(q.fd) }

// events is the name in status of the system's events: kqueue(2).
const events = "kqueue"

var errTooMany = errors.New("kqueue takes a descriptor for each file, and the daemon may open too few for " +
	"all targets " +
	"(sysctl kern.maxfilesperproc)")

// capacity returns how many descriptors kqueue(2) watches may take: half of what the process may open.
func capacity() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	return int(min(r.Cur, 1<<30)) / 2
}

// watchCost returns how much of the capacity a watched tree takes: kqueue holds one descriptor for each
// file.
func watchCost(t *tree.Tree) int { return len(t.Entries) + 64 }
