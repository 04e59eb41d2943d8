package store

import (
	"slices"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Plan computes what a save does. First each path is decided; then the manifest and the steps are made of
// that.
func (w Planner) Plan() *Plan {
	a := assembler{w.decide()}
	a.consistent()
	a.around()
	a.manifest()
	a.dropSteps()
	a.putSteps()
	a.dropHandEdits()
	if len(a.plan.Changes) > 0 || w.Times && len(a.plan.Times) > 0 {
		a.timeSteps()
	} else {
		a.plan.Times = nil
	}
	return a.plan
}

// assembler makes a manifest and steps of decisions.
type assembler struct{ *decisions }

// consistent drops what cannot be: paths below a removal, or below something that is not a directory.
func (w *assembler) consistent() {
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
func (w *assembler) around() {
	for path, d := range w.needed() {
		b, ok := w.Base.Get(path)
		if w.want[path] == nil && (!ok || b.Kind != dirfd.KindDir || !b.SameMeta(d, w.xattrs)) {
			w.want[path] = d
		}
	}
}

func (w *assembler) dirInLive(p string) bool {
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
func (w *assembler) manifest() {
	m := &Manifest{
		Pins:       w.Old.Pins,
		HandEdits:  w.Old.HandEdits,
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
func (w *assembler) needed() map[string]*tree.Entry {
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
func (w *assembler) dirEntry(p string) *tree.Entry {
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
func (w *assembler) dropSteps() {
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
func (w *assembler) putSteps() {
	dirs, xattrs := w.needed(), w.xattrs && !w.Plain.NoXattrs
	for _, path := range sortedPaths(dirs) {
		d := dirs[path]
		have, ok := w.Plain.Get(path)
		if !ok || have.Kind != dirfd.KindDir {
			w.plan.Steps = append(w.plan.Steps, Step{Do: DoMkdir, Path: path})
			w.plan.Puts = append(w.plan.Puts, *d)
		} else if d = w.seen(d, have); !plainEntry(have).SameMeta(plainEntry(d), xattrs) {
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
func (w *assembler) seen(d, have *tree.Entry) *tree.Entry {
	if !w.Live.NoXattrs {
		return d
	}
	c := *d
	c.Xattrs = have.Xattrs
	return &c
}

// sameInCfg compares metadata with the plain tree, and what that cannot hold with the manifest.
func (w *assembler) sameInCfg(path string, have, e *tree.Entry) bool {
	c := *have
	if was, ok := w.Old.Override(path); ok {
		w.Old.complete(&c, &was.Entry, w.Plain.NoXattrs)
	}
	return c.SameMeta(e, w.xattrs)
}

// dropHandEdits drops the hand edits that live has taken or that were forced.
func (w *assembler) dropHandEdits() {
	w.plan.Next.HandEdits = slices.DeleteFunc(slices.Clone(w.Old.HandEdits), func(p string) bool {
		if w.Force && w.Only(p) {
			return true
		}
		s, _ := w.Saved.Get(p)
		l, _ := w.Live.Get(p)
		_, differs := Compare(s, l, w.xattrs)
		return !differs
	})
}

// timeSteps copies times from live to what cfg holds already: overrides, and the directories around them.
func (w *assembler) timeSteps() {
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
func (w *assembler) touched() map[string]bool {
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
