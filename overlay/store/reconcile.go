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
	next, changed, err := s.adopt(old)
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
		next.Held = mergePaths(old.Held, changed)
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
func (s *Store) adopt(old *Manifest) (*Manifest, []string, error) {
	m := &Manifest{Pins: old.Pins, Conflicts: old.Conflicts, Merges: old.Merges, Refused: old.Refused}
	var changed []string
	for i := range s.Plain.Entries {
		e := &s.Plain.Entries[i]
		was, known := old.Override(e.Path)
		switch {
		case e.Kind.Special():
			continue
		case !known && s.Structural(e, old):
			continue
		case known && sameOverride(&was.Entry, e):
			o := *was
			o.MTime = e.MTime
			m.Overrides = append(m.Overrides, o)
			continue
		}
		o := Override{Entry: PlainEntry(e)}
		if known {
			o.Default = was.Default
			old.complete(&o.Entry, &was.Entry, s.Plain.NoXattrs)
		} else if def, err := s.Base.Entry(e.Path); err != nil {
			return nil, nil, err
		} else {
			o.Default = def
		}
		m.Overrides = append(m.Overrides, o)
		changed = append(changed, e.Path)
	}
	for _, o := range old.Overrides {
		if !s.Plain.Has(o.Path) {
			changed = append(changed, o.Path)
		}
	}
	for _, r := range old.Removals {
		if s.Plain.Has(r.Path) {
			if _, ok := m.Override(r.Path); ok || s.Base == nil {
				changed = append(changed, r.Path)
			}
			continue
		}
		m.Removals = append(m.Removals, r)
	}
	slices.SortFunc(changed, pathname.Compare)
	return m, slices.Compact(changed), nil
}

// Structural reports whether a directory of cfg is there only to hold what is below it. Then base has the
// same directory; or, if the manifest is of another base, base has one that can be compared later.
func (s *Store) Structural(e *tree.Entry, old *Manifest) bool {
	if e.Kind != dirfd.KindDir {
		return false
	}
	if s.Base == nil {
		return true
	}
	b, ok := s.Base.Tree.Get(e.Path)
	if !ok || b.Kind != dirfd.KindDir {
		return false
	}
	c := *e
	old.complete(&c, b, s.Plain.NoXattrs)
	return b.SameMeta(&c, !s.Base.Tree.NoXattrs) || old.BaseID != "" && old.BaseID != s.Base.ID
}

// sameOverride compares a manifest's entry with the plain tree. Immutable flags are only in the manifest,
// because a file in cfg that has them could not be replaced. Attributes are only there if cfg's filesystem
// has none.
func sameOverride(m, plain *tree.Entry) bool {
	c := *plain
	c.Flags = m.Flags
	return m.SameContent(&c) && m.SameMeta(&c, false)
}

// PlainEntry returns an entry as the plain tree can hold it: without flags.
func PlainEntry(e *tree.Entry) tree.Entry {
	c := *e
	c.Flags = 0
	return c
}

func mergePaths(a, b []string) []string {
	out := append(slices.Clone(a), b...)
	slices.SortFunc(out, pathname.Compare)
	return slices.Compact(out)
}

// TakenBefore returns a function that finds what the saved tree had of a held path before somebody changed it
// in cfg. It looks in the newest generation that does not hold the path. Live has the same, unless it was
// changed there too.
func (s *Store) TakenBefore(base *tree.Tree) func(path string) (*tree.Entry, bool) {
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
			if m.Holds(path) {
				continue
			}
			return m.Saved(base, path), true
		}
		return nil, false
	}
}
