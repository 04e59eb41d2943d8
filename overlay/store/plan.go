package store

import (
	"slices"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Plan says what a save would do. It is a value, computed without side effects.
type Plan struct {
	Changes []tree.Change // what becomes saved: the difference between live and the saved tree
	Drops   []string      // overrides that go, because they were released or deleted in live
	Times   []string      // overrides of which only the time changed

	Next *Manifest

	Puts  []tree.Entry // entries of live to copy into cfg
	old   []string
	Steps []Step // all but puts, whose steps are known when they are staged: see assemble
}

// Empty reports whether there is nothing to save. Times alone count only if the save asked for them.
func (p *Plan) Empty() bool {
	return len(p.Changes) == 0 && len(p.Drops) == 0 && len(p.Puts) == 0
}

// Kept is a path that a save leaves as it is, with the reason.
type Kept struct {
	Path string
	// report if the class or a size leaves the path out; the path's own class if it could not be read
	Class  config.Class
	Reason tree.Reason
}

// Planner computes a plan. It walks all paths of base, live and cfg, in order.
type Planner struct {
	Base, Saved, Live, Plain *tree.Tree
	Old                      *Manifest
	Class                    func(path string) config.Class
	Only                     func(path string) bool // paths that this save is about
	Exclude                  map[string]bool        // paths that changed during the scan or the last copy
	Force                    bool
	Times                    bool
	// Taken returns what live had of a held path before somebody changed cfg by hand, nil for nothing. It
	// returns false if that is not known.
	Taken func(path string) (*tree.Entry, bool)

	plan        *Plan
	Kept        []Kept
	Conflict    []string
	Pending     []string // paths changed in cfg alone, by hand
	xattrs      bool
	want        map[string]*tree.Entry // what cfg will hold, by path: entries of live or of plain
	unchanged   map[string]bool        // paths for which the store keeps what it has, whatever live has
	removed     []tree.Removal
	lastRemoved string // the last removal; it covers what is below it
	covered     bool
}

// Plan computes what a save does.
func (w *Planner) Plan() *Plan {
	w.plan = &Plan{}
	w.want, w.unchanged = map[string]*tree.Entry{}, map[string]bool{}
	w.xattrs = !w.Base.NoXattrs && !w.Live.NoXattrs
	walkThree(w.Base, w.Saved, w.Live, w.path)
	w.finish(w.Saved)
	return w.plan
}

// walkThree calls f for each path of any of the three trees, in order.
func walkThree(base, saved, live *tree.Tree, f func(path string, base, saved, live *tree.Entry)) {
	i, j, k := 0, 0, 0
	for {
		path, some := "", false
		for _, e := range []*tree.Entry{at(base, i), at(saved, j), at(live, k)} {
			if e != nil && (!some || pathname.Compare(e.Path, path) < 0) {
				path, some = e.Path, true
			}
		}
		if !some {
			return
		}
		b, s, l := match(at(base, i), path), match(at(saved, j), path), match(at(live, k), path)
		f(path, b, s, l)
		i, j, k = i+one(b), j+one(s), k+one(l)
	}
}

func at(t *tree.Tree, i int) *tree.Entry {
	if i < len(t.Entries) {
		return &t.Entries[i]
	}
	return nil
}

func match(e *tree.Entry, path string) *tree.Entry {
	if e != nil && e.Path == path {
		return e
	}
	return nil
}

func one(e *tree.Entry) int {
	if e == nil {
		return 0
	}
	return 1
}

// path decides about one path: keep what the store has, or follow live.
func (w *Planner) path(path string, base, saved, live *tree.Entry) {
	if base != nil && base.Kind.Special() {
		base = nil
	}
	if w.untouched(path, base, saved, live) {
		return // true of most paths; their class is not even looked up
	}
	if why, class := w.unsaved(path, saved, live); why != "" {
		w.unchanged[path] = true
		w.keep(path, base, live)
		if class != "" {
			w.Kept = append(w.Kept, Kept{path, class, why})
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
func (w *Planner) untouched(path string, base, saved, live *tree.Entry) bool {
	if base == nil || saved == nil || live == nil || live.Kind == dirfd.KindDir ||
		!Same(base, live, w.xattrs) ||
		!Same(base, saved, w.xattrs) {
		return false
	}
	return !w.Plain.Has(path) && !w.Old.Pinned(path) && !w.Old.Holds(path)
}

// Compare is tree.CompareEntries for entries that may both be nil.
func Compare(a, b *tree.Entry, xattrs bool) (tree.Change, bool) {
	if a == nil && b == nil {
		return tree.Change{}, false
	}
	return tree.CompareEntries(a, b, xattrs)
}

// Differ reports whether two entries differ. Either or both may be nil.
func Differ(a, b *tree.Entry, xattrs bool) bool {
	_, d := Compare(a, b, xattrs)
	return d
}

// Same reports whether content and metadata are equal.
func Same(a, b *tree.Entry, xattrs bool) bool { return a.SameContent(b) && a.SameMeta(b, xattrs) }

// unsaved says why a save leaves a path alone, "" if it does not. The class is "" if there is nothing to
// report.
func (w *Planner) unsaved(path string, saved, live *tree.Entry) (tree.Reason, config.Class) {
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
		return "class report", config.Report
	case live != nil && live.Kind.Special():
		return tree.Reason("a " + live.Kind.String() + " cannot be saved"), config.Report
	case w.Exclude[path]:
		return tree.MovedOn, ""
	case live != nil && live.Unread == tree.TooLarge:
		return live.Unread, config.Report
	case live != nil && live.Unread != "":
		return live.Unread, class
	case w.Old.Holds(path) && !w.Force:
		if was, known := w.Taken(path); known && !Differ(was, live, w.xattrs) {
			w.Pending = append(w.Pending, path)
			return "changed in cfg by hand, and not in live", ""
		}
		w.Conflict = append(w.Conflict, path)
		return "changed in cfg by hand as well", ""
	}
	return "", ""
}

// KeepUnlisted lists the paths that are not wholly saved, because some attributes could not be read.
// Attributes that are too large are left out by design, as a file larger than max_file is.
func (w *Planner) KeepUnlisted(live *tree.Tree) {
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
			w.Kept = append(w.Kept, Kept{e.Path, class, tree.Reason(e.Unlisted)})
		}
	}
}

// keep carries over what the store has of a path, if live still has a directory for it.
func (w *Planner) keep(path string, base, live *tree.Entry) {
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
func (w *Planner) remove(path string, base *tree.Entry) {
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

// finish turns what cfg will hold into a manifest and steps.
func (w *Planner) finish(saved *tree.Tree) {
	w.consistent()
	w.around()
	w.manifest()
	w.dropSteps()
	w.putSteps()
	w.heldSteps(saved)
	if len(w.plan.Changes) > 0 || w.Times && len(w.plan.Times) > 0 {
		w.timeSteps()
	} else {
		w.plan.Times = nil
	}
}

// consistent drops what cannot be: paths below a removal, or below something that is not a directory.
func (w *Planner) consistent() {
	for path := range w.want {
		for p := pathname.Parent(path); p != ""; p = pathname.Parent(p) {
			up, kept := w.want[p]
			if kept && up.Kind != dirfd.KindDir || !kept && !w.dirInLive(p) {
				delete(w.want, path)
				break
			}
		}
	}
	w.removed = slices.DeleteFunc(w.removed, func(r tree.Removal) bool { _, ok := w.want[r.Path]; return ok })
	w.removed = tree.CompactRemovals(w.removed)
	w.removed = slices.DeleteFunc(w.removed, func(r tree.Removal) bool {
		for p := pathname.Parent(r.Path); p != ""; p = pathname.Parent(p) {
			if e, ok := w.want[p]; ok && e.Kind != dirfd.KindDir {
				return true
			}
		}
		return false
	})
}

// around adds the directories that base does not have in the same form and that the wanted paths need. The
// plain tree has to hold them, and the manifest lists all that the plain tree holds.
func (w *Planner) around() {
	for path, d := range w.needed() {
		b, ok := w.Base.Get(path)
		if w.want[path] == nil && (!ok || b.Kind != dirfd.KindDir || !b.SameMeta(d, w.xattrs)) {
			w.want[path] = d
		}
	}
}

func (w *Planner) dirInLive(p string) bool {
	e, ok := w.Live.Get(p)
	if ok {
		return e.Kind == dirfd.KindDir
	}
	// Not in live. What is kept below it needs the directory that base or cfg has there.
	b, inBase := w.Base.Get(p)
	_, inCfg := w.Plain.Get(p)
	return (inBase && b.Kind == dirfd.KindDir || inCfg) && (!w.Only(p) || w.Exclude[p])
}

// manifest makes the manifest of the new generation.
func (w *Planner) manifest() {
	m := &Manifest{
		Pins:       w.Old.Pins,
		Held:       w.Old.Held,
		Conflicts:  w.Old.Conflicts,
		Merges:     w.Old.Merges,
		Generation: w.Old.Generation + 1,
	}
	for path, e := range w.want {
		o := Override{Entry: *e}
		o.ClearStamp()
		if was, ok := w.Old.Override(path); ok && was.Default != nil {
			o.Default = was.Default
		} else if b, ok := w.Base.Get(path); ok && !b.Kind.Special() {
			d := *b
			d.ClearStamp()
			o.Default = &d
		}
		if e, ok := w.Plain.Get(path); ok && w.want[path] == e {
			if was, ok := w.Old.Override(path); ok {
				o.Entry = was.Entry // with the flags and attributes that the plain tree cannot hold
			}
		}
		m.Overrides = append(m.Overrides, o)
	}
	slices.SortFunc(m.Overrides, func(a, b Override) int { return pathname.Compare(a.Path, b.Path) })
	m.Removals = w.removed
	w.plan.Next = m
	for i := range w.Old.Overrides {
		if path := w.Old.Overrides[i].Path; w.want[path] == nil {
			w.plan.Drops = append(w.plan.Drops, path)
		}
	}
}

// needed returns the directories that cfg must have, with their metadata.
func (w *Planner) needed() map[string]*tree.Entry {
	dirs := map[string]*tree.Entry{}
	for path, e := range w.want {
		if e.Kind == dirfd.KindDir {
			dirs[path] = e
		}
		for p := pathname.Parent(path); p != ""; p = pathname.Parent(p) {
			if dirs[p] != nil {
				break
			}
			dirs[p] = w.dirEntry(p)
		}
	}
	return dirs
}

// dirEntry returns a directory as live has it. If it is not to be saved, it returns cfg's or base's.
func (w *Planner) dirEntry(p string) *tree.Entry {
	if e := w.want[p]; e != nil {
		return e
	}
	trees := []*tree.Tree{w.Live, w.Plain, w.Base}
	if w.unchanged[p] {
		trees = []*tree.Tree{w.Plain, w.Base, w.Live}
	}
	for _, t := range trees {
		if e, ok := t.Get(p); ok && e.Kind == dirfd.KindDir {
			return e
		}
	}
	return &tree.Entry{Path: p, Kind: dirfd.KindDir, Mode: 0o755}
}

// dropSteps removes from the plain tree what it will no longer hold, deepest first.
func (w *Planner) dropSteps() {
	dirs := w.needed()
	for i := len(w.Plain.Entries) - 1; i >= 0; i-- {
		e := &w.Plain.Entries[i]
		switch want := w.want[e.Path]; {
		case e.Kind == dirfd.KindDir:
			if dirs[e.Path] == nil {
				w.plan.Steps = append(w.plan.Steps, Step{Do: DoRmdir, Path: e.Path})
			}
		case e.Kind.Special():
		case want == nil || want.Kind == dirfd.KindDir:
			w.plan.Steps = append(w.plan.Steps, Step{Do: DoRm, Path: e.Path})
			w.plan.old = append(w.plan.old, e.Path)
		}
	}
}

// putSteps makes directories and lists what to copy.
func (w *Planner) putSteps() {
	dirs := w.needed()
	for _, path := range sortedPaths(dirs) {
		d := dirs[path]
		have, ok := w.Plain.Get(path)
		if !ok || have.Kind != dirfd.KindDir {
			w.plan.Steps = append(w.plan.Steps, Step{Do: DoMkdir, Path: path})
			w.plan.Puts = append(w.plan.Puts, *d)
		} else if d = w.seen(d, have); !plainDir(have).SameMeta(plainDir(d), w.xattrs && !w.Plain.NoXattrs) {
			w.plan.Puts = append(w.plan.Puts, *d)
		}
	}
	for _, path := range sortedPaths(w.want) {
		e := w.want[path]
		have, ok := w.Plain.Get(path)
		if e.Kind == dirfd.KindDir || e == have {
			continue
		}
		if ok && have.SameContent(e) && w.sameInCfg(path, have, e) {
			continue
		}
		w.plan.Puts = append(w.plan.Puts, *e)
		if ok && have.Kind == dirfd.KindFile {
			w.plan.old = append(w.plan.old, path)
		}
	}
}

// seen returns a directory of live with cfg's attributes, if live's filesystem has none.
func (w *Planner) seen(d, have *tree.Entry) *tree.Entry {
	if !w.Live.NoXattrs {
		return d
	}
	c := *d
	c.Xattrs = have.Xattrs
	return &c
}

// plainDir returns a directory's entry as the plain tree can hold it.
func plainDir(e *tree.Entry) *tree.Entry {
	c := *e
	c.Flags = 0
	return &c
}

// sameInCfg compares metadata with the plain tree, and what that cannot hold with the manifest.
func (w *Planner) sameInCfg(path string, have, e *tree.Entry) bool {
	c := *have
	if was, ok := w.Old.Override(path); ok {
		w.Old.complete(&c, &was.Entry, w.Plain.NoXattrs)
	}
	return c.SameMeta(e, w.xattrs)
}

// heldSteps drops the held paths that live has taken or that were forced.
func (w *Planner) heldSteps(saved *tree.Tree) {
	w.plan.Next.Held = slices.DeleteFunc(slices.Clone(w.Old.Held), func(p string) bool {
		if w.Force && w.Only(p) {
			return true
		}
		s, _ := saved.Get(p)
		l, _ := w.Live.Get(p)
		_, differs := Compare(s, l, w.xattrs)
		return !differs
	})
}

// timeSteps copies times from live to what cfg holds already: overrides, and the directories around them.
func (w *Planner) timeSteps() {
	put := map[string]bool{}
	for _, e := range w.plan.Puts {
		put[e.Path] = true
	}
	for _, path := range w.plan.Times {
		if e := w.want[path]; e != nil && !put[path] {
			w.plan.Steps = append(w.plan.Steps, Step{Do: DoTimes, Path: path, Want: *e})
		}
	}
	touched := w.touched()
	for path, d := range w.needed() {
		if l, ok := w.Live.Get(path); ok && !put[path] && l.Kind == dirfd.KindDir && w.Only(path) {
			have, ok := w.Plain.Get(path)
			moved := ok && have.MTime != l.MTime
			if moved || touched[path] {
				w.plan.Puts = append(w.plan.Puts, *d)
			}
		}
	}
	for i := range w.plan.Next.Overrides {
		o := &w.plan.Next.Overrides[i]
		if l, ok := w.Live.Get(o.Path); ok && w.want[o.Path] == l {
			o.MTime = l.MTime
		}
	}
}

// touched returns the directories of cfg in which the plan changes names, and so changes their times.
func (w *Planner) touched() map[string]bool {
	dirs := map[string]bool{}
	for _, e := range w.plan.Puts {
		dirs[pathname.Parent(e.Path)] = true
	}
	for _, st := range w.plan.Steps {
		if st.Do != DoTimes {
			dirs[pathname.Parent(st.Path)] = true
		}
	}
	return dirs
}

func sortedPaths(m map[string]*tree.Entry) []string {
	out := make([]string, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	slices.SortFunc(out, pathname.Compare)
	return out
}

// OnlyBelow returns the filter for path arguments. A directory means all below it.
func OnlyBelow(paths []string) func(string) bool {
	if len(paths) == 0 {
		return func(string) bool { return true }
	}
	return func(p string) bool {
		for _, dir := range paths {
			if pathname.Within(p, dir) {
				return true
			}
		}
		return false
	}
}
