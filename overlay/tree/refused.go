package tree

import (
	"slices"

	"cfgd/internal/pathname"
)

// Refused is what a filesystem refused of a file or directory that was copied to it: attributes that do not
// fit on a memory disk with small blocks, or flags that ZFS does not have. Their absence there is no edit. It
// stands in the record of a live tree.
type Refused struct {
	pathname.JSON
	Ino   uint64   `json:"ino"`
	Names [][]byte `json:"names,omitempty"` // names of attributes
	Flags uint32   `json:"flags,omitempty"`
}

func (r *Refused) add(name string) { r.Names = append(r.Names, []byte(name)) }

// WithRefused returns a scan of live completed with what live's filesystem refused, as long as the same file
// is there. If the filesystem has no attributes at all, as tmpfs(5) of FreeBSD 13, every entry gets those of
// the saved tree: nobody can have changed them, and an override must not look like the default because they
// are missing.
func (t *Tree) WithRefused(refused []Refused, saved *Tree) *Tree {
	byIno := map[uint64][]Refused{} // a file may lack both flags and attributes, and may have several names
	for _, r := range refused {
		byIno[r.Ino] = append(byIno[r.Ino], r)
	}
	out := *t
	out.Entries = slices.Clone(t.Entries)
	out.NoXattrs = t.NoXattrs && saved.NoXattrs
	for i := range out.Entries {
		e := &out.Entries[i]
		if s, ok := saved.Get(e.Path); t.NoXattrs && ok && s.Kind == e.Kind {
			e.Xattrs = s.Xattrs
		}
		for _, r := range byIno[e.Ino()] {
			r.complete(e, saved)
		}
	}
	return &out
}

// complete adds to an entry what was refused of it, if it is the same file or another name of it.
func (r *Refused) complete(e *Entry, saved *Tree) {
	path, err := r.Name()
	s, ok := saved.Get(e.Path)
	if err != nil || path != e.Path && e.Nlink() < 2 || !ok || s.Kind != e.Kind {
		return
	}
	var names []string
	for _, n := range r.Names {
		names = append(names, string(n))
	}
	e.Flags |= s.Flags & r.Flags
	e.Xattrs = WithXattrs(e.Xattrs, s.Xattrs, names)
}
