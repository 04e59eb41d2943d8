package store

import (
	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Planner says what a plan is computed of. It walks all paths of base, live and cfg, in order.
type Planner struct {
	Base, Saved, Live, Plain *tree.Tree
	Old                      *Manifest
	Class                    func(path string) config.Class // nil means persist
	Only                     func(path string) bool         // paths that this save is about; nil means all
	// paths that changed during the scan or the last copy
	Exclude map[string]bool
	AsItIs  map[string]bool // paths to save as one read finds them, even if they change meanwhile
	MaxFile int64           // the largest file of AsItIs, in bytes; 0 means no bound
	Force   bool
	Times   bool
	// BeforeEdit returns what live had of a path of HandEdits before somebody changed it in cfg, nil for
	// nothing. It returns false if that is not known.
	BeforeEdit func(path string) (*tree.Entry, bool)
}

// decisions are what a save does with each path.
type decisions struct {
	Planner
	plan        *Plan
	xattrs      bool
	want        map[string]*tree.Entry // what cfg will hold, by path: entries of live or of plain
	unchanged   map[string]bool        // paths for which the store keeps what it has, whatever live has
	removed     []tree.Removal
	lastRemoved string // the last removal; it covers what is below it
	covered     bool
}

// decide decides about all paths of base, the saved tree and live.
func (w Planner) decide() *decisions {
	if w.Only == nil {
		w.Only = OnlyBelow(nil)
	}
	if w.Class == nil {
		w.Class = func(string) config.Class { return config.Persist }
	}
	d := &decisions{
		Planner:   w,
		plan:      &Plan{asItIs: w.AsItIs, maxFile: w.MaxFile},
		xattrs:    !w.Base.NoXattrs && !w.Live.NoXattrs,
		want:      map[string]*tree.Entry{},
		unchanged: map[string]bool{},
	}
	walkThree(w.Base, w.Saved, w.Live, d.path)
	return d
}

// walkThree calls f for each path of any of the three trees, in order.
func walkThree(base, saved, live *tree.Tree, f func(path string, base, saved, live *tree.Entry)) {
	i, j, k := 0, 0, 0
	for {
		path, some := "", false
		for _, e := range []*tree.Entry{entryAt(base, i), entryAt(saved, j), entryAt(live, k)} {
			if e != nil && (!some || pathname.Compare(e.Path, path) < 0) {
				path, some = e.Path, true
			}
		}
		if !some {
			return
		}
		b, s := entryFor(entryAt(base, i), path), entryFor(entryAt(saved, j), path)
		l := entryFor(entryAt(live, k), path)
		f(path, b, s, l)
		i, j, k = i+stepOf(b), j+stepOf(s), k+stepOf(l)
	}
}

func entryAt(t *tree.Tree, i int) *tree.Entry {
	if i < len(t.Entries) {
		return &t.Entries[i]
	}
	return nil
}

func entryFor(e *tree.Entry, path string) *tree.Entry {
	if e != nil && e.Path == path {
		return e
	}
	return nil
}

func stepOf(e *tree.Entry) int {
	if e == nil {
		return 0
	}
	return 1
}

// path decides about one path: keep what the store has, or follow live.
func (w *decisions) path(path string, base, saved, live *tree.Entry) {
	if base != nil && base.Kind.Special() {
		if saved == nil && live != nil && live.Kind == base.Kind {
			return // a default that something else made
		}
		base = nil // cfgd does not make it, so it is no default that live could lack
	}
	if w.untouched(path, base, saved, live) {
		return // true of most paths; their class is not even looked up
	}
	if why, class := w.unsaved(path, saved, live); why != "" {
		w.unchanged[path] = true
		w.keep(path, base, live)
		if class != "" {
			w.plan.Kept = append(w.plan.Kept, Kept{path, class, why})
		}
		return
	}
	if c, ok := Compare(saved, live, w.xattrs); ok {
		w.plan.Changes = append(w.plan.Changes, c)
	} else if o, ok := w.Plain.Get(path); ok && live != nil && live.Kind != dirfd.KindDir &&
		o.MTime != live.MTime {
		w.plan.Times = append(w.plan.Times, path)
	}
	switch {
	case live == nil:
		if base != nil {
			w.remove(path, base)
		}
	case base == nil, !Same(base, live, w.xattrs), w.Old.Pinned(path):
		w.want[path] = live
	}
}

// untouched reports whether a path that is not a directory is the same everywhere as in base, and cfg has no
// record of it.
func (w *decisions) untouched(path string, base, saved, live *tree.Entry) bool {
	if base == nil || saved == nil || live == nil || live.Kind == dirfd.KindDir ||
		!Same(base, live, w.xattrs) ||
		!Same(base, saved, w.xattrs) {
		return false
	}
	return !w.Plain.Has(path) && !w.Old.Pinned(path) && !w.Old.HandEdited(path)
}

// unsaved says why a save leaves a path alone, "" if it does not. The class is "" if there is nothing to
// report.
func (w *decisions) unsaved(path string, saved, live *tree.Entry) (tree.Reason, config.Class) {
	switch class := w.Class(path); {
	case class == config.Volatile || class == config.Ignore:
		return tree.Reason(class), ""
	case !w.Only(path):
		return "not asked for", ""
	case w.Live.WhySkipped(path) != "":
		if live != nil && live.Unread == "" {
			return w.Live.WhySkipped(path), config.Report
		}
		return w.Live.WhySkipped(path), class
	case !Differ(saved, live, w.xattrs):
		return "", ""
	case class == config.Report:
		return tree.ByClass, config.Report
	case live != nil && live.Kind.Special():
		return tree.Reason("a " + live.Kind.String() + " cannot be saved"), config.Report
	case w.Exclude[path]:
		return tree.MovedOn, ""
	case live != nil && live.Unread == tree.TooLarge:
		return live.Unread, config.Report
	case live != nil && live.Unread != "":
		return live.Unread, class
	case w.Old.HandEdited(path) && !w.Force:
		if was, known := w.BeforeEdit(path); known && !Differ(was, live, w.xattrs) {
			w.plan.Pending = append(w.plan.Pending, path)
			return "changed in cfg by hand, and not in live", ""
		}
		w.plan.Conflicts = append(w.plan.Conflicts, path)
		return "changed in cfg by hand as well", ""
	}
	return "", ""
}

// Unlisted lists the paths of a scan of live that are not wholly saved, because some attributes could not be
// read. Attributes that are too large are left out by design, as a file larger than max_file is.
func (w Planner) Unlisted(live *tree.Tree) (kept []Kept) {
	for i := range live.Entries {
		e := &live.Entries[i]
		class := config.Class("")
		if e.Unlisted != "" && w.Only(e.Path) {
			class = w.Class(e.Path)
		}
		if class != "" && class != config.Volatile && class != config.Ignore {
			if e.Excess {
				class = config.Report
			}
			kept = append(kept, Kept{e.Path, class, tree.Reason(e.Unlisted)})
		}
	}
	return kept
}

// keep carries over what the store has of a path, if live still has a directory for it.
func (w *decisions) keep(path string, base, live *tree.Entry) {
	if r, ok := w.Old.Removal(path); ok {
		w.removed = append(w.removed, *r)
		return
	}
	if e, ok := w.Plain.Get(path); ok &&
		(e.Kind != dirfd.KindDir || base == nil || !e.SameMeta(base, w.xattrs)) {
		w.want[path] = e
	}
}

// remove records a removal, unless the removal of a directory above covers it.
func (w *decisions) remove(path string, base *tree.Entry) {
	if w.covered && pathname.Within(path, w.lastRemoved) {
		return
	}
	r := tree.Removal{Path: path, Default: base}
	if old, ok := w.Old.Removal(path); ok {
		r = *old
		if r.Default == nil {
			r.Default = base
		}
	}
	if p, ok := w.Live.Get(pathname.Parent(path)); ok {
		r.MTime = p.MTime
	} else if pathname.Parent(path) == "" {
		r.MTime = w.Live.Root.MTime
	}
	w.removed = append(w.removed, r)
	if base.Kind == dirfd.KindDir {
		w.lastRemoved, w.covered = path, true
	}
}
