package tree

import (
	"slices"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

// Removal is a path of base that cfg takes out, with all below it.
type Removal struct {
	Path string
	// MTime is the time that the removal left on the directory around it, for directories that cfg itself does not hold.
	MTime int64
	// Default is the entry of base that the removal took out, nil where it is not known.
	Default *Entry
}

// Saved is the tree that the next start will produce: base with the plain tree of cfg laid over it and the removals taken out.
// Entries of cfg stand for themselves; those of base are shared with it.
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

// layer lays cfg's entries over those of base, met in path order.
type layer struct {
	tree   *Tree
	gone   map[string]bool
	closed string // what is below this path of base does not show
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
	case cfg != nil: // a directory in both: cfg's metadata, both contents
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

// shut hides all of base below path, unless a path above it is hidden already.
func (l *layer) shut(path string) {
	if !l.isShut {
		l.closed, l.isShut = path, true
	}
}

// CompactRemovals sorts removals and drops those below another.
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
