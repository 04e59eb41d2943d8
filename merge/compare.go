package merge

import (
	"bytes"

	"github.com/sergi/go-diff/diffmatchpatch"
)

// maxLines bounds the lines of both texts together, because go-diff numbers them with code points, of which
// there are 1,112,064.
const maxLines = 1_000_000

// compare finds the edits that GNU diff finds with as many lines of context. It trims equal ends, discards
// confusing lines, finds a shortest edit script for the others, and slides its edits to where people expect
// them.
//
// Of go-diff it uses only the numbering of lines. go-diff's edit scripts are as short, but often differ from
// GNU's if there are several: for one in two of random texts with many differences, for two or three in a
// hundred of edited configuration files.
func compare(old, new []byte, context int) ([]edit, error) {
	skipped, old, new := trim(old, new, context)
	if bytes.Count(old, newline)+bytes.Count(new, newline) > maxLines {
		return nil, ErrTooLarge
	}
	a, b, _ := diffmatchpatch.New().DiffLinesToRunes(string(old), string(new))
	inA, inB := make(changedLines, len(a)), make(changedLines, len(b))
	s := newScript(discardConfusing(a, b, inA), discardConfusing(b, a, inB))
	if err := s.run(inA, inB); err != nil {
		return nil, err
	}
	slide(a, inA, inB)
	slide(b, inB, inA)
	return editsOf(inA, inB, bytes.Count(skipped, newline)), nil
}

// editsOf makes edits from the changed lines of both sides; the unchanged lines correspond to each other.
// above is the number of trimmed lines before the first.
func editsOf(a, b changedLines, above int) []edit {
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
