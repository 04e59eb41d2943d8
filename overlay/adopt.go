package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Adoption is the result of taking over a live tree.
type Adoption struct {
	Already  bool          // cfgd had it before, so nothing was done
	Merge    *merge.Result // the merge, if cfg was made against another base; else nil
	Unmerged error         // why it could not be merged
	Changes  []tree.Change // in live: removals that were applied, and what a merge changed
	Damaged  []string      // damage of the store; nothing of live was changed because of it
	Copy     bool          // a copy of the store was in live, and was removed
}

// AdoptLive takes over a live tree that something other than cfgd populated (rc.initdiskless, scripts), and
// records it as populated. It is how cfgd begins on a running machine. The tree must clearly be what base and
// cfg make: on a memory filesystem if the target has one, with most of the defaults and most of the overrides
// in place. Otherwise the error says what is wrong; it wraps ErrNotPopulated. For the tree of an earlier
// start it is an *EarlierError.
//
// On the host, a copy of the store in live means that rc.initdiskless populated live. It knows nothing of
// removals and merges. So AdoptLive does these wherever live is still as it was copied, and removes the copy
// last. If it is interrupted, it starts again the next time.
func (o *Overlay) AdoptLive(ctx context.Context) (*Adoption, error) {
	unlock, err := o.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	live, err := o.OpenLive()
	if err != nil {
		return nil, err
	}
	defer live.Close()
	var earlier *EarlierError
	if _, err := o.populated(live); err == nil {
		return &Adoption{Already: true}, nil
	} else if errors.As(err, &earlier) {
		return nil, err
	}
	base, err := o.scanBase(ctx, o.Next(), true)
	if err != nil {
		return nil, err
	}
	a := &adoption{o: o, base: base, live: live, done: &Adoption{}}
	if err := a.check(ctx); err != nil {
		return nil, err
	}
	generation := a.manifests[0].Generation
	if st, err := live.Stat(tree.MetaName); err == nil && st.Kind == dirfd.KindDir && o.Target.Host() &&
		len(a.done.Damaged) == 0 {
		if generation, err = a.finishCopy(ctx); err != nil {
			return nil, err
		}
	}
	r, err := a.record(generation)
	if err != nil {
		return nil, err
	}
	r.Adopted = true
	return a.done, o.WriteRecord(r)
}

// adoption is a live tree that is being taken over.
type adoption struct {
	o    *Overlay
	base *store.Base
	live *dirfd.Dir
	scan *tree.Tree // of live

	// the generations that cfg may have had when live was made, the present one first
	manifests []*store.Manifest
	plain     *tree.Tree // cfg's plain tree
	done      *Adoption
}

// record returns the record of the tree as one that was made from a generation.
func (a *adoption) record(generation int) (*Record, error) {
	id, err := a.live.Identity()
	return &Record{
		Identity:   id,
		State:      Populated,
		BasePath:   a.o.Target.Base,
		BaseID:     a.base.ID,
		Generation: generation,
		Time:       a.o.now().UTC(),
		Memory:     string(a.o.Target.Memory),
	}, err
}

// check scans the live tree, and returns an error that says why it is not the target's.
func (a *adoption) check(ctx context.Context) error {
	s, err := a.o.openStore(ctx, a.base, toRead)
	if err != nil {
		return err
	}
	a.plain, a.done.Damaged, a.manifests = s.Plain, s.Damaged, []*store.Manifest{s.Manifest}
	if m, err := s.Generation(s.Manifest.Generation - 1); err == nil &&
		(s.Manifest.From != "" || len(s.Adopted) > 0) {
		// the manifest that live was made from, if a merge was interrupted just now
		a.manifests = append(a.manifests, m)
	}
	return errors.Join(a.compare(ctx, s), s.Close())
}

// compare compares live with what base and cfg make.
func (a *adoption) compare(ctx context.Context, s *store.Store) (err error) {
	if a.o.Target.Memory != config.BackingDir {
		on, err := a.live.MountRoot()
		if err == nil && !on {
			err = fmt.Errorf("%w: no memory filesystem is mounted on %s", ErrNotPopulated, a.o.Target.Live)
		}
		if err != nil {
			return err
		}
	}
	a.scan, err = tree.Scan(ctx, a.live, tree.ScanOptions{MaxFile: a.o.Target.MaxFile, Now: a.o.Now})
	if err != nil {
		return err
	}
	if err := a.older(ctx, s); err != nil {
		return err
	}
	return resembles(a.base.Tree, a.scan, s.Manifest)
}

// older finds out whether a live tree without a record was made from an older generation. It is if most paths
// in which that generation differs from the present one are as they were then, and at least one is a file
// with the content and the time of then. Somebody who writes such a file again gives it a new time, and a
// copy of the present cfg holds none of these files. A match is recorded as a hidden tree.
//
// The host is left out: rc.initdiskless(8) populates its /etc again at each start of the machine.
func (a *adoption) older(ctx context.Context, s *store.Store) error {
	if a.o.Target.Host() {
		return nil
	}
	numbers, err := s.Numbers()
	if err != nil {
		return err
	}
	for _, n := range slices.Backward(numbers) {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := s.Generation(n)
		if err != nil || !madeBy(a.base.Tree, a.scan, m, s.Manifest) {
			continue // a generation that can't be read proves nothing
		}
		r, err := a.record(m.Generation)
		if err != nil {
			return err
		}
		return errors.Join(a.o.earlierError(r, fmt.Sprintf(", as generation %d had it", m.Generation)),
			a.o.KeepHidden(r))
	}
	return nil
}

// finishCopy does what a plain copy of base and cfg lacks: merges and removals. A path that is no longer as
// it was copied was edited by somebody, and is left alone.
func (a *adoption) finishCopy(ctx context.Context) (generation int, err error) {
	s, err := openMerged(ctx, a.o, a.base)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	a.done.Merge, a.done.Unmerged = s.merge, s.unmerged
	copied := tree.Saved(a.base.Tree, a.plain, nil)
	want := tree.Saved(a.base.Tree, store.WithManifest(a.base.Tree, s.Plain, s.Manifest), s.Manifest.Removals)
	r := newRestorer(want, func(e *tree.Entry) (io.ReadCloser, error) {
		return savedContent(s.Store, a.base, s.Plain, e)
	})
	ours := newSavedPaths(append(a.manifests, s.Manifest)...)
	for _, c := range tree.Delta(a.scan, want) {
		if ours.has(c.Path) && a.copied(copied, c) && a.scan.WhySkipped(c.Path) == "" {
			r.changes = append(r.changes, c)
		}
	}
	if err := r.run(ctx, a.live); err != nil {
		return 0, fmt.Errorf("make up for the start: %w", err)
	}
	a.done.Changes = r.changes
	if err := a.live.RemoveAll(tree.MetaName); err != nil {
		return 0, err
	}
	a.done.Copy, r.touched[""] = true, true
	if err := r.finish(a.live); err != nil {
		return 0, err
	}
	return s.Manifest.Generation, nil
}

// copied reports whether live has at the path of c what base and cfg had there when they were copied.
func (a *adoption) copied(was *tree.Tree, c tree.Change) bool {
	e, ok := was.Get(c.Path)
	if !ok && c.Old == nil {
		return true
	}
	same := func(e *tree.Entry) bool {
		_, differs := tree.CompareEntries(e, c.Old, false)
		return !differs
	}
	if ok && same(e) {
		return true
	}
	return slices.ContainsFunc(a.manifests, func(m *store.Manifest) bool {
		o, ok := m.Override(c.Path)
		return ok && same(&o.Entry)
	})
}

// Clear empties a live tree that is a plain directory and that cfgd populated, as unmounting empties a memory
// filesystem, and drops its record. It does not touch a tree that cfgd did not populate.
func (o *Overlay) Clear(ctx context.Context) error {
	unlock, err := o.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	live, err := o.OpenLive()
	if err != nil {
		if absent(err) {
			return o.DropRecord()
		}
		return err
	}
	defer live.Close()
	r, err := o.Record()
	if err != nil || r == nil {
		return err
	}
	if id, err := live.Identity(); err != nil || id != r.Identity {
		return err
	}
	r.State = Populating // after a crash from here on the tree is not taken for a whole one
	if err := o.WriteRecord(r); err != nil {
		return err
	}
	if err := live.Clear(); err != nil {
		return err
	}
	o.Forget()
	return o.DropRecord()
}

// resembles compares live with what base and cfg make. More than half of each must be in place.
func resembles(base, live *tree.Tree, m *store.Manifest) error {
	have, all := 0, 0
	for i := range base.Entries {
		k := base.Entries[i].Kind
		if m.Removes(base.Entries[i].Path) || k == dirfd.KindDir || k.Special() {
			continue
		}
		all++
		if live.Has(base.Entries[i].Path) {
			have++
		}
	}
	if 2*have <= all {
		return fmt.Errorf("%w: only %d of %d defaults are in the live tree", ErrNotPopulated, have, all)
	}
	have = 0
	for i := range m.Overrides {
		if e, ok := live.Get(m.Overrides[i].Path); ok && e.SameContent(&m.Overrides[i].Entry) {
			have++
		}
	}
	if 2*have < len(m.Overrides) {
		return fmt.Errorf("%w: only %d of %d overrides are in the live tree", ErrNotPopulated, have,
			len(m.Overrides))
	}
	return nil
}

// madeBy reports whether an older generation explains a live tree better than the present one.
func madeBy(base, live *tree.Tree, older, now *store.Manifest) bool {
	certain, was, all := false, 0, 0
	for _, p := range differing(older, now) {
		if now.HandEdited(p) || now.Removes(p) { // a plain copy of base and cfg still has what was removed
			continue
		}
		then, present := older.Saved(base, p), now.Saved(base, p)
		if sameEntry(then, present) || then != nil && then.Kind == dirfd.KindDir {
			continue
		}
		all++
		if e, _ := live.Get(p); sameEntry(then, e) {
			was++
			certain = certain || e != nil && e.Kind == dirfd.KindFile && e.MTime == then.MTime
		}
	}
	return certain && 2*was > all
}

// differing lists the paths that one of two generations overrides and the other does not, or differently.
func differing(a, b *store.Manifest) []string {
	seen := map[string]bool{}
	var out []string
	for _, m := range []*store.Manifest{a, b} {
		for i := range m.Overrides {
			if p := m.Overrides[i].Path; !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	return out
}

func sameEntry(a, b *tree.Entry) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.SameContent(b)
}

// savedPaths is the set of paths in two generations, with all below removals.
type savedPaths struct {
	paths map[string]bool
	gone  []*store.Manifest
}

func newSavedPaths(all ...*store.Manifest) *savedPaths {
	w := &savedPaths{map[string]bool{}, all}
	for _, m := range all {
		for i := range m.Overrides {
			for p := m.Overrides[i].Path; p != ""; p = pathname.Parent(p) {
				w.paths[p] = true
			}
		}
	}
	return w
}

func (w *savedPaths) has(path string) bool {
	return w.paths[path] ||
		slices.ContainsFunc(w.gone, func(m *store.Manifest) bool { return m.Removes(path) })
}
