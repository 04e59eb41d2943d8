// Package merge merges two versions that were made from a third, and shows how two versions differ.
//
// It has three layers. Text merges by lines, and Accounts merges account files by entry and field (three.go,
// accounts.go). A Merger merges the entries of a generation of cfg with another base: content, mode, owner,
// flags and attributes, each by itself (run.go, outcome.go, entry.go). It also restores what belonged to an
// earlier base (prior.go, revert.go), and rebuilds the databases of merged files (derive.go). Write shows
// two versions as a unified diff (write.go).
//
// A merge takes what only one side changed, byte for byte. What both sides changed differently is a
// conflict, and no line of either is lost. The regions are those of GNU diff3. A key or certificate is never
// merged by lines.
//
// A diff does exactly what it says when patch -E -p1 or git apply applies it to a copy of the old tree.
// (Without -E FreeBSD's patch leaves an empty file in place of a deleted one.) What the format cannot
// express is in lines that begin with "#", which both programs skip. The hunks are those of GNU diff -u,
// byte for byte. The output holds nothing of a secret's content: no line, size or digest. Two limits remain:
// patch(1) puts no directory where a file or a symlink was, and git apply refuses paths with a component
// ".git".
//
// All work is done in memory, within bounds of time and memory. Equal input gives equal output on every
// machine. The caller's functions read the contents. The package writes no file and runs no command; the
// caller's Tools run checkers.
package merge

import (
	"bytes"
	"errors"
	"io/fs"
	"strconv"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// Kind is the type of a file in a word: one of the constants, or another such as "fifo".
type Kind string

// The kinds whose changes a diff can express, and directories.
const (
	File    Kind = "file"
	Symlink Kind = "symlink"
	Dir     Kind = "dir"
)

// Side is one side of a comparison.
type Side struct {
	Label   string // what is put before the path in headers: "base", "saved", "live"
	Exists  bool   // if false, all but Label is ignored
	Kind    Kind
	Mode    uint32 // permission bits, 07777
	Owner   string // user and group as they are shown, "root:wheel" or "0:0"; "" if not known
	Flags   string // as chflags(1) prints them, such as "schg", or ""
	Content []byte // of a file; for a symlink its target
	Omitted string // why Content is missing, such as "larger than 4m"; "" if it is not
	Size    int64  // bytes, if Content is omitted
	Digest  string // of the content, as it is shown; if a content is omitted, digests decide what is equal
}

// Change is a path whose two sides differ.
type Change struct {
	Target, Path string
	Unsaved      bool // a restart would lose it
	Secret       bool // its contents must not be shown
	Old, New     Side
	Notes        []string // more "#" lines; the caller must keep secrets out of them
}

// same reports whether two sides have equal contents, as far as is known.
func same(a, b Side) bool {
	switch {
	case a.Omitted == "" && b.Omitted == "":
		return bytes.Equal(a.Content, b.Content)
	case a.Digest == "" || b.Digest == "":
		return false
	}
	return a.Digest == b.Digest
}

// Binary reports whether a content is not text. Like git and GNU diff, it looks for a NUL in the first 8000
// bytes.
func Binary(content []byte) bool {
	return bytes.IndexByte(content[:min(len(content), 8000)], 0) >= 0
}

// SideOf returns an entry as one side of a comparison; nil is no entry. read reads its content. The
// content of a secret is not read.
func SideOf(
	e *tree.Entry, label string, secret bool, read func(*tree.Entry, string) ([]byte, error),
) (Side, error) {
	s := Side{Label: label}
	if e == nil {
		return s, nil
	}
	s.Exists, s.Kind, s.Mode, s.Size = true, Kind(e.Kind.String()), e.Mode, e.Size
	s.Owner = strconv.Itoa(int(e.UID)) + ":" + strconv.Itoa(int(e.GID))
	s.Flags, s.Digest = dirfd.FlagNames(e.Flags), e.Digest.String()
	switch {
	case e.Kind == dirfd.KindSymlink:
		s.Content = []byte(e.Link)
	case e.Kind != dirfd.KindFile:
	case secret:
		s.Omitted = "secret"
	case e.Unread != "":
		s.Omitted = string(e.Unread)
	default:
		b, err := read(e, label)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, dirfd.ErrNotRegular):
			s.Omitted = "no longer there"
		case err != nil:
			return s, err
		default:
			s.Content = b
		}
	}
	return s, nil
}
