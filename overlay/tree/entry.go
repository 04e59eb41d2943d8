package tree

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

// Digest is the SHA-256 of a file's content; zero for what has no content or was not read.
type Digest [sha256.Size]byte

// String is the digest in 64 hexadecimal digits, "" for zero.
func (d Digest) String() string {
	if d == (Digest{}) {
		return ""
	}
	return hex.EncodeToString(d[:])
}

// SumOf is the digest of a content.
func SumOf(content []byte) Digest { return sha256.Sum256(content) }

// ParseDigest reads String's form back.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if s == "" {
		return d, nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) {
		return d, fmt.Errorf("digest %q: not 64 hexadecimal digits", s)
	}
	copy(d[:], b)
	return d, nil
}

// Entry is one name of a tree.
type Entry struct {
	Path   string // below the root, components separated by slashes
	Kind   dirfd.Kind
	Mode   uint32 // permission bits, 07777
	UID    uint32
	GID    uint32
	Flags  uint32 // of chflags(1)
	Size   int64  // of a file, in bytes
	MTime  int64  // nanoseconds since 1970
	Digest Digest // of a file's content, unless Unread
	Link   string // target of a symbolic link
	Xattrs string // all extended attributes in one comparable string, see packXattrs

	// Unread says why the content of a file, or what is in a directory, is not known: too large, no
	// permission, changing while it was read.
	Unread Reason
	// Unlisted says why not all extended attributes are known. Xattrs has those that are.
	Unlisted string
	// Excess says that Unlisted is a matter of size alone: the attributes that are not known are larger than what is
	// kept of a file or tree. Nothing but removing them mends that.
	Excess bool

	stamp stamp
}

// stamp is what a scan remembers of a file to know whether its content has to be read again.
type stamp struct {
	ino    uint64
	ctime  int64
	nlink  uint32
	sparse bool
	fresh  bool // changed so short a time before the look that the next change may bear the same time
}

// Stamp tells whether a file moved on between two looks: equal stamps of two looks say that nothing was seen to happen.
type Stamp struct {
	ino          uint64
	ctime, mtime int64
	size         int64
}

// Stamp is the entry's stamp.
func (e *Entry) Stamp() Stamp { return Stamp{e.stamp.ino, e.stamp.ctime, e.MTime, e.Size} }

// SameSince reports whether a file that was found by a scan cannot have changed between that and st.
func (e *Entry) SameSince(st dirfd.Stat) bool { return !e.stamp.fresh && Unmoved(e, st) }

// Ino is the number of the entry's inode.
func (e *Entry) Ino() uint64 { return e.stamp.ino }

// Nlink is how many names the entry's inode has, some of them perhaps outside of the tree.
func (e *Entry) Nlink() uint32 { return e.stamp.nlink }

// Sparse reports whether the file has holes.
func (e *Entry) Sparse() bool { return e.stamp.sparse }

// ClearStamp forgets which inode the entry was found at: of an entry that describes what is to be made.
func (e *Entry) ClearStamp() { e.stamp = stamp{} }

// CTime is when the entry was last changed in any way, in nanoseconds since 1970.
func (e *Entry) CTime() int64 { return e.stamp.ctime }

// SameContent compares what a file holds, not its name or permissions.
func (e *Entry) SameContent(o *Entry) bool {
	if e.Kind != o.Kind {
		return false
	}
	switch e.Kind {
	case dirfd.KindFile:
		if e.Unread != "" || o.Unread != "" {
			return e.Size == o.Size && e.MTime == o.MTime
		}
		return e.Size == o.Size && e.Digest == o.Digest
	case dirfd.KindSymlink:
		return e.Link == o.Link
	}
	return true
}

// SameMeta compares owner, group, flags, extended attributes and, but for links, permission bits.
func (e *Entry) SameMeta(o *Entry, xattrs bool) bool {
	if e.UID != o.UID || e.GID != o.GID || e.Flags != o.Flags {
		return false
	}
	if e.Kind != dirfd.KindSymlink && e.Mode != o.Mode {
		return false
	}
	return !xattrs || e.Xattrs == o.Xattrs
}

// Tree is what a scan found below a root, in pathname.Compare's order: a directory's entries follow it.
type Tree struct {
	Entries []Entry
	// Skipped are names that were not looked into, with the reason: another filesystem, nested too deep.
	Skipped []Skipped
	// NoXattrs is true where the filesystem holds no extended attributes.
	NoXattrs bool
	// Root is the root directory's own metadata.
	Root Entry

	dev    uint64
	rootID uint64
}

// Skipped is a name that a scan left out, and why.
type Skipped struct {
	Path   string
	Reason Reason
}

// Reason says why something of a tree is not known: one of the constants, or the words of an error.
type Reason string

// The reasons that decide something. Others are for people alone.
const (
	TooLarge  Reason = "larger than max_file"
	TooDeep   Reason = "directories nested too deep"
	MovedOn   Reason = "changed while it was read"
	elsewhere Reason = "another filesystem is mounted here"
)

// ErrMovedOn says that a file changed while it was read.
var ErrMovedOn = errors.New(string(MovedOn))

// same reports whether two scans of a root found the same in everything, stamps too.
func (t *Tree) same(o *Tree) bool {
	return t != nil && t.dev == o.dev && t.rootID == o.rootID && t.Root == o.Root && t.NoXattrs == o.NoXattrs &&
		slices.Equal(t.Entries, o.Entries) && slices.Equal(t.Skipped, o.Skipped)
}

// Get returns the entry at path; no tree (nil) has none.
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

// index is where the entry at path is, or would be.
func (t *Tree) index(path string) (int, bool) {
	return sort.Find(len(t.Entries), func(i int) int { return pathname.Compare(path, t.Entries[i].Path) })
}

// Below returns the entries below the directory at path, without itself; all of them for "".
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

// span is the range of indices of path and all below it.
func (t *Tree) span(path string) (int, int) {
	lo := sort.Search(len(t.Entries), func(i int) bool { return pathname.Compare(t.Entries[i].Path, path) >= 0 })
	n := sort.Search(len(t.Entries)-lo, func(i int) bool { return !pathname.Within(t.Entries[lo+i].Path, path) })
	return lo, lo + n
}

// WhySkipped says why nothing is known of a path, "" where the scan looked at it.
func (t *Tree) WhySkipped(path string) Reason {
	for _, k := range t.Skipped {
		if pathname.Within(path, k.Path) {
			return k.Reason
		}
	}
	return ""
}

// markUnread says of the directories that could not be looked into that what is in them is not known. What is
// mounted in the tree is no part of it.
func (t *Tree) markUnread() {
	for _, k := range t.Skipped {
		if e, ok := t.Get(k.Path); ok && k.Reason != elsewhere {
			e.Unread = k.Reason
		}
	}
}

// Unseen are the skipped names but for those where another filesystem is mounted: of them is not known what
// the tree holds.
func (t *Tree) Unseen() (all []Skipped) {
	for _, k := range t.Skipped {
		if k.Reason != elsewhere {
			all = append(all, k)
		}
	}
	return all
}

// WithSavedXattrs is the tree in which a file or directory of which not all attributes could be read has those that
// could. Where none could it has those that are saved. So the rest of it is saved, and nothing saved goes.
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

// Digest names the whole tree: paths, kinds, permissions, owners and contents, not times.
func (t *Tree) Digest() Digest {
	h := sha256.New()
	for i := range t.Entries {
		e := &t.Entries[i]
		mode := e.Mode
		if e.Kind == dirfd.KindSymlink {
			mode = 0
		}
		fmt.Fprintf(h, "%q %s %o %d %d %x %d %x %q\n", e.Path, e.Kind, mode, e.UID, e.GID, e.Flags, e.Size*isFile(e), e.Digest, e.Link)
	}
	return Digest(h.Sum(nil))
}

func isFile(e *Entry) int64 {
	if e.Kind == dirfd.KindFile {
		return 1
	}
	return 0
}

// Dirs lists the directories of the tree, the root as "".
func (t *Tree) Dirs() []string {
	dirs := []string{""}
	for i := range t.Entries {
		if t.Entries[i].Kind == dirfd.KindDir && t.WhySkipped(t.Entries[i].Path) == "" {
			dirs = append(dirs, t.Entries[i].Path)
		}
	}
	return dirs
}

// UsualDir are the permissions of a directory of which nothing is said.
const UsualDir = 0o755
