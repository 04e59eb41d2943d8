package watcher

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cfgd/internal/dirfd"
	"cfgd/overlay"
)

// vnodes is the source made of kqueue(2): a descriptor for every directory and every regular file.
//
// fsnotify, which serves on Linux, would open all that is in a directory by its path and through symbolic links. A jail's
// root could so make the daemon open the host's devices, and hold files of another jail that then cannot be unmounted. Here
// all is opened through package dirfd. A directory tells when names come and go in it, a file when it is written to.
type vnodes struct {
	*ear
	o    *overlay.Overlay
	kq   int
	skip func(path string) bool
	done chan struct{}

	mu   sync.Mutex // guards the rest
	dirs map[string]*dirfd.Dir
	file map[string]*dirfd.File
	byFD map[int]string
}

func newSource(o *overlay.Overlay, e *ear) (source, error) {
	kq, err := unix.Kqueue()
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(kq)
	v := &vnodes{ear: e, o: o, kq: kq, skip: unheard(o.Target), done: make(chan struct{}),
		dirs: map[string]*dirfd.Dir{}, file: map[string]*dirfd.File{}, byFD: map[int]string{}}
	if err := v.change(0, unix.EVFILT_USER, unix.EV_ADD|unix.EV_CLEAR, 0); err != nil {
		unix.Close(kq)
		return nil, err
	}
	go v.pump()
	return v, nil
}

func (v *vnodes) change(ident, filter, flags int, notes uint32) error {
	var k unix.Kevent_t
	unix.SetKevent(&k, ident, filter, flags)
	k.Fflags = notes
	_, err := unix.Kevent(v.kq, []unix.Kevent_t{k}, nil, nil)
	return err
}

func (v *vnodes) close() error {
	err := v.change(0, unix.EVFILT_USER, 0, unix.NOTE_TRIGGER)
	if err == nil {
		<-v.done
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drop("")
	return errors.Join(err, unix.Close(v.kq))
}

// pump turns events into marks until it is closed.
func (v *vnodes) pump() {
	defer close(v.done)
	buf := make([]unix.Kevent_t, 64)
	for {
		n, err := unix.Kevent(v.kq, nil, buf, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			v.lost()
			return
		}
		for _, k := range buf[:n] {
			if k.Filter == unix.EVFILT_USER {
				return
			}
			v.event(int(k.Ident), k.Fflags)
		}
	}
}

// gone are the notes of a vnode that no longer is what its path names, or may not be.
const gone = unix.NOTE_DELETE | unix.NOTE_RENAME | unix.NOTE_REVOKE

func (v *vnodes) event(fd int, notes uint32) {
	v.mu.Lock()
	path, ok := v.byFD[fd]
	dir := v.dirs[path] != nil
	var below []string
	if ok && (notes&gone != 0 || !dir && notes&unix.NOTE_LINK != 0) {
		below = v.drop(path)
	}
	v.mu.Unlock()
	if !ok || !dir && v.skip(path) {
		return
	}
	v.hear(func(m *marks, now time.Duration) {
		m.add(now, path, dirOf(path))
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
	if f := v.file[path]; f != nil {
		delete(v.byFD, f.Fd())
		delete(v.file, path)
		f.Close()
		return nil
	}
	maps.DeleteFunc(v.byFD, func(_ int, p string) bool { return within(p, path) })
	for p, f := range v.file {
		if within(p, path) {
			f.Close()
			delete(v.file, p)
		}
	}
	for p, d := range v.dirs {
		if within(p, path) {
			dirs = append(dirs, p)
			d.Close()
			delete(v.dirs, p)
		}
	}
	return dirs
}

func (v *vnodes) arm(live *overlay.Tree, anew bool) ([]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.prune(live, anew)
	fresh := map[string]bool{}
	if v.dirs[""] == nil {
		root, err := v.o.OpenLive()
		if err != nil {
			return nil, err
		}
		if err := v.keepDir("", root); err != nil {
			return nil, err
		}
		fresh[""] = true
	}
	for i := range live.Entries {
		e := &live.Entries[i]
		added, err := v.add(e.Path, e.Kind)
		if err != nil {
			return nil, err
		}
		if added { // what was written to a file before it was watched is found in its directory
			fresh[dirOf(e.Path)] = true
			fresh[e.Path] = fresh[e.Path] || e.Kind == dirfd.KindDir
		}
	}
	maps.DeleteFunc(fresh, func(_ string, is bool) bool { return !is })
	return slices.Collect(maps.Keys(fresh)), nil
}

// prune closes what the tree does not have, and with anew what is no longer what its path names.
func (v *vnodes) prune(live *overlay.Tree, anew bool) {
	for _, p := range slices.Sorted(maps.Values(v.byFD)) { // a directory before what is in it
		e, ok := live.Get(p)
		isDir := v.dirs[p] != nil
		switch {
		case p == "":
		case !ok, isDir != (e.Kind == dirfd.KindDir), anew && !v.current(p):
			v.drop(p)
		}
	}
}

// current reports whether a path still names what is open for it.
func (v *vnodes) current(p string) bool {
	parent := v.dirs[dirOf(p)]
	if parent == nil {
		return false
	}
	st, err := parent.Stat(nameOf(p))
	if err != nil {
		return false
	}
	var own dirfd.Stat
	if d := v.dirs[p]; d != nil {
		own, err = d.Self()
	} else if f := v.file[p]; f != nil {
		own, err = f.Stat()
	}
	return err == nil && own.Dev == st.Dev && own.Ino == st.Ino
}

// add watches a directory or regular file that is not watched yet. What has gone or become something else meanwhile is no
// error: the next look tells. A lack of descriptors is one.
func (v *vnodes) add(p string, kind dirfd.Kind) (bool, error) {
	parent := v.dirs[dirOf(p)]
	if parent == nil || v.dirs[p] != nil || v.file[p] != nil {
		return false, nil
	}
	var err error
	switch kind {
	case dirfd.KindDir:
		var d *dirfd.Dir
		if d, err = parent.Dir(nameOf(p)); err == nil {
			err = v.keepDir(p, d)
		}
	case dirfd.KindFile:
		var f *dirfd.File
		if f, err = parent.OpenFile(nameOf(p)); err == nil {
			err = v.keepFile(p, f)
		}
	default:
		return false, nil
	}
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) {
		return false, &fs.PathError{Op: "watch", Path: p, Err: err}
	}
	return err == nil, nil
}

const notes = unix.NOTE_DELETE | unix.NOTE_WRITE | unix.NOTE_EXTEND | unix.NOTE_ATTRIB | unix.NOTE_LINK | unix.NOTE_RENAME | unix.NOTE_REVOKE

func (v *vnodes) keepDir(p string, d *dirfd.Dir) error {
	if err := v.change(d.Fd(), unix.EVFILT_VNODE, unix.EV_ADD|unix.EV_CLEAR, notes); err != nil {
		d.Close()
		return err
	}
	v.dirs[p], v.byFD[d.Fd()] = d, p
	return nil
}

func (v *vnodes) keepFile(p string, f *dirfd.File) error {
	if err := v.change(f.Fd(), unix.EVFILT_VNODE, unix.EV_ADD|unix.EV_CLEAR, notes); err != nil {
		f.Close()
		return err
	}
	v.file[p], v.byFD[f.Fd()] = f, p
	return nil
}

func nameOf(p string) string {
	if d := dirOf(p); d != "" {
		return p[len(d)+1:]
	}
	return p
}
