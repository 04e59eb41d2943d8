package tree

import (
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

// ChangeKind says how a path differs between two trees.
type ChangeKind uint8

// The kinds of change. Type means another kind of file. Mode means that permissions, owner, group, flags or
// attributes differ and the content does not.
const (
	Added ChangeKind = iota + 1
	Modified
	Deleted
	Type
	Mode
)

var changeWords = [...]string{"", "added", "modified", "deleted", "type", "mode"}
var changeLetters = [...]string{"", "A", "M", "D", "T", "P"}

// String returns the word of JSON output.
func (k ChangeKind) String() string { return changeWords[k] }

// Letter returns the letter of --name-status.
func (k ChangeKind) Letter() string { return changeLetters[k] }

// Change is a path that differs between an old and a new tree.
type Change struct {
	Path string
	Kind ChangeKind
	Old  *Entry // nil where added
	New  *Entry // nil where deleted
}

// Kind returns the new kind, or the old kind if the path is gone.
func (c Change) FileKind() dirfd.Kind {
	if c.New != nil {
		return c.New.Kind
	}
	return c.Old.Kind
}

// Delta lists what differs between two trees, in path order. Times alone are not a difference. If a directory
// was added or deleted, it and all below it are listed.
func Delta(old, new *Tree) []Change {
	var out []Change
	xattrs := !old.NoXattrs && !new.NoXattrs
	walkBoth(old, new, func(a, b *Entry) {
		if c, ok := CompareEntries(a, b, xattrs); ok {
			out = append(out, c)
		}
	})
	return out
}

// walkBoth calls f for each path of either tree with its two entries, nil where a tree lacks it.
func walkBoth(old, new *Tree, f func(a, b *Entry)) {
	a, b := old.Entries, new.Entries
	for len(a) > 0 || len(b) > 0 {
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = pathname.Compare(a[0].Path, b[0].Path)
		}
		switch {
		case order < 0:
			f(&a[0], nil)
			a = a[1:]
		case order > 0:
			f(nil, &b[0])
			b = b[1:]
		default:
			f(&a[0], &b[0])
			a, b = a[1:], b[1:]
		}
	}
}

// CompareEntries returns how a differs from b, and false if it does not. Either may be nil, but not both.
// xattrs says whether extended attributes are compared.
func CompareEntries(a, b *Entry, xattrs bool) (Change, bool) {
	switch {
	case a == nil:
		return Change{b.Path, Added, nil, b}, true
	case b == nil:
		return Change{a.Path, Deleted, a, nil}, true
	case a.Kind != b.Kind:
		return Change{a.Path, Type, a, b}, true
	case !a.SameContent(b):
		return Change{a.Path, Modified, a, b}, true
	case !a.SameMeta(b, xattrs),
		b.Unlisted != "",
		b.Kind == dirfd.KindDir && b.Unread != "" && a.Unread == "":
		return Change{a.Path, Mode, a, b}, true // what is not known is never called equal
	}
	return Change{}, false
}
