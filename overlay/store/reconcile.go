package store

import (
	"context"
	"slices"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// reconcile makes the manifest agree with the plain tree. The plain tree is the truth. If it differs,
// somebody changed it by hand, and that becomes a generation of its own.
func (s *Store) reconcile(ctx context.Context, old *Manifest) error {
	fresh := old == nil || old.Generation == 0
	if fresh && old == nil {
		old = &Manifest{BaseID: s.Base.Name()}
	}
	next, changed, err := adopt(s.Plain, s.Base, old)
	if err != nil {
		return err
	}
	rebuilt := old.Time.IsZero()
	if len(changed) == 0 && !(rebuilt && (!fresh || len(next.Overrides)+len(next.Removals) > 0)) {
		s.Manifest = old
		return nil
	}
	next.Generation, next.Time = max(old.Generation, 0)+1, s.clock().UTC()
	if rebuilt && old.Generation > 0 {
		next.Generation = old.Generation
	}
	next.Message = "adopted from the plain tree"
	next.BaseID = s.Base.Name()
	if !rebuilt {
		next.BaseID = old.BaseID
		next.HandEdits = mergePaths(old.HandEdits, changed)
		s.Adopted = changed
	}
	if s.ReadOnly {
		s.Manifest, s.Before = next, old
		return nil
	}
	return s.Install(ctx, rebuiltFrom(old, rebuilt), next)
}

// rebuiltFrom returns the manifest to keep as history, nil if the old one was damaged or there was none.
func rebuiltFrom(old *Manifest, rebuilt bool) *Manifest {
	if rebuilt {
		return nil
	}
	return old
}

// adopt makes the manifest that describes the plain tree, and lists the paths that differ from the old one.
func adopt(plain *tree.Tree, base *Base, old *Manifest) (*Manifest, []string, error) {
	m := &Manifest{Pins: old.Pins, Conflicts: old.Conflicts, Merges: old.Merges, Refused: old.Refused}
	var changed []string
	for i := range plain.Entries {
		e := &plain.Entries[i]
		was, known := old.Override(e.Path)
		switch {
		case e.Kind.Special():
			continue
		case !known && structural(e, plain, base, old):
			continue
		case known && sameOverride(&was.Entry, e):
			o := *was
			o.MTime = e.MTime
			m.Overrides = append(m.Overrides, o)
			continue
		}
		o := Override{Entry: *plainEntry(e)}
		if known {
			o.Default = was.Default
			old.complete(&o.Entry, &was.Entry, plain.NoXattrs)
		} else if def, err := base.Entry(e.Path); err != nil {
			return nil, nil, err
		} else {
			o.Default = def
		}
		m.Overrides = append(m.Overrides, o)
		changed = append(changed, e.Path)
	}
	for _, o := range old.Overrides {
		if !plain.Has(o.Path) {
			changed = append(changed, o.Path)
		}
	}
	for _, r := range old.Removals {
		if plain.Has(r.Path) {
			if _, ok := m.Override(r.Path); ok || base == nil {
				changed = append(changed, r.Path)
			}
			continue
		}
		m.Removals = append(m.Removals, r)
	}
	slices.SortFunc(changed, pathname.Compare)
	return m, slices.Compact(changed), nil
}

// structural reports whether a directory of cfg is there only to hold what is below it. Then base has the
// same directory; or, if the manifest is of another base, base has one that can be compared later.
func structural(e *tree.Entry, plain *tree.Tree, base *Base, old *Manifest) bool {
	if e.Kind != dirfd.KindDir {
		return false
	}
	if base == nil {
		return true
	}
	b, ok := base.Tree.Get(e.Path)
	if !ok || b.Kind != dirfd.KindDir {
		return false
	}
	c := *e
	old.complete(&c, b, plain.NoXattrs)
	return b.SameMeta(&c, !base.Tree.NoXattrs) || old.BaseID != "" && old.BaseID != base.ID
}

// sameOverride compares a manifest's entry with the plain tree. Immutable flags are only in the manifest,
// because a file in cfg that has them could not be replaced. Attributes are only there if cfg's filesystem
// has none.
func sameOverride(m, plain *tree.Entry) bool {
	c := *plain
	c.Flags = m.Flags
	return m.SameContent(&c) && m.SameMeta(&c, false)
}

func mergePaths(a, b []string) []string {
	out := append(slices.Clone(a), b...)
	slices.SortFunc(out, pathname.Compare)
	return slices.Compact(out)
}

// BeforeHandEdit returns a function that finds what the saved tree had of a path of HandEdits before
// somebody changed it in cfg. It looks in the newest generation that does not hold the path. Live has the
// same, unless it was changed there too.
func (s *Store) BeforeHandEdit(base *tree.Tree) func(path string) (*tree.Entry, bool) {
	kept := map[int]*Manifest{}
	return func(path string) (*tree.Entry, bool) {
		for n := s.Manifest.Generation; n > 0; n-- {
			m := kept[n]
			if m == nil {
				var err error
				if m, err = s.Generation(n); err != nil {
					return nil, false
				}
				kept[n] = m
			}
			if m.HandEdited(path) {
				continue
			}
			return m.Saved(base, path), true
		}
		return nil, false
	}
}

// Hiding lists the overrides that hide a changed default: the one in base is not the one they were made
// against.
func (s *Store) Hiding() ([]string, error) {
	if !s.Outdated() {
		return nil, nil
	}
	var out []string
	for i := range s.Manifest.Overrides {
		m := &s.Manifest.Overrides[i]
		now, err := s.Base.Entry(m.Path)
		if err != nil {
			return nil, err
		}
		if m.Kind == dirfd.KindDir && now != nil && now.Kind == dirfd.KindDir {
			continue
		}
		if _, differs := Compare(m.Default, now, false); differs {
			out = append(out, m.Path)
		}
	}
	return out, nil
}

// TakeHandEdits records that live has taken all of cfg.
func (s *Store) TakeHandEdits(ctx context.Context) error {
	if len(s.Manifest.HandEdits) == 0 || s.ReadOnly {
		return nil
	}
	m := *s.Manifest
	m.HandEdits = nil
	return s.Install(ctx, nil, &m)
}
