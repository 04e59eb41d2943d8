package merge

// slider goes through the runs of changed lines on one side of a comparison. If the line before a run equals
// the run's last one, or the line after it equals its first one, the run may be moved by a line. Of the
// possible places slider takes the one that GNU diff takes (shift_boundaries in its analyze.c).
type slider struct {
	lines      []rune
	own, other changedLines
	start, end int // the run
	across     int // the line of the other side that corresponds to end
	meeting    int // the last end at which the other side has a run just before across; len(lines) if none
}

// slide moves each run as far back as possible and joins it with the runs it meets. Then it moves it as far
// forward as possible, and then back to where the other side has a run at the same place, if there is one: a
// replacement reads better than a deletion and an insertion.
func slide(lines []rune, own, other changedLines) {
	s := slider{lines: lines, own: own, other: other}
	for s.next() {
		for size := 0; size != s.end-s.start; {
			size = s.end - s.start
			s.backward()
			s.forward()
		}
		for s.end > s.meeting {
			s.stepBack()
		}
	}
}

// next finds the next run.
func (s *slider) next() bool {
	for ; s.end < len(s.lines) && !s.own.at(s.end); s.end++ {
		s.skipAcross()
		s.across++
	}
	s.start = s.end
	for s.own.at(s.end) {
		s.end++
	}
	s.skipAcross()
	return s.start < s.end
}

// skipAcross skips changed lines of the other side.
func (s *slider) skipAcross() {
	for s.other.at(s.across) {
		s.across++
	}
}

// stepBack moves the run one line back.
func (s *slider) stepBack() {
	s.start--
	s.end--
	s.own[s.start], s.own[s.end] = true, false
	for s.across--; s.other.at(s.across); s.across-- {
	}
}

// backward moves the run as far back as possible. Runs before it become part of it.
func (s *slider) backward() {
	for s.start > 0 && s.lines[s.start-1] == s.lines[s.end-1] {
		s.stepBack()
		for s.own.at(s.start - 1) {
			s.start--
		}
	}
	s.meeting = len(s.lines)
	if s.other.at(s.across - 1) {
		s.meeting = s.end
	}
}

// forward moves the run as far forward as possible. Runs after it become part of it.
func (s *slider) forward() {
	for s.end < len(s.lines) && s.lines[s.start] == s.lines[s.end] {
		s.own[s.start], s.own[s.end] = false, true
		s.start++
		for s.own.at(s.end) {
			s.end++
		}
		for s.across++; s.other.at(s.across); s.across++ {
			s.meeting = s.end
		}
	}
}
