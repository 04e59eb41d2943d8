package merge

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Run computes the outcome of every override and removal, and the manifest that results.
func (w *Merger) Run(ctx context.Context) (*Result, error) {
	r := &Result{From: w.Cfg.BaseID, To: w.Base.ID, Generation: w.Cfg.Generation}
	if w.Prior != nil {
		r.RevertsTo = w.Prior.then.Generation
	}
	if err := w.outcomes(ctx, r); err != nil {
		return nil, err
	}
	if err := w.derive(ctx, r); err != nil {
		return nil, err
	}
	w.blockedDirs(r)
	r.Next, r.Made = w.manifest(r.Outcomes), w.fresh
	return r, nil
}

// outcomes computes the outcome of each path with a few workers, because most of the time is spent reading.
// Of several errors it returns that of the first path, so that the same faults give the same words.
func (w *Merger) outcomes(ctx context.Context, r *Result) error {
	paths := w.paths()
	all, errs := make([]*Outcome, len(paths)), make([]error, len(paths))
	var g errgroup.Group
	g.SetLimit(min(max(runtime.NumCPU(), 2), 8))
	for i, path := range paths {
		g.Go(func() error {
			if errs[i] = ctx.Err(); errs[i] == nil {
				all[i], errs[i] = w.outcome(ctx, path)
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	for i, u := range all {
		if errs[i] != nil {
			return fmt.Errorf("merge %s: %w", pathname.Quote(paths[i]), errs[i])
		}
		if u != nil {
			r.Outcomes = append(r.Outcomes, *u)
		}
	}
	return nil
}

// paths returns all paths that the merge is about, in order.
func (w *Merger) paths() []string {
	var all []string
	add := func(m *store.Manifest) {
		for i := range m.Overrides {
			all = append(all, m.Overrides[i].Path)
		}
		for i := range m.Removals {
			all = append(all, m.Removals[i].Path)
		}
		for i := range m.Conflicts {
			all = append(all, m.Conflicts[i].Path)
		}
	}
	add(w.Cfg)
	if w.Prior != nil {
		add(w.Prior.then)
		add(w.Prior.leaving)
	}
	slices.SortFunc(all, pathname.Compare)
	return slices.Compact(all)
}

// outcome decides about one path. Nil means that there is nothing to do and nothing to tell.
func (w *Merger) outcome(ctx context.Context, path string) (*Outcome, error) {
	theirs, err := w.Base.Entry(path)
	if err != nil {
		return nil, err
	}
	if w.Prior != nil {
		return w.fromPrior(ctx, path, theirs)
	}
	o, _ := w.Cfg.Override(path)
	r, _ := w.Cfg.Removal(path)
	c, _ := w.Cfg.ConflictAt(path)
	switch {
	case r != nil:
		return w.removal(r, theirs), nil
	case o != nil:
		v := w.versions(Versions{Old: o.Default, Mine: &o.Entry, Theirs: theirs}, c)
		return w.mergeVersions(ctx, path, v, o, w.Policy)
	case c != nil && c.Mine != nil: // the default was taken, and has not changed
		v := w.versions(Versions{Old: c.Old, Mine: c.Mine, Theirs: theirs}, c)
		as := &store.Override{Entry: *c.Mine, Default: c.Old}
		return w.mergeVersions(ctx, path, v, as, c.Taken)
	}
	return nil, nil
}

// versions names versions after the bases that they are of. The old default under an unresolved conflict is
// still that of an earlier base.
func (w *Merger) versions(v Versions, unresolved *store.Conflict) Versions {
	v.From = w.Cfg.BaseID
	if c := unresolved; c != nil && v.Old != nil && c.Old != nil && w.same(v.Old, c.Old) {
		v.From = c.From
	}
	v.Names = NamesOf(v.From, w.Base.ID)
	return v
}

// blockedDirs finds the defaults that are in the way of directories of cfg: what was a directory, or nothing,
// is a file now.
func (w *Merger) blockedDirs(r *Result) {
	seen := map[string]bool{}
	for i := range r.Outcomes {
		u := &r.Outcomes[i]
		seen[u.Path] = seen[u.Path] || u.Override != nil
	}
	for _, u := range slices.Clone(r.Outcomes) {
		if u.Override == nil {
			continue
		}
		for p := pathname.Parent(u.Path); p != "" && !seen[p]; p = pathname.Parent(p) {
			seen[p] = true
			if e, ok := w.Base.Tree.Get(p); ok && e.Kind != dirfd.KindDir && !e.Kind.Special() {
				r.Outcomes = append(r.Outcomes, w.blockedDir(p, e))
			}
		}
	}
	slices.SortStableFunc(r.Outcomes,
		func(a, b Outcome) int { return pathname.Compare(a.Path, b.Path) })
}

// blockedDir returns the conflict between a directory of cfg and a default of another kind. What is below the
// directory has no other place.
func (w *Merger) blockedDir(path string, theirs *tree.Entry) Outcome {
	dir := tree.Entry{
		Path:  path,
		Kind:  dirfd.KindDir,
		Mode:  tree.UsualDir,
		UID:   theirs.UID,
		GID:   theirs.GID,
		MTime: w.Now.UnixNano(),
	}
	t, err := w.Base.Entry(path)
	if err != nil || t == nil {
		t = theirs
	}
	u := Outcome{Path: path, Verdict: VerdictConflict, Override: &store.Override{Entry: dir, Default: nil}}
	u.conflict = &store.Conflict{
		Path:   path,
		From:   w.Cfg.BaseID,
		To:     w.Base.ID,
		Taken:  config.ConflictMine,
		Mine:   &dir,
		Theirs: t,
		Why:    fmt.Sprintf("a directory with saved files here, a %s in the new default", t.Kind),
	}
	u.note("%s; the directory stays", u.conflict.Why)
	return u
}

// manifest makes the manifest from the outcomes.
func (w *Merger) manifest(outcomes []Outcome) *store.Manifest {
	m := &store.Manifest{BaseID: w.Base.ID, From: w.Cfg.BaseID, Pins: w.Cfg.Pins, Time: w.Now.UTC(),
		Message: fmt.Sprintf("merged from %s to %s", w.Cfg.BaseID, w.Base.ID)}
	for i := range outcomes {
		u := &outcomes[i]
		if u.Override != nil {
			o := *u.Override
			o.ClearStamp()
			m.Overrides = append(m.Overrides, o)
		}
		if u.removal != nil {
			m.Removals = append(m.Removals, *u.removal)
		}
		if u.conflict != nil {
			m.Conflicts = append(m.Conflicts, *u.conflict)
		}
	}
	m.Removals = tree.CompactRemovals(m.Removals)
	return m
}
