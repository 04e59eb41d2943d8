// Package merge shows what two versions of a file differ in, and brings two versions together that were made of a third.
//
// It owns the text of a diff, and the three-way merge of text. What always holds: what a section of Write's output says,
// patch -E -p1 and git apply do, to the byte, on a copy of the old tree (without -E FreeBSD's patch leaves an empty file for
// one that was deleted); what their format does not hold is said in lines that begin with "#", which both of them skip; nothing of a secret's content, neither a line nor a size nor a digest, is in the output; the hunks are those of GNU
// diff -u, byte for byte; equal input gives equal output on every machine, and time and memory are bounded: what would take
// longer is said to differ, and no more.
//
// What those tools cannot do: patch(1) puts no directory where a file or a symlink was, and git apply refuses paths with
// a component ".git".
//
// Of a merge: what one side alone changed is taken from it, to the byte; what both changed, differently, is a conflict, of which no line is lost; the
// regions are those of GNU diff3.
//
// It works on bytes that it is given, in memory, and checks the syntax of a few files itself. It never reads or writes a file, runs a command, or
// knows where a tree stands; who runs a checker is jailhooks.
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
