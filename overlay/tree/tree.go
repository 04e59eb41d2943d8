package tree

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sort"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

// Tree is what a scan found below a root, in the order of pathname.Compare: a directory, then what is in it.
type Tree struct {
	Entries []Entry
	// Skipped lists the names that were not read, each with the reason: another filesystem, nested too deep.
	Skipped []Skipped
	// NoXattrs is true if the filesystem has no extended attributes.
	NoXattrs bool
	// Root is the root directory's own metadata.
	Root Entry

	dev    uint64
	rootID uint64
}

// Skipped is a name that a scan left out, with the reason.
type Skipped struct {
	Path   string
	Reason Reason
}

// same reports whether two scans of a root found the same, stamps included.
func (t *Tree) same(o *Tree) bool {
	return t != nil && t.dev == o.dev && t.rootID == o.rootID && t.Root == o.Root &&
		t.NoXattrs == o.NoXattrs &&
		slices.Equal(t.Entries, o.Entries) &&
		slices.Equal(t.Skipped, o.Skipped)
}

// Get returns the entry at path. A nil tree has none.
func (t *Tree) Get(path string) (*Entry, bool) {
	if t == nil {
		return nil, false
	}
	i, ok := t.index(path)
	if !ok {
		return nil, false
	}
	return &t.Entries[i], true
}

// Has reports whether there is an entry at path.
func (t *Tree) Has(path string) bool {
	_, ok := t.Get(path)
	return ok
}

// Of reports whether the tree is a scan of this root.
func (t *Tree) Of(root dirfd.Stat) bool { return t.rootID == root.Ino && t.dev == root.Dev }

// index returns the index of the entry at path, or the index where it would be inserted.
func (t *Tree) index(path string) (int, bool) {
	return sort.Find(len(t.Entries), func(i int) int { return pathname.Compare(path, t.Entries[i].Path) })
}

// Below returns the entries below the directory at path, without the directory itself. For "" it returns all.
func (t *Tree) Below(path string) []Entry {
	if path == "" {
		return t.Entries
	}
	lo, hi := t.span(path)
	if lo < hi && t.Entries[lo].Path == path {
		lo++
	}
	return t.Entries[lo:hi]
}

// span returns the range of indices that holds path and all below it.
func (t *Tree) span(path string) (int, int) {
	lo := sort.Search(len(t.Entries),
		func(i int) bool { return pathname.Compare(t.Entries[i].Path, path) >= 0 })
	n := sort.Search(len(t.Entries)-lo,
		func(i int) bool { return !pathname.Within(t.Entries[lo+i].Path, path) })
	return lo, lo + n
}

// WhySkipped says why nothing is known of a path. It returns "" if the scan read it.
func (t *Tree) WhySkipped(path string) Reason {
	for _, k := range t.Skipped {
		if pathname.Within(path, k.Path) {
			return k.Reason
		}
	}
	return ""
}

// markUnread sets Unread on the directories that could not be read. What is mounted inside the tree is not a
// part of it, so a mount point is not marked.
func (t *Tree) markUnread() {
	for _, k := range t.Skipped {
		if e, ok := t.Get(k.Path); ok && k.Reason != elsewhere {
			e.Unread = k.Reason
		}
	}
}

// Unseen returns the skipped names whose content belongs to the tree but is not known. Mount points of other
// filesystems are not among them.
func (t *Tree) Unseen() (all []Skipped) {
	for _, k := range t.Skipped {
		if k.Reason != elsewhere {
			all = append(all, k)
		}
	}
	return all
}

// WithSavedXattrs returns a tree that can be saved although some attributes could not be read. Such an entry
// has the attributes that could be read, or the saved ones if none could. So the rest of it is saved, and no
// saved attribute is dropped.
func (t *Tree) WithSavedXattrs(saved *Tree) *Tree {
	if !slices.ContainsFunc(t.Entries, func(e Entry) bool { return e.Unlisted != "" }) {
		return t
	}
	out := *t
	out.Entries = slices.Clone(t.Entries)
	for i := range out.Entries {
		e := &out.Entries[i]
		if e.Unlisted == "" {
			continue
		}
		if s, ok := saved.Get(e.Path); ok && e.Xattrs == "" && s.Kind == e.Kind && !e.Excess {
			e.Xattrs = s.Xattrs
		}
		e.Unlisted, e.Excess = "", false
	}
	return &out
}

// AsRead returns a tree in which these files are as the scan read them, although they changed meanwhile.
func (t *Tree) AsRead(paths map[string]bool) *Tree {
	moved := func(e Entry) bool { return e.Unread == MovedOn && paths[e.Path] }
	if len(paths) == 0 || !slices.ContainsFunc(t.Entries, moved) {
		return t
	}
	out := *t
	out.Entries = slices.Clone(t.Entries)
	for i := range out.Entries {
		if moved(out.Entries[i]) {
			out.Entries[i].Unread = ""
		}
	}
	return &out
}

// Digest returns a digest of the whole tree: paths, kinds, permissions, owners and contents, but not times.
func (t *Tree) Digest() Digest {
	h := sha256.New()
	for i := range t.Entries {
		e := &t.Entries[i]
		mode := e.Mode
		if e.Kind == dirfd.KindSymlink {
			mode = 0
		}
		fmt.Fprintf(h, "%q %s %o %d %d %x %d %x %q\n", e.Path, e.Kind, mode, e.UID, e.GID, e.Flags,
			e.Size*isFile(e), e.Digest, e.Link)
	}
	return Digest(h.Sum(nil))
}

func isFile(e *Entry) int64 {
	if e.Kind == dirfd.KindFile {
		return 1
	}
	return 0
}

// Dirs lists the directories of the tree. The root is "".
func (t *Tree) Dirs() []string {
	dirs := []string{""}
	for i := range t.Entries {
		if t.Entries[i].Kind == dirfd.KindDir && t.WhySkipped(t.Entries[i].Path) == "" {
			dirs = append(dirs, t.Entries[i].Path)
		}
	}
	return dirs
}

// sortSkipped sorts by path and drops duplicates.
func sortSkipped(s []Skipped) []Skipped {
	slices.SortFunc(s, func(a, b Skipped) int { return pathname.Compare(a.Path, b.Path) })
	return slices.CompactFunc(s, func(a, b Skipped) bool { return a.Path == b.Path })
}
