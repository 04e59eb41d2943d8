package tree

import (
	"slices"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

// Removal is a path of base that cfg takes out, with all below it.
type Removal struct {
	Path string
	// MTime is the time that the removal left on its parent directory. It is used if cfg does not hold that
	// directory.
	MTime int64
	// Default is the entry of base that the removal took out, nil if it is not known.
	Default *Entry
}

// Saved returns the tree that the next start will produce: base with the plain tree of cfg laid over it and
// the removals taken out. Entries of cfg are copies; entries of base are shared with base.
func Saved(base, plain *Tree, removed []Removal) *Tree {
	t := &Tree{Root: base.Root, NoXattrs: base.NoXattrs || plain.NoXattrs}
	t.Entries = make([]Entry, 0, len(base.Entries)+len(plain.Entries))
	gone := make(map[string]bool, len(removed))
	times := map[string]int64{}
	for _, r := range removed {
		gone[r.Path] = true
		times[pathname.Parent(r.Path)] = max(times[pathname.Parent(r.Path)], r.MTime)
	}
	l := layer{tree: t, gone: gone}
	walkBoth(base, plain, l.add)
	for i := range t.Entries {
		e := &t.Entries[i]
		if m := times[e.Path]; m != 0 && e.Kind == dirfd.KindDir && !plain.Has(e.Path) {
			e.MTime = m
		}
	}
	if m := times[""]; m != 0 {
		t.Root.MTime = m
	}
	return t
}

// layer lays cfg's entries over those of base. Both come in path order.
type layer struct {
	tree   *Tree
	gone   map[string]bool
	closed string // base is hidden below this path
	isShut bool
}

func (l *layer) add(base, cfg *Entry) {
	if l.isShut && base != nil && !pathname.Within(base.Path, l.closed) {
		l.isShut = false
	}
	switch {
	case cfg != nil && (cfg.Kind != dirfd.KindDir || base == nil || base.Kind != dirfd.KindDir):
		l.tree.Entries = append(l.tree.Entries, *cfg)
		if base != nil {
			l.shut(base.Path)
		}
	case cfg != nil: // a directory in both: cfg's metadata, the names of both
		l.tree.Entries = append(l.tree.Entries, *cfg)
		if l.gone[cfg.Path] {
			l.shut(cfg.Path)
		}
	case l.isShut:
	case l.gone[base.Path]:
		l.shut(base.Path)
	case !base.Kind.Special():
		l.tree.Entries = append(l.tree.Entries, *base)
	}
}

// shut hides all of base below path, unless a directory above path is hidden already.
func (l *layer) shut(path string) {
	if !l.isShut {
		l.closed, l.isShut = path, true
	}
}

// CompactRemovals sorts removals and drops each one that lies below another.
func CompactRemovals(removed []Removal) []Removal {
	slices.SortFunc(removed, func(a, b Removal) int { return pathname.Compare(a.Path, b.Path) })
	out := removed[:0]
	for _, r := range removed {
		if len(out) > 0 && pathname.Within(r.Path, out[len(out)-1].Path) {
			continue
		}
		out = append(out, r)
	}
	return out
}
