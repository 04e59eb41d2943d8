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

// Digest is the SHA-256 of a file's content. It is zero if there is no content or it was not read.
type Digest [sha256.Size]byte

// String returns the digest as 64 hexadecimal digits, "" if it is zero.
func (d Digest) String() string {
	if d == (Digest{}) {
		return ""
	}
	return hex.EncodeToString(d[:])
}

// SumOf returns the digest of a content.
func SumOf(content []byte) Digest { return sha256.Sum256(content) }

// ParseDigest reads the form that String writes.
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
	Flags  uint32 // as chflags(1) sets them
	Size   int64  // bytes, of a file
	MTime  int64  // nanoseconds since 1970
	Digest Digest // of a file's content, zero if Unread
	Link   string // target of a symbolic link
	Xattrs string // all extended attributes in one comparable string, see PackXattrs

	// Unread says why the content of a file or the names in a directory are not known: the file is too large,
	// there is no permission, or it changed while it was read.
	Unread Reason
	// Unlisted says why some extended attributes are not known. Xattrs holds the others.
	Unlisted string
	// Excess says that Unlisted is due to size alone: the missing attributes are larger than what is kept for
	// a file or a tree. Only removing attributes mends that.
	Excess bool

	stamp stamp
}

// stamp is what a scan keeps of a file to decide whether to read its content again.
type stamp struct {
	ino    uint64
	ctime  int64
	nlink  uint32
	sparse bool
	fresh  bool // changed so shortly before the scan that the next change may get the same time
}

// Stamp shows whether a file changed between two scans: equal stamps mean that no change was seen.
type Stamp struct {
	ino          uint64
	ctime, mtime int64
	size         int64
}

// Stamp returns the entry's stamp.
func (e *Entry) Stamp() Stamp { return Stamp{e.stamp.ino, e.stamp.ctime, e.MTime, e.Size} }

// SameSince reports whether a file is certainly unchanged between the scan that found it and st.
func (e *Entry) SameSince(st dirfd.Stat) bool { return !e.stamp.fresh && Unmoved(e, st) }

// Ino returns the number of the entry's inode.
func (e *Entry) Ino() uint64 { return e.stamp.ino }

// Nlink returns how many names the entry's inode has. Some of them may be outside the tree.
func (e *Entry) Nlink() uint32 { return e.stamp.nlink }

// Sparse reports whether the file has holes.
func (e *Entry) Sparse() bool { return e.stamp.sparse }

// ClearStamp removes the inode and times of the scan, for an entry that describes a file to be made.
func (e *Entry) ClearStamp() { e.stamp = stamp{} }

// CTime returns the time of the entry's last change of any sort, in nanoseconds since 1970.
func (e *Entry) CTime() int64 { return e.stamp.ctime }

// SameContent compares content, not name or permissions.
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

// SameMeta compares owner, group, flags, extended attributes and, except for links, permission bits.
func (e *Entry) SameMeta(o *Entry, xattrs bool) bool {
	if e.UID != o.UID || e.GID != o.GID || e.Flags != o.Flags {
		return false
	}
	if e.Kind != dirfd.KindSymlink && e.Mode != o.Mode {
		return false
	}
	return !xattrs || e.Xattrs == o.Xattrs
}

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

// Reason says why something in a tree is not known. It is one of the constants or the text of an error.
type Reason string

// The reasons that the program tests. All others are only shown to people.
const (
	TooLarge  Reason = "larger than max_file"
	TooDeep   Reason = "directories nested too deep"
	MovedOn   Reason = "changed while it was read"
	elsewhere Reason = "another filesystem is mounted here"
)

// ErrMovedOn says that a file changed while it was read.
var ErrMovedOn = errors.New(string(MovedOn))

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

// UsualDir is the mode of a directory for which no mode is known.
const UsualDir = 0o755
