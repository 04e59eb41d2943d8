package merge

import (
	"bytes"
	"errors"

	"github.com/sergi/go-diff/diffmatchpatch"
)

// ErrTooLarge is the error for texts that have too many lines, or too many different ones, to compare in bounded time.
var ErrTooLarge = errors.New("too large for a line diff")

// maxLines bounds the lines of both texts: go-diff numbers them with code points, of which there are 1,112,064.
const maxLines = 1_000_000

// edit is one place where two texts differ: lines b0 to b1 of the new one stand for lines a0 to a1 of the old one.
type edit struct{ a0, a1, b0, b1 int }

// marks has a true for each changed line. Lines before the first and behind the last count as unchanged.
type marks []bool

func (m marks) at(i int) bool { return i >= 0 && i < len(m) && m[i] }

// compare finds the edits that GNU diff would find, given as many lines of context: equal ends are trimmed, lines that only
// confuse are put aside, a shortest edit script is found for the others, and its edits are slid to where people expect them.
//
// Of go-diff only the numbering of lines is used. Its edit scripts are as short, but where several are, they are others than GNU's:
// on random texts with many differences about one in two, on edited configuration files two or three in a hundred.
func compare(old, new []byte, context int) ([]edit, error) {
	skipped, old, new := trim(old, new, context)
	if bytes.Count(old, newline)+bytes.Count(new, newline) > maxLines {
		return nil, ErrTooLarge
	}
	a, b, _ := diffmatchpatch.New().DiffLinesToRunes(string(old), string(new))
	inA, inB := make(marks, len(a)), make(marks, len(b))
	s := newScript(telling(a, b, inA), telling(b, a, inB))
	if err := s.run(inA, inB); err != nil {
		return nil, err
	}
	slide(a, inA, inB)
	slide(b, inB, inA)
	return editsOf(inA, inB, bytes.Count(skipped, newline)), nil
}

// editsOf reads edits off the marks of both sides, whose unchanged lines correspond. Above them stand more lines.
func editsOf(a, b marks, above int) []edit {
	var edits []edit
	for i, j := 0, 0; i < len(a) || j < len(b); i, j = i+1, j+1 {
		i0, j0 := i, j
		for a.at(i) {
			i++
		}
		for b.at(j) {
			j++
		}
		if i > i0 || j > j0 {
			edits = append(edits, edit{i0 + above, i + above, j0 + above, j + above})
		}
	}
	return edits
}
