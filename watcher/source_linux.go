package watcher

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"cfgd/internal/pathname"
	"cfgd/overlay"
	"cfgd/overlay/tree"
)

// notify is the source made of inotify(7), by fsnotify.
//
// Directories are watched by path, which a hostile jail can turn into a link between the look and the
// watch. All that it wins is that events of another directory mark one of its own dirty: nothing is
// opened or read by these paths.
type notify struct {
	*ear
	root string
	w    *fsnotify.Watcher
	skip func(path string) bool // paths of which nobody wants to hear
	done sync.WaitGroup

	doubt atomic.Bool // events were lost: what is watched is not known

	mu      sync.Mutex      // guards watched
	watched grove[struct{}] // directories, by their path below root
}

func newSource(o *overlay.Overlay, e *ear) (source, error) {
	// The kernel holds what comes faster, fs.inotify.max_queued_events of them; a buffer here is memory
	// for every target.
	w, err := fsnotify.NewBufferedWatcher(64)
	if err != nil {
		return nil, err
	}
	n := &notify{
		ear:     e,
		root:    o.Path(o.Target.Live),
		w:       w,
		skip:    unheard(o.Target),
		watched: grove[struct{}]{},
	}
	n.done.Go(n.pump)
	n.done.Go(n.errors)
	return n, nil
}

func (n *notify) close() error {
	err := n.w.Close()
	n.done.Wait()
	return err
}

// pump turns fsnotify's events into marks until it is closed.
func (n *notify) pump() {
	for ev := range n.w.Events {
		n.event(ev)
	}
}

// errors hears of overflows, mostly: anything may have been missed, directories that came or went too. It
// waits for no lock, for fsnotify may hold its own while it sends an error.
func (n *notify) errors() {
	for range n.w.Errors {
		n.doubt.Store(true)
		n.lost()
	}
}

func (n *notify) event(ev fsnotify.Event) {
	path, ok := n.below(ev.Name)
	if !ok {
		return
	}
	var gone []string
	if ev.Has(fsnotify.Create | fsnotify.Remove | fsnotify.Rename) {
		gone = n.forget(path) // if it is a directory, it is another one now, with others in it
	}
	if len(gone) == 0 && !ev.Has(fsnotify.Create) && n.skip(path) {
		// what is created may be a directory, which counts
		return
	}
	n.hear(func(m *marks, now time.Duration) {
		m.add(now, path, pathname.Parent(path))
		for _, d := range gone {
			m.list(now, d)
		}
	})
}

// below is the path below the root of a name that fsnotify tells.
func (n *notify) below(name string) (string, bool) {
	if name == n.root {
		return "", true
	}
	return strings.CutPrefix(name, strings.TrimSuffix(n.root, "/")+"/")
}

// forget drops the watches of a directory and of all below it, which another may have taken the place of,
// and returns their paths.
func (n *notify) forget(path string) (gone []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.remove(path, func(d string) { gone = append(gone, d) })
	return gone
}

// remove ends the watches of a directory and of all below it, and tells f of each.
func (n *notify) remove(path string, f func(d string)) {
	n.watched.cut(path, func(d string, _ struct{}) {
		_ = n.w.Remove(filepath.Join(n.root, d)) // it may have gone with its directory
		f(d)
	})
}

// arm removes before it adds: a watch belongs to the inode, and one that is left under the old path of a
// moved directory would keep that path.
func (n *notify) arm(live *tree.Tree, anew bool) (fresh []string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	dirs := live.Dirs()
	want := make(map[string]bool, len(dirs))
	for _, d := range dirs {
		want[d] = true
	}
	doubt := n.doubt.Swap(false)
	n.watched.each(func(d string, _ struct{}) {
		if !want[d] || doubt {
			n.remove(d, func(string) {})
		}
	})
	for _, d := range dirs {
		_, old := n.watched.get(d)
		if old && !anew {
			continue
		}
		if err := n.add(d); err != nil {
			return fresh, err
		}
		if _, is := n.watched.get(d); is && !old {
			fresh = append(fresh, d)
		}
	}
	return fresh, nil
}

// add watches a directory that is no link; one that has gone meanwhile is no error.
func (n *notify) add(d string) error {
	full := filepath.Join(n.root, d)
	st, err := os.Lstat(full)
	if err != nil || !st.IsDir() {
		return nil
	}
	err = n.w.Add(full)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil // gone, or not to be looked into, as the scan says
	}
	if err == nil {
		n.watched.put(d, struct{}{})
	}
	return err
}
