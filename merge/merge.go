// Package merge brings two versions together that were made of a third, and shows what two versions differ in.
//
// It has three layers. Text merges by lines, and Accounts merges account files by entry and field (three.go,
// accounts.go). A Merger merges the entries of a generation of cfg with another base: content, mode, owner, flags and
// attributes each on its own (outcome.go, entry.go), with what a way back to an earlier base brings along (prior.go) and
// the databases that are made of merged files (derive.go). Write shows two versions as a unified diff (write.go).
//
// A merge takes what one side alone changed, to the byte. What both sides changed differently is a conflict, and no line
// of either is lost. The regions are those of GNU diff3. A key or certificate is never merged by lines.
//
// A diff does, with patch -E -p1 or git apply on a copy of the old tree, just what it says. (Without -E FreeBSD's patch
// leaves an empty file for one that was deleted.) What the format cannot hold stands in lines that begin with "#", which
// both programs skip. The hunks are those of GNU diff -u, byte for byte. Nothing of a secret's content, neither a line
// nor a size nor a digest, is in the output. patch(1) puts no directory where a file or a symlink was, and git apply
// refuses paths with a component ".git".
//
// Everything is computed in memory, within bounds of time and memory, and equal input gives equal output on every
// machine. Contents come through functions that the caller gives. The package writes no file and runs no command; the
// caller's Tools run checkers.
package merge

import "bytes"

// Kind is the type of a file in a word: one of the constants, or what else it is, such as "fifo".
type Kind string

// The kinds whose changes a diff can hold, and directories.
const (
	File    Kind = "file"
	Symlink Kind = "symlink"
	Dir     Kind = "dir"
)

// Side is one side of a comparison.
type Side struct {
	Label   string // what stands before the path in headers: "base", "saved", "live"
	Exists  bool   // if not, all but Label is ignored
	Kind    Kind
	Mode    uint32 // permission bits, 07777
	Owner   string // user and group as they are to be shown, "root:wheel" or "0:0"; "" where nobody knows
	Flags   string // of chflags(1), "" or as "schg"
	Content []byte // of a file; the target of a symlink
	Omitted string // why Content is not there, "larger than 4m"; "" where it is
	Size    int64  // of an omitted content, in bytes
	Digest  string // of the content, as it is to be shown; it decides what is equal where a content is omitted
}

// Change is a path whose two sides differ.
type Change struct {
	Target, Path string
	Unsaved      bool // a restart would lose it
	Secret       bool // its contents are not for the reader's eyes
	Old, New     Side
	Notes        []string // more to be said in # lines; the caller answers for their words
}

// same reports whether two sides have equal contents, as far as that is known.
func same(a, b Side) bool {
	switch {
	case a.Omitted == "" && b.Omitted == "":
		return bytes.Equal(a.Content, b.Content)
	case a.Digest == "" || b.Digest == "":
		return false
	}
	return a.Digest == b.Digest
}

// Binary reports whether a content is not text: a NUL is among its first 8000 bytes, as git and GNU diff have it.
func Binary(content []byte) bool {
	return bytes.IndexByte(content[:min(len(content), 8000)], 0) >= 0
}
