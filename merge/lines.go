package merge

import (
	"bytes"
	"errors"
)

var newline = []byte("\n")

// lines cuts a text after each newline. The last line may lack one.
func lines(text []byte) [][]byte {
	l := bytes.SplitAfter(text, newline)
	if len(l[len(l)-1]) == 0 {
		l = l[:len(l)-1]
	}
	return l
}

// edit is one place where two texts differ: lines b0 to b1 of the new text replace lines a0 to a1 of the old
// one.
type edit struct{ a0, a1, b0, b1 int }

// changedLines has true for each changed line. Lines before the first and after the last count as unchanged.
type changedLines []bool

func (m changedLines) at(i int) bool { return i >= 0 && i < len(m) && m[i] }

// ErrTooLarge is the error for texts with too many lines, or too many different lines, to compare in bounded
// time.
var ErrTooLarge = errors.New("too large for a line diff")

// trim removes the common lines at the beginning and end of two texts, except context lines on either side.
// GNU diff does the same before it compares, and what it compares decides which of several shortest scripts
// it finds.
func trim(old, new []byte, context int) (skipped, a, b []byte) {
	n := lineStart(old, commonPrefix(old, new), context)
	skipped, a, b = old[:n], old[n:], new[n:]
	n = commonSuffix(a, b)
	for skip := context + unaligned(a, b, n); skip > 0 && n > 0; skip-- {
		n = len(afterLine(a[len(a)-n:]))
	}
	return skipped, a[:len(a)-n], b[:len(b)-n]
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func commonSuffix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// unaligned returns 1 if a suffix of n bytes does not begin a line in both texts, else 0.
func unaligned(a, b []byte, n int) int {
	for _, t := range [][]byte{a, b} {
		if before := t[:len(t)-n]; len(before) > 0 && before[len(before)-1] != '\n' {
			return 1
		}
	}
	return 0
}

// lineStart goes back from n to the start of its line, and then over more lines.
func lineStart(text []byte, n, more int) int {
	n = bytes.LastIndexByte(text[:n], '\n') + 1
	for ; more > 0 && n > 0; more-- {
		n = bytes.LastIndexByte(text[:n-1], '\n') + 1
	}
	return n
}

// afterLine returns a text without its first line.
func afterLine(text []byte) []byte {
	i := bytes.IndexByte(text, '\n')
	if i < 0 {
		return nil
	}
	return text[i+1:]
}
