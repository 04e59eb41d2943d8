package watcher

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// source tells which directories of a live tree may have changed. It may be wrong in both directions.
type source interface {
	// arm watches exactly these directories, paths below the live root with "" for the root itself, and returns those that were not watched before.
	arm(dirs []string) (fresh []string, err error)
	// events delivers paths of directories that changed; lost stands for "any of them".
	events() <-chan event
	close() error
}

type event struct {
	dir  string
	lost bool
}

// notify is the source made of fsnotify(7)'s cousins: inotify on Linux, kqueue on FreeBSD.
//
// Directories are watched by path, which a hostile jail can turn into a link between the look and the watch. All that
// it wins is that events of another directory mark one of its own dirty: nothing is read by these paths.
type notify struct {
	root    string
	w       *fsnotify.Watcher
	watched map[string]bool // guarded by the target's goroutine
	out     chan event
	done    chan struct{}
}

func newNotify(root string) (*notify, error) {
	w, err := fsnotify.NewBufferedWatcher(4096)
	if err != nil {
		return nil, err
	}
	n := &notify{root: root, w: w, watched: map[string]bool{}, out: make(chan event, 256), done: make(chan struct{})}
	go n.pump()
	return n, nil
}

func (n *notify) events() <-chan event { return n.out }

// close ends the watching; every descriptor is closed when it returns.
func (n *notify) close() error {
	err := n.w.Close()
	<-n.done
	return err
}

// pump turns fsnotify's events into dirty directories. A full channel is an event lost, and says so later.
func (n *notify) pump() {
	defer close(n.done)
	lost := false
	for {
		var e event
		select {
		case ev, ok := <-n.w.Events:
			if !ok {
				return
			}
			e = event{dir: n.below(filepath.Dir(ev.Name))}
			if ev.Name == n.root {
				e.dir = ""
			}
		case _, ok := <-n.w.Errors: // overflow, or a watch that went: anything may have been missed
			if !ok {
				return
			}
			e.lost = true
		}
		e.lost = e.lost || lost
		select {
		case n.out <- e:
			lost = false
		default:
			lost = true
			n.overflow()
		}
	}
}

// overflow replaces the oldest event by one that says that some were lost.
func (n *notify) overflow() {
	select {
	case <-n.out:
	default:
	}
	select {
	case n.out <- event{lost: true}:
	default:
	}
}

func (n *notify) below(full string) string {
	rel := strings.TrimPrefix(strings.TrimPrefix(full, n.root), "/")
	return rel
}

func (n *notify) arm(dirs []string) ([]string, error) {
	want := make(map[string]bool, len(dirs))
	var fresh []string
	for _, d := range dirs {
		want[d] = true
		if n.watched[d] {
			continue
		}
		if err := n.add(d); err != nil {
			return fresh, err
		}
		if n.watched[d] {
			fresh = append(fresh, d)
		}
	}
	for d := range n.watched {
		if !want[d] {
			_ = n.w.Remove(filepath.Join(n.root, d)) // it may have gone with its directory
			delete(n.watched, d)
		}
	}
	return fresh, nil
}

// add watches a directory that is no link; one that has gone meanwhile is no error.
func (n *notify) add(d string) error {
	full := filepath.Join(n.root, d)
	st, err := os.Lstat(full)
	if err != nil || !st.IsDir() && d != "" {
		return nil
	}
	err = n.w.Add(full)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		n.watched[d] = true
	}
	return err
}
