package overlay

import (
	"context"
	"fmt"
	"slices"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// History reads what the store keeps of earlier generations.
type History struct{ o *Overlay }

// History returns the target's history. It opens nothing yet.
func (o *Overlay) History() History { return History{o} }

// reading opens the store read-only and runs f. base is nil if it can't be read.
func (h History) reading(ctx context.Context, f func(s *store.Store, base *store.Base) error) error {
	base, err := h.o.base(ctx)
	if err != nil {
		base = nil // history can be read without the defaults
	}
	s, err := h.o.openStore(ctx, base, toRead)
	if err != nil {
		return err
	}
	defer s.Close()
	return f(s, base)
}

// LogEntry is a generation that the store keeps, with what it changed in the saved tree.
type LogEntry struct {
	*store.Manifest
	Changes []GenerationChange
	// Before is false if the generation before is no longer kept. Then Changes lists all that cfg held.
	Before bool
	// Damaged says why only the number is known. It is nil if the generation can be read.
	Damaged error
}

// GenerationChange is a path that a generation changed.
type GenerationChange struct {
	Path string
	Kind tree.ChangeKind
	Old  *tree.Entry // nil if added
	New  *tree.Entry // nil if deleted
	Note string      // released, removal
}

// Log lists the kept generations, newest first.
func (h History) Log(ctx context.Context) ([]LogEntry, error) {
	var out []LogEntry
	err := h.reading(ctx, func(s *store.Store, _ *store.Base) error {
		numbers, err := s.Numbers()
		if err != nil {
			return err
		}
		numbers = slices.DeleteFunc(numbers, func(n int) bool { return n >= s.Manifest.Generation })
		if s.Manifest.Generation > 0 {
			numbers = append(numbers, s.Manifest.Generation)
		}
		var prev *store.Manifest
		for _, n := range numbers {
			m, err := s.Generation(n)
			if err != nil {
				// one that can't be read must not hide the others
				out = append(out, LogEntry{Manifest: &store.Manifest{Generation: n}, Damaged: err})
				continue
			}
			out = append(out, LogEntry{
				Manifest: m,
				Changes:  generationChanges(prev, m),
				Before:   prev != nil && prev.Generation == n-1 || n == 1,
			})
			prev = m
		}
		slices.Reverse(out)
		return nil
	})
	return out, err
}

// generationChanges compares two manifests: how each path changed in the saved tree.
func generationChanges(old, new *store.Manifest) []GenerationChange {
	if old == nil {
		old = &store.Manifest{}
	}
	var out []GenerationChange
	for i := range new.Overrides {
		n := &new.Overrides[i]
		before := n.Default
		if was, ok := old.Override(n.Path); ok {
			before = &was.Entry
		} else if _, ok := old.Removal(n.Path); ok {
			before = nil
		}
		if c, ok := tree.CompareEntries(before, &n.Entry, true); ok {
			out = append(out, GenerationChange{c.Path, c.Kind, c.Old, c.New, ""})
		}
	}
	for i := range old.Overrides {
		was := &old.Overrides[i]
		if _, ok := new.Override(was.Path); ok {
			continue
		}
		after, note := was.Default, "released"
		if new.Removes(was.Path) {
			after, note = nil, "removal"
		}
		if c, ok := store.Compare(&was.Entry, after, true); ok {
			out = append(out, GenerationChange{c.Path, c.Kind, c.Old, c.New, note})
		}
	}
	for _, r := range new.Removals {
		if _, ok := old.Removal(r.Path); ok {
			continue
		}
		if _, ok := old.Override(r.Path); !ok && r.Default != nil {
			out = append(out, GenerationChange{r.Path, tree.Deleted, r.Default, nil, "removal"})
		}
	}
	for _, r := range old.Removals {
		_, still := new.Removal(r.Path)
		if _, ok := new.Override(r.Path); !ok && !still && r.Default != nil {
			out = append(out, GenerationChange{r.Path, tree.Added, nil, r.Default, "released"})
		}
	}
	slices.SortFunc(out, func(a, b GenerationChange) int { return pathname.Compare(a.Path, b.Path) })
	return out
}

// Content reads the content of an entry of a kept generation, of an override or a default.
func (h History) Content(ctx context.Context, e *tree.Entry) (b []byte, err error) {
	err = h.reading(ctx, func(s *store.Store, base *store.Base) error {
		b, err = s.Content(e)
		if err != nil && base != nil && e.Kind == dirfd.KindFile {
			if d, ok := base.Tree.Get(e.Path); ok && d.Digest == e.Digest {
				b, err = base.Content(e)
			}
		}
		return err
	})
	return b, err
}

// Show returns a path as generation n had it, with its content. The entry is nil if that generation had
// removed it or never had it.
func (h History) Show(ctx context.Context, n int, p string) (e *tree.Entry, b []byte, err error) {
	err = h.reading(ctx, func(s *store.Store, base *store.Base) error {
		m, err := s.Generation(n)
		if err != nil {
			return fmt.Errorf("generation %d is not kept: %w", n, err)
		}
		if ov, ok := m.Override(p); ok {
			e = &ov.Entry
			if e.Kind != dirfd.KindDir {
				b, err = s.Content(e)
			}
			return err
		}
		if m.Removes(p) || base == nil {
			return nil
		}
		if e, err = base.Entry(p); err != nil || e == nil || e.Kind != dirfd.KindFile {
			return err
		}
		b, err = base.Content(e)
		return err
	})
	return e, b, err
}

// Reach lists the bases that cfg may have to go back to: its present one, those of the generations kept for
// the way back, and those of unresolved conflicts.
func (h History) Reach(ctx context.Context) (ids []string, err error) {
	err = h.reading(ctx, func(s *store.Store, _ *store.Base) error {
		ids = append(ids, s.Manifest.BaseID)
		for _, n := range s.Manifest.Merges {
			if m, err := s.Generation(n); err == nil {
				ids = append(ids, m.BaseID, m.From)
			}
		}
		for i := range s.Manifest.Conflicts {
			ids = append(ids, s.Manifest.Conflicts[i].From, s.Manifest.Conflicts[i].To)
		}
		return nil
	})
	return ids, err
}

// Before returns the id of cfg's base before the present one, "" if it is not known.
func (h History) Before(ctx context.Context) (id string, err error) {
	err = h.reading(ctx, func(s *store.Store, _ *store.Base) error {
		for _, n := range slices.Backward(s.Manifest.Merges) {
			m, err := s.Generation(n)
			if err != nil {
				return err
			}
			if m.From != s.Manifest.BaseID {
				id = m.From
				return nil
			}
		}
		return nil
	})
	return id, err
}

// Visible drops from a generation's changes the directories that the paths in them imply.
func (g LogEntry) Visible() []GenerationChange {
	var out []GenerationChange
	for i, c := range g.Changes {
		dir := c.New != nil && c.New.Kind == dirfd.KindDir || c.New == nil && c.Old.Kind == dirfd.KindDir
		if dir && !(c.Kind == tree.Added && c.New.Mode != tree.UsualDir) && c.Kind != tree.Mode &&
			c.Kind != tree.Type &&
			i+1 < len(g.Changes) &&
			pathname.Within(g.Changes[i+1].Path, c.Path) {
			continue
		}
		out = append(out, c)
	}
	return out
}
