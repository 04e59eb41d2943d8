package overlay

import (
	"slices"

	"cfgd/internal/pathname"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// lack is what the live filesystem refused of a file or directory when it was populated: attributes that do
// not fit on a memory disk with small blocks, or flags that ZFS does not have. Their absence in live is no
// edit. So a scan of live gets them from the saved tree, as long as the same file is there.
type lack struct {
	pathname.JSON
	Ino   uint64   `json:"ino"`
	Names [][]byte `json:"names,omitempty"` // names of attributes
	Flags uint32   `json:"flags,omitempty"`
}

func (l *lack) refused(name string) { l.Names = append(l.Names, []byte(name)) }

// withLacks returns a scan of live completed with what live can't hold. The same scan gives the same tree.
func (c *diffCache) withLacks(t *tree.Tree, lacks []lack) *tree.Tree {
	if len(lacks) == 0 && !t.NoXattrs {
		return t
	}
	if c.scanned != t {
		c.scanned, c.completed = t, completeTree(t, lacks, c.saved())
	}
	return c.completed
}

// completeTree returns a copy of the tree with what it lacks. If the filesystem has no attributes at all, as
// tmpfs(5) of FreeBSD 13, every entry gets those of the saved tree: nobody can have changed them, and an
// override must not look like the default because they are missing.
func completeTree(t *tree.Tree, lacks []lack, saved *tree.Tree) *tree.Tree {
	byIno := map[uint64][]lack{} // a file may lack both flags and attributes, and may have several names
	for _, l := range lacks {
		byIno[l.Ino] = append(byIno[l.Ino], l)
	}
	out := *t
	out.Entries = slices.Clone(t.Entries)
	out.NoXattrs = t.NoXattrs && saved.NoXattrs
	for i := range out.Entries {
		e := &out.Entries[i]
		if s, ok := saved.Get(e.Path); t.NoXattrs && ok && s.Kind == e.Kind {
			e.Xattrs = s.Xattrs
		}
		for _, l := range byIno[e.Ino()] {
			l.complete(e, saved)
		}
	}
	return &out
}

// complete adds to an entry what it lacks, if it is the file that lacks it or another name of it.
func (l *lack) complete(e *tree.Entry, saved *tree.Tree) {
	path, err := l.Name()
	s, ok := saved.Get(e.Path)
	if err != nil || path != e.Path && e.Nlink() < 2 || !ok || s.Kind != e.Kind {
		return
	}
	var names []string
	for _, n := range l.Names {
		names = append(names, string(n))
	}
	e.Flags |= s.Flags & l.Flags
	e.Xattrs = store.WithXattrs(e.Xattrs, s.Xattrs, names)
}
