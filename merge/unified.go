package merge

import (
	"bytes"
	"fmt"
)

// Unified returns the hunks that lead from old to new, with context unchanged lines around each: what GNU
// diff -u prints after its two lines of names. For equal contents it returns none. Its error is ErrTooLarge.
func Unified(old, new []byte, context int) ([]byte, error) {
	h := hunks{old: lines(old), new: lines(new), context: max(0, context)}
	edits, err := compare(old, new, h.context)
	if err != nil {
		return nil, err
	}
	for len(edits) > 0 {
		n := h.together(edits)
		h.write(edits[:n])
		edits = edits[n:]
	}
	return h.out.Bytes(), nil
}

// hunks is a unified diff while it is written.
type hunks struct {
	old, new [][]byte
	context  int
	out      bytes.Buffer
}

// together counts the first edits that share a hunk. Between two of them there are no more unchanged lines
// than both contexts hold.
func (h *hunks) together(edits []edit) int {
	n := 1
	for n < len(edits) && edits[n].a0-edits[n-1].a1 <= 2*h.context {
		n++
	}
	return n
}

// write writes one hunk.
func (h *hunks) write(edits []edit) {
	first, last := edits[0], edits[len(edits)-1]
	a0, a1 := max(0, first.a0-h.context), min(len(h.old), last.a1+h.context)
	b0, b1 := first.b0-(first.a0-a0), last.b1+(a1-last.a1)
	fmt.Fprintf(&h.out, "@@ -%s +%s @@\n", span(a0, a1), span(b0, b1))
	at := a0
	for _, e := range edits {
		h.lines(' ', h.old[at:e.a0])
		h.lines('-', h.old[e.a0:e.a1])
		h.lines('+', h.new[e.b0:e.b1])
		at = e.a1
	}
	h.lines(' ', h.old[at:a1])
}

// span formats a range for a hunk's header: the first line, counted from 1, and the number of lines unless it
// is 1. An empty range names the line before it.
func span(from, to int) string {
	switch to - from {
	case 0:
		return fmt.Sprintf("%d,0", from)
	case 1:
		return fmt.Sprintf("%d", from+1)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}

func (h *hunks) lines(mark byte, lines [][]byte) {
	for _, l := range lines {
		h.out.WriteByte(mark)
		h.out.Write(l)
		if l[len(l)-1] != '\n' {
			h.out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}
