package watcher

import (
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay"
	"cfgd/overlay/tree"
)

// vnodes is a source that has a descriptor open for every directory and every regular file, and a queue
// that tells of changes of what is open, as kqueue(2) does. A directory tells when names come and go in
// it, a file when it is written to.
//
// fsnotify, which serves on Linux, would open all that is in a directory by its path and through symbolic
// links. A jail's root could so make the daemon open the host's devices, and hold files of another jail
// that then cannot be unmounted. Here all is opened through package dirfd. fsnotify also lists a directory
// anew at each name that comes, which costs the square of the names; here what comes costs the look that
// finds it, and each file is opened once.
type vnodes struct {
	*ear
	o     *overlay.Overlay
	queue vnodeQueue
	skip  func(path string) bool
	done  chan struct{}

	mu   sync.Mutex // guards the rest
	open grove[vnode]
	byFD map[int]string
}

// vnodeQueue is the system's queue of events; kqueue(2), or a test's.
type vnodeQueue interface {
	// watch tells of changes of what a descriptor is open on, until that is closed.
	watch(fd int) error
	// wait fills events and returns how many came; 0 says that stop was called.
	wait(events []vnodeEvent) (int, error)
	stop() error
	close() error
}

// vnodeEvent says that something changed in what a descriptor is open on. Gone is that it may no longer be
// what its path names; linked, that a name of it came or went.
type vnodeEvent struct {
	fd           int
	gone, linked bool
}

// vnode is what is open at a path: a directory or a file.
type vnode struct {
	dir  *dirfd.Dir
	file *dirfd.File
	at   dirfd.Stat // when it was opened
}

func (n vnode) isDir() bool { return n.dir != nil }

func (n vnode) fd() int {
	if n.isDir() {
		return n.dir.Fd()
	}
	return n.file.Fd()
}

func (n vnode) stat() (dirfd.Stat, error) {
	if n.isDir() {
		return n.dir.Self()
	}
	return n.file.Stat()
}

func (n vnode) close() {
	if n.isDir() {
		n.dir.Close()
	} else {
		n.file.Close()
	}
}

func newVnodes(o *overlay.Overlay, e *ear, queue vnodeQueue) *vnodes {
	v := &vnodes{ear: e, o: o, queue: queue, skip: unheard(o.Target), done: make(chan struct{}),
		open: grove[vnode]{}, byFD: map[int]string{}}
	go v.pump()
	return v
}

func (v *vnodes) close() error {
	err := v.queue.stop()
	if err == nil {
		<-v.done
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drop("")
	return errors.Join(err, v.queue.close())
}

// pump turns events into marks until it is closed.
func (v *vnodes) pump() {
	defer close(v.done)
	events := make([]vnodeEvent, 64)
	for {
		n, err := v.queue.wait(events)
		if err != nil {
			v.lost()
			return
		}
		if n == 0 {
			return
		}
		for _, e := range events[:n] {
			v.event(e)
		}
	}
}

func (v *vnodes) event(e vnodeEvent) {
	v.mu.Lock()
	path, ok := v.byFD[e.fd]
	n, _ := v.open.get(path)
	dir := n.isDir()
	var below []string
	if ok && (e.gone || !dir && e.linked) {
		below = v.drop(path)
	}
	v.mu.Unlock()
	if !ok || !dir && v.skip(path) {
		return
	}
	v.hear(func(m *marks, now time.Duration) {
		m.add(now, path, pathname.Parent(path))
		if dir {
			m.list(now, path)
		}
		for _, d := range below {
			m.list(now, d)
		}
	})
}

// drop closes what is open at a path and below it, and returns the directories among it.
func (v *vnodes) drop(path string) (dirs []string) {
	v.open.cut(path, func(p string, n vnode) {
		delete(v.byFD, n.fd())
		if n.isDir() {
			dirs = append(dirs, p)
		}
		n.close()
	})
	return dirs
}

// arm needs no renewal: each look tells by the inode what is no longer what its path names.
func (v *vnodes) arm(live *tree.Tree, _ bool) (fresh []string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.prune(live)
	if _, ok := v.open.get(""); !ok {
		root, err := v.o.OpenLive()
		if err != nil {
			return nil, err
		}
		if _, err := v.keep("", vnode{dir: root}); err != nil {
			return nil, err
		}
		fresh = append(fresh, "")
	}
	var missed []string
	for i := range live.Entries {
		e := &live.Entries[i]
		n, err := v.add(e)
		if err != nil {
			return nil, err
		}
		switch {
		case n == vnode{}:
		case n.isDir(): // names may have come before it was watched
			fresh = append(fresh, e.Path)
		case !e.SameSince(n.at): // it was written to before it was watched, or may have been
			missed = append(missed, e.Path)
		}
	}
	v.note(missed)
	return fresh, nil
}

// note marks files of which something may have been missed, as if it were heard now.
func (v *vnodes) note(missed []string) {
	missed = slices.DeleteFunc(missed, v.skip)
	if len(missed) == 0 {
		return
	}
	v.hear(func(m *marks, now time.Duration) {
		for _, p := range missed {
			m.add(now, p, pathname.Parent(p))
		}
	})
}

// prune closes what the tree does not have, or has another of.
func (v *vnodes) prune(live *tree.Tree) {
	v.open.each(func(p string, n vnode) {
		if e, ok := live.Get(p); p != "" && (!ok || n.isDir() != (e.Kind == dirfd.KindDir) ||
			n.at.Ino != e.Ino()) {
			v.drop(p)
		}
	})
}

// add watches a directory or regular file that is not watched yet; the zero vnode says that it did not.
// What has gone or become something else meanwhile is no error: the next look tells. A lack of descriptors
// is one.
func (v *vnodes) add(e *tree.Entry) (n vnode, err error) {
	parent, _ := v.open.get(pathname.Parent(e.Path))
	if _, ok := v.open.get(e.Path); ok || !parent.isDir() {
		return vnode{}, nil
	}
	switch e.Kind {
	case dirfd.KindDir:
		n.dir, err = parent.dir.Dir(nameOf(e.Path))
	case dirfd.KindFile:
		n.file, err = parent.dir.OpenFile(nameOf(e.Path))
	default:
		return vnode{}, nil
	}
	if err == nil {
		n, err = v.keep(e.Path, n)
	}
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
		return vnode{}, &fs.PathError{Op: "watch", Path: e.Path, Err: err}
	}
	return vnode{}, nil
}

// keep watches what was opened for a path and closes it where that cannot be. What another filesystem
// holds is not watched: an open descriptor would keep it mounted, and to watch through nullfs(5) makes
// some kernels panic.
func (v *vnodes) keep(p string, n vnode) (kept vnode, err error) {
	n.at, err = n.stat()
	if root, ok := v.open.get(""); ok && err == nil && n.at.Dev != root.at.Dev {
		err = unix.EXDEV
	}
	if err == nil {
		err = v.queue.watch(n.fd())
	}
	if err == nil {
		n.at, err = n.stat() // once more: what comes from now on is heard
	}
	if err != nil {
		n.close()
		return vnode{}, err
	}
	v.open.put(p, n)
	v.byFD[n.fd()] = p
	return n, nil
}

func nameOf(p string) string {
	if d := pathname.Parent(p); d != "" {
		return p[len(d)+1:]
	}
	return p
}
