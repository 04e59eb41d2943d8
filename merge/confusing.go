package merge

import "slices"

// sequence is the lines of one side that a script is found for: their numbers, and where each stood.
type sequence struct {
	lines []rune
	from  []int
}

// fate is what becomes of a line before a script is looked for.
type fate byte

const (
	kept     fate = iota
	dropped       // the other side has none like it: it is changed, whatever else is
	doubtful      // the other side has many like it: it would tie together what does not belong together
)

// telling puts aside the lines that tell nothing about which lines correspond, and marks them as changed. It is what GNU diff
// does (discard_confusing_lines in its analyze.c); as it decides between scripts of equal length, and at times for a longer one that
// reads better, equal output needs equal rules, down to the numbers.
func telling(lines, other []rune, changed marks) sequence {
	fates := judge(lines, other)
	for i := 0; i < len(fates); i++ {
		switch fates[i] {
		case doubtful: // not within a run of dropped lines
			fates[i] = kept
		case dropped:
			run := dropRun(fates[i:])
			reconsider(run)
			i += len(run) - 1
		}
	}
	var s sequence
	for i, f := range fates {
		if f == kept {
			s.lines, s.from = append(s.lines, lines[i]), append(s.from, i)
		}
		changed[i] = f != kept
	}
	return s
}

// judge decides by how many lines of the other side are equal. Many is more than 5, growing with the root of the length.
func judge(lines, other []rune) []fate {
	count := map[rune]int{}
	for _, l := range other {
		count[l]++
	}
	many := 5 * root(len(lines)/64)
	fates := make([]fate, len(lines))
	for i, l := range lines {
		switch n := count[l]; {
		case n == 0:
			fates[i] = dropped
		case n > many:
			fates[i] = doubtful
		}
	}
	return fates
}

// root is the square root of n, rounded down to a power of two, and at least 1.
func root(n int) int {
	r := 1
	for n >>= 2; n > 0; n >>= 2 {
		r *= 2
	}
	return r
}

// dropRun is the run of lines at the start of fates that are not kept, up to the last dropped one; doubtful ones behind are kept.
func dropRun(fates []fate) []fate {
	end := slices.Index(fates, kept)
	if end < 0 {
		end = len(fates)
	}
	for fates[end-1] == doubtful {
		end--
		fates[end] = kept
	}
	return fates[:end]
}

// reconsider keeps doubtful lines of a run where they are too many of it, too many in a row, or too near to its ends.
func reconsider(run []fate) {
	doubts := 0
	for _, f := range run {
		if f == doubtful {
			doubts++
		}
	}
	if doubts == 0 {
		return
	}
	if 4*doubts > len(run) {
		keepDoubtful(run)
		return
	}
	keepRows(run, root(len(run)/4)+1)
	keepStart(run)
	slices.Reverse(run)
	keepStart(run)
	slices.Reverse(run)
}

// keepDoubtful keeps all doubtful lines.
func keepDoubtful(run []fate) {
	for i, f := range run {
		if f == doubtful {
			run[i] = kept
		}
	}
}

// keepRows keeps the doubtful lines of which least or more stand in a row.
func keepRows(run []fate, least int) {
	for i := 0; i < len(run); i++ {
		end := i
		for end < len(run) && run[end] == doubtful {
			end++
		}
		if end-i >= least {
			keepDoubtful(run[i:end])
		}
		i = end
	}
}

// keepStart keeps the doubtful lines before the third dropped one in a row, or before the first dropped one behind eight lines.
func keepStart(run []fate) {
	row := 0
	for i := 0; i < len(run) && row < 3; i++ {
		switch {
		case run[i] != dropped:
			run[i], row = kept, 0
		case i >= 8:
			return
		default:
			row++
		}
	}
}
