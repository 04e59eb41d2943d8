package store

import (
	"slices"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

const (
	maxMerges   = 4        // merges whose generations are kept
	MaxManifest = 32 << 20 // bytes; reading one takes about twenty times as much memory
)

// Manifest describes one generation of a store: what cfg adds, replaces and takes out, and against which
// base.
type Manifest struct {
	Generation int
	Time       time.Time
	BaseID     string // the base that the overrides were first made against or last merged with
	From       string // the base before, if this generation is a merge
	Message    string

	Overrides []Override     // in path order
	Removals  []tree.Removal // in path order
	Conflicts []Conflict     // conflicts that nobody has resolved, in path order
	// paths that stay overrides even if they equal base, with all below them, in path order
	Pins []string
	// Merges are the numbers of the last generations that were merges, oldest first. Each one and the
	// generation before it are kept as long as there is room, for the way back to the earlier base.
	Merges []int
	// HandEdits are paths that were changed by hand in the plain tree and that live has not taken yet, in
	// path order. A save leaves them alone, so that neither version is lost unseen.
	HandEdits []string
	// Refused are names of extended attributes that the filesystem of cfg refused, by path, joined by NUL.
	// The files in cfg lack them; they come from the override or from base.
	Refused map[string]string
}

// Override is a path that cfg adds or replaces.
type Override struct {
	tree.Entry
	// Default is what the override replaced in base when it was made or last merged. It is nil if base had
	// nothing there or it is not known. While a conflict is not resolved, it is still the earlier default.
	Default *tree.Entry
}

// Conflict is a path that a merge could not settle, because the default and the saved file were both changed,
// and differently. The merge takes one of the two, so that a start never fails because of it. Both stay in
// the store until somebody resolves the conflict.
type Conflict struct {
	Path     string
	From, To string            // ids of the two bases that were merged
	Taken    config.OnConflict // whose version is in cfg and live
	Why      string            // an explanation, without secrets

	Old    *tree.Entry // the default that Mine was made from; nil if there was none or it is not known
	Mine   *tree.Entry // the saved version; nil if it has nothing there
	Theirs *tree.Entry // the new default; nil if it has nothing there
	Text   *tree.Entry // a file with both versions between markers; nil if they are not text
}

// Clone returns a copy that can be edited.
func (m *Manifest) Clone() *Manifest {
	c := *m
	c.Overrides, c.Removals = slices.Clone(m.Overrides), slices.Clone(m.Removals)
	c.Conflicts, c.Pins = slices.Clone(m.Conflicts), slices.Clone(m.Pins)
	return &c
}

// Override returns the override at path.
func (m *Manifest) Override(path string) (*Override, bool) {
	i, ok := slices.BinarySearchFunc(m.Overrides, path,
		func(o Override, p string) int { return pathname.Compare(o.Path, p) })
	if !ok {
		return nil, false
	}
	return &m.Overrides[i], true
}

// Removal returns the removal of exactly that path.
func (m *Manifest) Removal(path string) (*tree.Removal, bool) {
	i, ok := slices.BinarySearchFunc(m.Removals, path,
		func(r tree.Removal, p string) int { return pathname.Compare(r.Path, p) })
	if !ok {
		return nil, false
	}
	return &m.Removals[i], true
}

// Pinned reports whether a path, or a directory above it, is pinned.
func (m *Manifest) Pinned(path string) bool {
	for ; len(m.Pins) > 0 && path != ""; path = pathname.Parent(path) {
		if _, ok := slices.BinarySearchFunc(m.Pins, path, pathname.Compare); ok {
			return true
		}
	}
	return false
}

// StandsOn returns the base id of the next generation, which is made on the base now. If cfg holds overrides
// or removals, the old base id stays, so that the next populate merges them.
func (m *Manifest) StandsOn(now string) string {
	if m.BaseID == "" || len(m.Overrides)+len(m.Removals) == 0 {
		return now
	}
	return m.BaseID
}

// HandEdited reports whether a path is one of HandEdits.
func (m *Manifest) HandEdited(path string) bool {
	_, ok := slices.BinarySearchFunc(m.HandEdits, path, pathname.Compare)
	return ok
}

// wayBack reports whether a generation is kept for the way back to an earlier base.
func (m *Manifest) wayBack(n int) bool {
	return slices.Contains(m.Merges, n) || slices.Contains(m.Merges, n+1)
}

// WithMerge returns Merges of the next generation if that is a merge.
func (m *Manifest) WithMerge() []int {
	all := append(slices.Clone(m.Merges), m.Generation+1)
	return all[max(0, len(all)-maxMerges):]
}

// Removes reports whether a removal of the path itself or of a directory above it takes it out of base.
func (m *Manifest) Removes(p string) bool {
	for ; p != ""; p = pathname.Parent(p) {
		if _, ok := m.Removal(p); ok {
			return true
		}
	}
	return false
}

// Saved returns what the saved tree of the manifest has at a path, nil for nothing.
func (m *Manifest) Saved(base *tree.Tree, path string) *tree.Entry {
	if o, ok := m.Override(path); ok {
		return &o.Entry
	}
	if m.Removes(path) {
		return nil
	}
	e, _ := base.Get(path)
	return e
}

// ConflictAt returns the unresolved conflict at path.
func (m *Manifest) ConflictAt(path string) (*Conflict, bool) {
	i, ok := slices.BinarySearchFunc(m.Conflicts, path,
		func(c Conflict, p string) int { return pathname.Compare(c.Path, p) })
	if !ok {
		return nil, false
	}
	return &m.Conflicts[i], true
}

// entries returns all versions of a conflict; some may be nil.
func (c *Conflict) entries() []*tree.Entry { return []*tree.Entry{c.Old, c.Mine, c.Theirs, c.Text} }

// refers reports whether a version of the conflict has the content of e.
func (c *Conflict) refers(e *tree.Entry) bool {
	return e != nil &&
		slices.ContainsFunc(c.entries(), func(x *tree.Entry) bool { return x != nil && x.Digest == e.Digest })
}

// TakenEntry returns the version that the merge put in place.
func (c *Conflict) TakenEntry() *tree.Entry {
	if c.Taken == config.ConflictTheirs {
		return c.Theirs
	}
	return c.Mine
}

// refuse records what the filesystem refused of an override: names joined by NUL, "" for nothing.
func (m *Manifest) refuse(path, names string) {
	switch {
	case names == "":
		delete(m.Refused, path)
	case m.Refused == nil:
		m.Refused = map[string]string{path: names}
	default:
		m.Refused[path] = names
	}
}

// complete adds to an entry of the plain tree what cfg's filesystem can't hold: flags, and attributes that it
// refuses or can't read. They come from the override, or from base for a directory that only holds others.
func (m *Manifest) complete(e, from *tree.Entry, noXattrs bool) {
	e.Flags = from.Flags
	switch names := m.Refused[e.Path]; {
	case noXattrs, e.Unlisted != "":
		e.Xattrs, e.Unlisted, e.Excess = from.Xattrs, "", false
	case names != "" && e.Kind == from.Kind:
		e.Xattrs = tree.WithXattrs(e.Xattrs, from.Xattrs, strings.Split(names, "\x00"))
	}
}

// refers lists every entry whose content a generation needs: overrides, the defaults under them, all versions
// of conflicts.
func (m *Manifest) refers() []*tree.Entry {
	var all []*tree.Entry
	for i := range m.Overrides {
		all = append(all, &m.Overrides[i].Entry, m.Overrides[i].Default)
	}
	for i := range m.Removals {
		all = append(all, m.Removals[i].Default)
	}
	for i := range m.Conflicts {
		all = append(all, m.Conflicts[i].entries()...)
	}
	return slices.DeleteFunc(all, func(e *tree.Entry) bool { return e == nil })
}

// WithManifest returns a plain tree completed from the manifest. A directory that only holds others gets
// base's flags, and the attributes that cfg's filesystem can't hold.
func WithManifest(base, plain *tree.Tree, m *Manifest) *tree.Tree {
	t := *plain
	t.NoXattrs = false // the manifest has the attributes
	t.Entries = append([]tree.Entry(nil), plain.Entries...)
	for i := range t.Entries {
		e := &t.Entries[i]
		if o, ok := m.Override(e.Path); ok {
			m.complete(e, &o.Entry, plain.NoXattrs)
		} else if b, ok := base.Get(e.Path); ok && e.Kind == dirfd.KindDir && b.Kind == dirfd.KindDir {
			m.complete(e, b, plain.NoXattrs)
		}
	}
	return &t
}

// Plain returns the plain tree of a manifest: its overrides and the directories around them. Those
// directories are as in base, but with the times that they have in the present plain tree. A directory that
// base no longer has stays as in the present one.
func (m *Manifest) Plain(base, plain *tree.Tree) *tree.Tree {
	t := &tree.Tree{NoXattrs: plain.NoXattrs}
	around := map[string]bool{}
	for i := range m.Overrides {
		e := m.Overrides[i].Entry
		for p := pathname.Parent(e.Path); p != "" && !around[p]; p = pathname.Parent(p) {
			around[p] = true
			if _, ok := m.Override(p); !ok {
				t.Entries = append(t.Entries, dirAround(p, base, plain))
			}
		}
		t.Entries = append(t.Entries, e)
	}
	slices.SortFunc(t.Entries, func(a, b tree.Entry) int { return pathname.Compare(a.Path, b.Path) })
	return t
}

func dirAround(p string, base, plain *tree.Tree) tree.Entry {
	have, inCfg := plain.Get(p)
	inCfg = inCfg && have.Kind == dirfd.KindDir
	if b, ok := base.Get(p); ok && b.Kind == dirfd.KindDir {
		d := *b
		if inCfg {
			d.MTime = have.MTime
		}
		return d
	}
	if inCfg {
		return *have
	}
	return tree.Entry{Path: p, Kind: dirfd.KindDir, Mode: tree.UsualDir}
}

// Compare is tree.CompareEntries for entries that may both be nil.
func Compare(a, b *tree.Entry, xattrs bool) (tree.Change, bool) {
	if a == nil && b == nil {
		return tree.Change{}, false
	}
	return tree.CompareEntries(a, b, xattrs)
}

// Differ reports whether two entries differ. Either or both may be nil.
func Differ(a, b *tree.Entry, xattrs bool) bool {
	_, d := Compare(a, b, xattrs)
	return d
}

// Same reports whether content and metadata are equal.
func Same(a, b *tree.Entry, xattrs bool) bool { return a.SameContent(b) && a.SameMeta(b, xattrs) }

// plainEntry returns an entry as the plain tree can hold it: without flags.
func plainEntry(e *tree.Entry) *tree.Entry {
	c := *e
	c.Flags = 0
	return &c
}
