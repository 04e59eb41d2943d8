package merge

import "slices"

// sequence holds the lines of one side that take part in the search: their numbers, and the index of each.
type sequence struct {
	lines []rune
	from  []int
}

// discardState says what happens to a line before the search, as the discarded array of GNU diff does.
type discardState byte

const (
	kept        discardState = iota
	discarded                // the other side has no equal line: it is changed in any case
	provisional              // the other side has many equal lines: a match may be wrong
)

// discardConfusing drops the lines that do not help to find which lines correspond, and marks them as
// changed. GNU diff does the same (discard_confusing_lines in its analyze.c). This decides between scripts of
// equal length, and sometimes for a longer one that reads better. So equal output needs the same rules, down
// to the numbers.
func discardConfusing(lines, other []rune, changed changedLines) sequence {
	states := classify(lines, other)
	for i := 0; i < len(states); i++ {
		switch states[i] {
		case provisional: // not within a run of discarded lines
			states[i] = kept
		case discarded:
			run := discardRun(states[i:])
			cancelProvisional(run)
			i += len(run) - 1
		}
	}
	var s sequence
	for i, state := range states {
		if state == kept {
			s.lines, s.from = append(s.lines, lines[i]), append(s.from, i)
		}
		changed[i] = state != kept
	}
	return s
}

// classify decides by the number of equal lines on the other side. Many means more than 5, or more for long
// texts, by the square root of the length.
func classify(lines, other []rune) []discardState {
	count := map[rune]int{}
	for _, l := range other {
		count[l]++
	}
	many := 5 * root(len(lines)/64)
	states := make([]discardState, len(lines))
	for i, l := range lines {
		switch n := count[l]; {
		case n == 0:
			states[i] = discarded
		case n > many:
			states[i] = provisional
		}
	}
	return states
}

// root returns the square root of n, rounded down to a power of two, and at least 1.
func root(n int) int {
	r := 1
	for n >>= 2; n > 0; n >>= 2 {
		r *= 2
	}
	return r
}

// discardRun returns the run at the start of states that are not kept, up to the last discarded one.
// Provisional ones after that become kept.
func discardRun(states []discardState) []discardState {
	end := slices.Index(states, kept)
	if end < 0 {
		end = len(states)
	}
	for states[end-1] == provisional {
		end--
		states[end] = kept
	}
	return states[:end]
}

// cancelProvisional keeps the provisional lines of a run if they are too many of it, too many in a row, or
// too near its ends.
func cancelProvisional(run []discardState) {
	doubts := 0
	for _, state := range run {
		if state == provisional {
			doubts++
		}
	}
	if doubts == 0 {
		return
	}
	if 4*doubts > len(run) {
		keepProvisional(run)
		return
	}
	keepRows(run, root(len(run)/4)+1)
	keepStart(run)
	slices.Reverse(run)
	keepStart(run)
	slices.Reverse(run)
}

// keepProvisional keeps all provisional lines.
func keepProvisional(run []discardState) {
	for i, state := range run {
		if state == provisional {
			run[i] = kept
		}
	}
}

// keepRows keeps the provisional lines that stand in rows of least or more.
func keepRows(run []discardState, least int) {
	for i := 0; i < len(run); i++ {
		end := i
		for end < len(run) && run[end] == provisional {
			end++
		}
		if end-i >= least {
			keepProvisional(run[i:end])
		}
		i = end
	}
}

// keepStart keeps the provisional lines before the third discarded one in a row, or before the first
// discarded one after eight lines.
func keepStart(run []discardState) {
	row := 0
	for i := 0; i < len(run) && row < 3; i++ {
		switch {
		case run[i] != discarded:
			run[i], row = kept, 0
		case i >= 8:
			return
		default:
			row++
		}
	}
}
