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

// vnodes is a source that keeps a descriptor open for every directory and every regular file, and reads a
// queue of changes to what is open, such as kqueue(2). A directory reports names that come and go in it;
// a file reports writes.
//
// On FreeBSD fsnotify is not used, because it would open everything in a directory by path and through
// symbolic links. A jail's root could use that to make the daemon open the host's devices, or hold files
// of another jail open so that they cannot be unmounted. Here package dirfd opens everything. fsnotify
// also lists a directory again for each new name, which costs the square of the number of names. Here a
// new name costs the scan that finds it, and each file is opened once.
type vnodes struct {
	*collector
	o     *overlay.Overlay
	queue vnodeQueue
	skip  func(path string) bool
	done  chan struct{}

	mu   sync.Mutex // guards the rest
	open pathMap[vnode]
	byFD map[int]string
}

// vnodeQueue is the system's queue of events: kqueue(2), or a test's.
type vnodeQueue interface {
	// watch reports changes to what a descriptor is open on, until the descriptor is closed.
	watch(fd int) error
	// wait fills events and returns how many came. 0 means that stop was called.
	wait(events []vnodeEvent) (int, error)
	stop() error
	close() error
}

// vnodeEvent is a change to what a descriptor is open on. gone means that it may no longer be what its
// path names; linked means that a name of it came or went.
type vnodeEvent struct {
	fd           int
	gone, linked bool
}

// vnode is the open directory or file at a path.
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

func newVnodes(o *overlay.Overlay, e *collector, queue vnodeQueue) *vnodes {
	v := &vnodes{collector: e, o: o, queue: queue, skip: skipped(o.Target), done: make(chan struct{}),
		open: pathMap[vnode]{}, byFD: map[int]string{}}
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

// pump records events until the source is closed.
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
	v.update(func(m *dirtySet, now time.Duration) {
		m.add(now, path, pathname.Parent(path))
		if dir {
			m.markDir(now, path)
		}
		for _, d := range below {
			m.markDir(now, d)
		}
	})
}

// drop closes what is open at a path and below it, and returns the directories among it.
func (v *vnodes) drop(path string) (dirs []string) {
	v.open.removeBelow(path, func(p string, n vnode) {
		delete(v.byFD, n.fd())
		if n.isDir() {
			dirs = append(dirs, p)
		}
		n.close()
	})
	return dirs
}

// arm needs no renewal: each scan sees by the inode what is no longer what its path names.
func (v *vnodes) arm(live *tree.Tree, _ bool) (fresh []string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.prune(live)
	if _, ok := v.open.get(""); !ok {
		root, err := v.o.OpenLive()
		if err != nil {
			return nil, err
		}
		if _, err := v.register("", vnode{dir: root}); err != nil {
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
		case n.isDir(): // names may have been added before it was watched
			fresh = append(fresh, e.Path)
		case !e.SameSince(n.at): // it may have been written to before it was watched
			missed = append(missed, e.Path)
		}
	}
	v.note(missed)
	return fresh, nil
}

// note marks files as changed now, because an event of them may have been missed.
func (v *vnodes) note(missed []string) {
	missed = slices.DeleteFunc(missed, v.skip)
	if len(missed) == 0 {
		return
	}
	v.update(func(m *dirtySet, now time.Duration) {
		for _, p := range missed {
			m.add(now, p, pathname.Parent(p))
		}
	})
}

// prune closes what the tree no longer has, or has a different file of.
func (v *vnodes) prune(live *tree.Tree) {
	v.open.each(func(p string, n vnode) {
		if e, ok := live.Get(p); p != "" && (!ok || n.isDir() != (e.Kind == dirfd.KindDir) ||
			n.at.Ino != e.Ino()) {
			v.drop(p)
		}
	})
}

// add watches a directory or regular file that is not watched yet. It returns the zero vnode if it did
// not. If the file is gone or has become something else, that is no error: the next scan reports it. A
// lack of descriptors is an error.
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
		n, err = v.register(e.Path, n)
	}
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
		return vnode{}, &fs.PathError{Op: "watch", Path: e.Path, Err: err}
	}
	return vnode{}, nil
}

// register watches what was opened for a path, or closes it if that is not possible. Files on another
// filesystem are not watched: an open descriptor would keep that filesystem mounted, and watching through
// nullfs(5) makes some kernels panic.
func (v *vnodes) register(p string, n vnode) (kept vnode, err error) {
	n.at, err = n.stat()
	if root, ok := v.open.get(""); ok && err == nil && n.at.Dev != root.at.Dev {
		err = unix.EXDEV
	}
	if err == nil {
		err = v.queue.watch(n.fd())
	}
	if err == nil {
		n.at, err = n.stat() // once more: from now on changes are reported
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
