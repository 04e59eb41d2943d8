package tree

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"cfgd/internal/dirfd"
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

// Reason says why something in a tree is not known. It is one of the constants or the text of an error.
type Reason string

// The reasons that the program tests. All others are only shown to people.
const (
	TooLarge Reason = "larger than max_file"
	TooDeep  Reason = "directories nested too deep"
	MovedOn  Reason = "changed while it was read"
	// ByClass is the reason of what is reported and never saved, by its class.
	ByClass   Reason = "class report"
	elsewhere Reason = "another filesystem is mounted here"
)

// ErrMovedOn says that a file changed while it was read.
var ErrMovedOn = errors.New(string(MovedOn))

// UsualDir is the mode of a directory for which no mode is known.
const UsualDir = 0o755

// NotSame reports whether an error means that a name is not what it was a moment ago: a link in place of a
// directory or file (EMLINK on FreeBSD), a fifo in place of a file.
func NotSame(err error) bool {
	return errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EMLINK) ||
		errors.Is(err, dirfd.ErrNotRegular)
}

// Privileged reports whether the process can set owners. Otherwise owners are not compared.
var Privileged = os.Geteuid() == 0

// OwnIDs returns the user and group of the process.
func OwnIDs() (uid, gid uint32) { return uint32(os.Geteuid()), uint32(os.Getegid()) }

// EntryOf returns the entry for a stat, without content and attributes.
func EntryOf(path string, st dirfd.Stat) Entry {
	e := Entry{
		Path:  path,
		Kind:  st.Kind,
		Mode:  st.Mode,
		UID:   st.UID,
		GID:   st.GID,
		Flags: st.Flags,
		MTime: st.MTime,
	}
	if !Privileged { // an ordinary user's copies belong to that user, so owners are no difference
		e.UID, e.GID = OwnIDs()
	}
	if st.Kind == dirfd.KindFile {
		e.Size = st.Size
	}
	e.stamp = stamp{
		ino:    st.Ino,
		ctime:  st.CTime,
		nlink:  uint32(min(st.Nlink, 1<<31)),
		sparse: st.Blocks*512 < st.Size,
	}
	return e
}
