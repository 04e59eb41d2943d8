package watcher

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"cfgd/internal/pathname"
	"cfgd/overlay"
	"cfgd/overlay/tree"
)

// notify is the source that reads inotify(7) through fsnotify.
//
// Directories are watched by path, which a hostile jail can turn into a link between the scan and the
// watch. The jail gains nothing by it: events of another directory mark one of its own as dirty, and
// nothing is opened or read by these paths.
type notify struct {
	*collector
	root string
	w    *fsnotify.Watcher
	skip func(path string) bool // paths whose events are ignored
	done sync.WaitGroup

	doubt atomic.Bool // events were lost: what is watched is not known

	mu      sync.Mutex        // guards watched
	watched pathMap[struct{}] // directories, by their path below root
}

func newSource(o *overlay.Overlay, e *collector) (source, error) {
	// The kernel queues up to fs.inotify.max_queued_events events. A larger buffer here would cost memory
	// for every target.
	w, err := fsnotify.NewBufferedWatcher(64)
	if err != nil {
		return nil, err
	}
	n := &notify{
		collector: e,
		root:      o.Path(o.Target.Live),
		w:         w,
		skip:      skipped(o.Target),
		watched:   pathMap[struct{}]{},
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

// pump records fsnotify's events until the watcher is closed.
func (n *notify) pump() {
	for ev := range n.w.Events {
		n.event(ev)
	}
}

// errors handles fsnotify's errors, mostly overflows: any event may be lost, also of directories that
// came or went. It takes no lock, because fsnotify may hold its own while it sends an error.
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
	n.update(func(m *dirtySet, now time.Duration) {
		m.add(now, path, pathname.Parent(path))
		for _, d := range gone {
			m.markDir(now, d)
		}
	})
}

// below returns the path below the root of a name from fsnotify.
func (n *notify) below(name string) (string, bool) {
	if name == n.root {
		return "", true
	}
	return strings.CutPrefix(name, strings.TrimSuffix(n.root, "/")+"/")
}

// forget removes the watches of a directory and of all below it, because another directory may have taken
// its place. It returns their paths.
func (n *notify) forget(path string) (gone []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.remove(path, func(d string) { gone = append(gone, d) })
	return gone
}

// remove removes the watches of a directory and of all below it, and calls f for each.
func (n *notify) remove(path string, f func(d string)) {
	n.watched.removeBelow(path, func(d string, _ struct{}) {
		_ = n.w.Remove(filepath.Join(n.root, d)) // it may have gone with its directory
		f(d)
	})
}

// arm removes before it adds. A watch belongs to the inode: if a moved directory kept the watch of its
// old path, its events would have that path.
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

// add watches a directory, but not a link. A directory that has gone meanwhile is no error.
func (n *notify) add(d string) error {
	full := filepath.Join(n.root, d)
	st, err := os.Lstat(full)
	if err != nil || !st.IsDir() {
		return nil
	}
	err = n.w.Add(full)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil // it is gone, or not readable; the scan reports that
	}
	if err == nil {
		n.watched.put(d, struct{}{})
	}
	return err
}

// events is the name in status of the system's events: inotify(7), which package fsnotify reads.
const events = "fsnotify"

var errTooMany = errors.New("the system allows too few inotify watches for all targets " +
	"(sysctl fs.inotify.max_user_watches)")

// capacity returns how many inotify(7) watches cfgd allows itself: three quarters of what a user may
// have. Other programs of root share them.
func capacity() int {
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_user_watches")
	if err != nil {
		return 8192
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 8192
	}
	return n / 4 * 3
}

// watchCost returns how much of the capacity a watched tree takes: one watch for each directory, and some
// for directories to come.
func watchCost(t *tree.Tree) int { return len(t.Dirs()) + 16 }
