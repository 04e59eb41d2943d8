package conffile

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Edit is a change of one line of a file.
type Edit struct {
	File string
	Line int    // counted from 1; 0 adds New as a line at the end
	Old  string // the part of the line that New replaces; "" adds New as the first line of the block there
	New  string
}

// Change is what an edit did: a line that was added or replaced.
type Change struct {
	File string `json:"file"`
	Old  string `json:"old,omitempty"` // the whole line before; "" if there was none
	New  string `json:"new"`
}

// Apply makes the edit in a text, and returns the new text and what was done. The error says that the line
// is not as the edit expects it.
func (e Edit) Apply(text []byte) ([]byte, Change, error) {
	lines := slices.Collect(bytes.Lines(text))
	c := Change{File: e.File, New: e.New}
	var err error
	switch {
	case e.Line > len(lines), e.Line == 0 && e.Old != "":
		err = fmt.Errorf("%s:%d: no such line: the file was changed meanwhile", e.File, e.Line)
	case e.Old != "":
		c.Old = strings.TrimSuffix(string(lines[e.Line-1]), "\n")
		c.New, err = e.replaceIn(c.Old)
		lines[e.Line-1] = []byte(c.New + "\n")
	case e.Line > 0:
		lines, err = e.insertInto(lines)
	default:
		if n := len(lines); n > 0 && !bytes.HasSuffix(lines[n-1], []byte("\n")) {
			lines[n-1] = append(slices.Clone(lines[n-1]), '\n')
		}
		lines = append(lines, []byte(e.New+"\n"))
	}
	return bytes.Join(lines, nil), c, err
}

// replaceIn replaces Old in a line.
func (e Edit) replaceIn(line string) (string, error) {
	found := words(line, e.Old)
	if len(found) != 1 {
		return "", fmt.Errorf("%s:%d: %q does not stand there as a word of its own, once; write %s in its "+
			"place by hand", e.File, e.Line, e.Old, e.New)
	}
	return line[:found[0]] + e.New + line[found[0]+len(e.Old):], nil
}

// insertInto inserts New as the first line of the block that begins at Line. The block may open below its
// name.
func (e Edit) insertInto(lines [][]byte) ([][]byte, error) {
	at := e.Line - 1
	for at < len(lines) && !bytes.Contains(lines[at], []byte("{")) {
		at++
	}
	if at == len(lines) || bytes.Contains(lines[at], []byte("}")) {
		return nil, fmt.Errorf("%s:%d: the jail's block is not on lines of its own; write by hand: %s",
			e.File, e.Line, strings.TrimSpace(e.New))
	}
	return slices.Insert(lines, at+1, []byte(e.New+"\n")), nil
}

// words returns where a text occurs in a line without a part of a name, a path or a list next to it.
func words(line, text string) (at []int) {
	part := func(r byte) bool {
		return r == '_' || r == ',' || r == '/' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' ||
			r >= 'A' && r <= 'Z'
	}
	for i := 0; i+len(text) <= len(line); i++ {
		end := i + len(text)
		if line[i:end] == text && (i == 0 || !part(line[i-1])) && (end == len(line) || !part(line[end])) {
			at = append(at, i)
		}
	}
	return at
}

// Undo takes the change out of a text: in the last line that is still as it was written. It returns false if
// there is no such line.
func (c Change) Undo(text []byte) ([]byte, bool) {
	lines := slices.Collect(bytes.Lines(text))
	for i := range slices.Backward(lines) {
		if strings.TrimSuffix(string(lines[i]), "\n") != c.New {
			continue
		}
		if c.Old == "" {
			lines = slices.Delete(lines, i, i+1)
		} else {
			lines[i] = []byte(c.Old + "\n")
		}
		return bytes.Join(lines, nil), true
	}
	return nil, false
}
