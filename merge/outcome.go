package merge

import (
	"context"
	"fmt"
	"slices"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Verdict is the result of a merge for one override or removal, in the words of --json.
type Verdict string

// The verdicts.
const (
	VerdictKept     Verdict = "kept"     // the default did not change
	VerdictMerged   Verdict = "merged"   // both changed, and were merged
	VerdictEqual    Verdict = "equal"    // equals the new default: the override goes, unless it is pinned
	VerdictConflict Verdict = "conflict" // both changed, differently
	VerdictGone     Verdict = "gone"     // the default is gone, the override stays
	VerdictRemoved  Verdict = "removed"  // the default changed, the removal stays
	VerdictBoth     Verdict = "both"     // both added it, differently: a conflict too
)

// Outcome is what a merge does with one path.
type Outcome struct {
	Path    string
	Verdict Verdict
	Notes   []string // what a reader should know, without secrets; empty if there is nothing to tell

	Override *store.Override // what cfg holds afterwards, nil for nothing
	removal  *tree.Removal
	conflict *store.Conflict
}

func (u *Outcome) note(format string, args ...any) {
	u.Notes = append(u.Notes, fmt.Sprintf(format, args...))
}

// Result is what a merge makes of a generation of cfg on another base. It is a value; computing it writes
// nothing.
type Result struct {
	From, To   string // base ids
	Generation int    // the generation that was merged
	// RevertsTo is the last generation on the new base, to which the merge reverts; 0 if cfg was never on it.
	RevertsTo int
	Outcomes  []Outcome
	Commands  []string // programs that make databases of merged files

	Next *store.Manifest
	Made map[tree.Digest][]byte // contents that the merge made
}

// Conflicts counts the outcomes that are conflicts.
func (m *Result) Conflicts() int {
	n := 0
	for i := range m.Outcomes {
		if m.Outcomes[i].conflict != nil {
			n++
		}
	}
	return n
}

// Merged lists the files whose contents were merged.
func (m *Result) Merged() []string {
	var paths []string
	for i := range m.Outcomes {
		u := &m.Outcomes[i]
		if u.Verdict == VerdictMerged && u.Override != nil && u.Override.Kind == dirfd.KindFile {
			paths = append(paths, u.Path)
		}
	}
	return paths
}

// at returns the outcome of a path, nil if there is none.
func (m *Result) at(path string) *Outcome {
	i := slices.IndexFunc(m.Outcomes, func(u Outcome) bool { return u.Path == path })
	if i < 0 {
		return nil
	}
	return &m.Outcomes[i]
}

// mergeVersions decides about an override by its three versions. as is what cfg holds now.
func (w *Merger) mergeVersions(
	ctx context.Context, path string, v Versions, as *store.Override, policy config.OnConflict,
) (*Outcome, error) {
	u := &Outcome{Path: path, Verdict: VerdictKept, Override: as}
	switch {
	case v.Theirs == nil && v.Old == nil:
		return u, nil
	case v.Theirs == nil && w.sameButTags(v.Old, v.Mine) && !w.Cfg.Pinned(path):
		u.Verdict, u.Override = VerdictEqual, nil
		u.note("%s", w.went(path, " as well"))
		return u, nil
	case v.Theirs == nil:
		u.Verdict, u.Override = VerdictGone, &store.Override{Entry: *v.Mine, Default: nil}
		u.note("%s", w.went(path, ""))
		u.note("the saved one stays")
		return u, nil
	case v.Old != nil && w.same(v.Old, v.Theirs):
		return u, nil
	case v.Old != nil && w.Cfg.Pinned(path) && w.same(v.Old, v.Mine):
		u.note("pinned to the old default: it hides the new one")
		return u, nil
	case w.same(v.Mine, v.Theirs):
		w.equal(u, v.Mine, v.Theirs)
		return u, nil
	}
	b, err := w.mergeEntry(ctx, path, v)
	if err != nil {
		return nil, err
	}
	w.fromEntryMerge(u, b, policy)
	return u, nil
}

// went says what became of a default that is no longer there. too ends the words for one that went as what
// was saved did.
func (w *Merger) went(path, too string) string {
	if e, ok := w.Base.Tree.Get(path); ok {
		return fmt.Sprintf("the default is a %s now, which is not made", e.Kind)
	}
	return "the default went" + too
}

// sameButTags reports whether two versions of a file differ in nothing but time and $FreeBSD$ tags. Nobody
// but a release changes those.
func (w *Merger) sameButTags(a, b *tree.Entry) bool {
	file := func(e *tree.Entry) bool { return e != nil && e.Kind == dirfd.KindFile }
	if !file(a) || !file(b) || !a.SameMeta(b, w.Xattrs) {
		return false
	}
	one, _, two, err := Versions{Old: a, Theirs: b}.Read(w.Max, w.content)
	return err == nil && SameButTags(one, two) // what can't be read counts as changed
}

// equal drops an override that equals the new default, unless it is pinned.
func (w *Merger) equal(u *Outcome, mine, theirs *tree.Entry) {
	u.Verdict, u.Override = VerdictEqual, nil
	if w.Cfg.Pinned(u.Path) {
		u.Override = &store.Override{Entry: *mine, Default: theirs}
		u.note("the same as the new default, and pinned: it stays")
	}
}

// fromEntryMerge turns a merge of three versions into the outcome.
func (w *Merger) fromEntryMerge(u *Outcome, b *entryMerge, policy config.OnConflict) {
	v := b.from
	u.Notes = append(u.Notes, b.notes...)
	if len(b.both) == 0 {
		switch {
		case w.same(&b.mine, v.Theirs):
			w.equal(u, &b.mine, v.Theirs)
		case b.tags:
			u.Override = &store.Override{Entry: b.mine, Default: v.Theirs}
		default:
			u.Verdict, u.Override = VerdictMerged, &store.Override{Entry: b.mine, Default: v.Theirs}
		}
		return
	}
	u.Verdict = VerdictConflict
	if v.Old == nil {
		u.Verdict = VerdictBoth
	}
	if v.Mine.Kind == dirfd.KindDir && v.Theirs.Kind != dirfd.KindDir && holdsBelow(w.Cfg, u.Path) {
		policy = config.ConflictMine // what is saved below the directory has no other place
	}
	u.conflict = w.conflict(b, policy)
	u.note("%s; %s", u.conflict.Why, taken(policy))
	u.Override = &store.Override{Entry: b.mine, Default: v.Old}
	if policy == config.ConflictTheirs {
		u.Override = &store.Override{Entry: b.theirs, Default: v.Theirs}
		if w.same(&b.theirs, v.Theirs) {
			u.Override = nil
		}
	}
}

func taken(policy config.OnConflict) string {
	if policy == config.ConflictTheirs {
		return "the default is taken, the saved one kept aside"
	}
	return "the saved one is taken, the default kept aside"
}

func (w *Merger) conflict(b *entryMerge, policy config.OnConflict) *store.Conflict {
	c := &store.Conflict{
		Path:   b.path,
		From:   b.from.From,
		To:     w.Base.ID,
		Taken:  policy,
		Why:    b.why(),
		Old:    b.from.Old,
		Mine:   &b.mine,
		Theirs: &b.theirs,
	}
	if b.text != nil {
		e := w.made(b.path, b.text, b.from.Mine)
		c.Text = &e
	}
	return c
}

// removal decides about a path that cfg takes out of base.
func (w *Merger) removal(r *tree.Removal, theirs *tree.Entry) *Outcome {
	u := &Outcome{Path: r.Path, Verdict: VerdictKept, removal: r}
	switch {
	case theirs == nil:
		u.Verdict, u.removal = VerdictEqual, nil
		u.note("%s", w.went(r.Path, " as well"))
	case r.Default != nil && w.same(r.Default, theirs):
	case w.sameButTags(r.Default, theirs):
		u.removal = &tree.Removal{Path: r.Path, MTime: r.MTime, Default: theirs}
	default:
		u.Verdict, u.removal = VerdictRemoved, &tree.Removal{Path: r.Path, MTime: r.MTime, Default: theirs}
		u.note("the default changed; it stays removed")
	}
	return u
}

// holdsBelow reports whether a generation has overrides below a directory.
func holdsBelow(m *store.Manifest, dir string) bool {
	return slices.ContainsFunc(m.Overrides, func(o store.Override) bool {
		return o.Path != dir && pathname.Within(o.Path, dir)
	})
}
