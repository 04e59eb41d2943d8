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

// Taken is the result of taking over a live tree.
type Taken struct {
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
func (o *Overlay) AdoptLive(ctx context.Context) (*Taken, error) {
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
		return &Taken{Already: true}, nil
	} else if errors.As(err, &earlier) {
		return nil, err
	}
	base, err := o.Bases.get(ctx, o, o.Next(), true)
	if err != nil {
		return nil, err
	}
	s, err := o.openStore(ctx, base, true)
	if err != nil {
		return nil, err
	}
	before := []*store.Manifest{s.Manifest}
	if m, err := s.Generation(s.Manifest.Generation - 1); err == nil &&
		(s.Manifest.From != "" || len(s.Adopted) > 0) {
		// the manifest that live was made from, if a merge was interrupted just now
		before = append(before, m)
	}
	plain, taken := s.Plain, &Taken{Damaged: s.Damaged}
	t, err := o.checkLikely(ctx, s, live, base)
	if err := errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	generation := before[0].Generation
	if st, err := live.Stat(tree.MetaName); err == nil && st.Kind == dirfd.KindDir && o.Target.Host() &&
		len(taken.Damaged) == 0 {
		if generation, err = o.finishCopy(ctx, live, base, &copySource{before, plain, t}, taken); err != nil {
			return nil, err
		}
	}
	return taken, o.recordAdoption(live, base.ID, generation)
}

// recordAdoption writes the record of a live tree that was taken over.
func (o *Overlay) recordAdoption(live *dirfd.Dir, baseID string, generation int) error {
	id, err := live.Identity()
	if err != nil {
		return err
	}
	return o.WriteRecord(&Record{
		Identity:   id,
		State:      Populated,
		BasePath:   o.Target.Base,
		BaseID:     baseID,
		Generation: generation,
		Time:       o.now().UTC(),
		Adopted:    true,
		Memory:     string(o.Target.Memory),
	})
}

// checkLikely scans a live tree and returns an error that says why it is not the target's.
func (o *Overlay) checkLikely(
	ctx context.Context, s *store.Store, live *dirfd.Dir, base *store.Base,
) (*tree.Tree, error) {
	if err := o.ownMemory(live); err != nil {
		return nil, err
	}
	t, err := tree.Scan(ctx, live, tree.ScanOptions{MaxFile: o.Target.MaxFile, Now: o.Now})
	if err != nil {
		return nil, err
	}
	if err := o.older(ctx, s, live, base, t); err != nil {
		return nil, err
	}
	return t, resembles(base.Tree, t, s.Manifest)
}

// copySource is what a live tree was copied from: the generations that cfg may have had then, and its plain
// tree. live is the tree now.
type copySource struct {
	manifests []*store.Manifest
	plain     *tree.Tree
	live      *tree.Tree
}

// finishCopy does what a plain copy of base and cfg lacks: merges and removals. A path that is no longer as
// it was copied was edited by somebody, and is left alone.
func (o *Overlay) finishCopy(
	ctx context.Context, live *dirfd.Dir, base *store.Base, b *copySource, taken *Taken,
) (generation int, err error) {
	s, m, failed, err := o.mergedStore(ctx, base)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	taken.Merge, taken.Unmerged = m, failed
	copied := tree.Saved(base.Tree, b.plain, nil)
	want := tree.Saved(base.Tree, store.WithManifest(base.Tree, s.Plain, s.Manifest), s.Manifest.Removals)
	r := &restorer{
		want:    want,
		read:    func(e *tree.Entry) (io.ReadCloser, error) { return savedContent(s, base, s.Plain, e) },
		touched: map[string]bool{},
	}
	ours := newSavedPaths(append(b.manifests, s.Manifest)...)
	for _, c := range tree.Delta(b.live, want) {
		if ours.has(c.Path) && b.copied(copied, c) && b.live.WhySkipped(c.Path) == "" {
			r.changes = append(r.changes, c)
		}
	}
	if err := r.run(ctx, live); err != nil {
		return 0, fmt.Errorf("make up for the start: %w", err)
	}
	taken.Changes = r.changes
	if err := live.RemoveAll(tree.MetaName); err != nil {
		return 0, err
	}
	taken.Copy, r.touched[""] = true, true
	if err := r.finish(live); err != nil {
		return 0, err
	}
	return s.Manifest.Generation, nil
}

// copied reports whether live has at the path of c what base and cfg had there when they were copied.
func (b *copySource) copied(was *tree.Tree, c tree.Change) bool {
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
	return slices.ContainsFunc(b.manifests, func(m *store.Manifest) bool {
		o, ok := m.Override(c.Path)
		return ok && same(&o.Entry)
	})
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

// ownMemory returns an error if no filesystem is mounted on the live tree.
func (o *Overlay) ownMemory(live *dirfd.Dir) error {
	if o.Target.Memory == config.BackingDir {
		return nil
	}
	on, err := live.MountRoot()
	if err == nil && !on {
		err = fmt.Errorf("%w: no memory filesystem is mounted on %s", ErrNotPopulated, o.Target.Live)
	}
	return err
}

// resembles compares live with what base and cfg make. More than half of each must be in place.
func resembles(base, live *tree.Tree, m *store.Manifest) error {
	have, all := 0, 0
	for i := range base.Entries {
		if m.Removes(base.Entries[i].Path) || base.Entries[i].Kind == dirfd.KindDir {
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
