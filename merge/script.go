package merge

import "math"

// script finds a shortest edit script between two sequences: E. W. Myers, "An O(ND) difference algorithm and
// its variations", Algorithmica 1 (1986), in the variant of its section 4b that needs linear space. It
// searches from both ends at once and divides the problem where the two searches meet. Among scripts of equal
// length the order of the search decides, from the highest diagonal to the lowest, as in GNU diff. Above a
// certain cost it divides where a search has come farthest, as GNU diff does (diffseq.h in gnulib).
//
// Diagonal d holds the points x, y with x-y = d, where x lines of a and y lines of b are done.
type script struct {
	a, b         sequence
	forth, back  frontier
	tooExpensive int // the cost of a division above which a good script will do instead of a shortest one
	steps        int // steps left before the whole is too large
}

// maxSteps bounds the work of one comparison to a few seconds. Two texts of 40,000 lines with a thousand
// different lines take less than one second.
const maxSteps = 1 << 29

// minTooExpensive is GNU diff's: cheaper divisions are always the best ones.
const minTooExpensive = 4096

func newScript(a, b sequence) *script {
	n := len(a.lines) + len(b.lines) + 3
	return &script{
		a: a, b: b,
		forth:        frontier{x: make([]int, n), zero: len(b.lines) + 1, beyond: -1},
		back:         frontier{x: make([]int, n), zero: len(b.lines) + 1, beyond: math.MaxInt},
		tooExpensive: max(minTooExpensive, 2*root(n)),
		steps:        maxSteps,
	}
}

// frontier is how far a search has come on each of its diagonals, from lo to hi in steps of two.
type frontier struct {
	x      []int // by diagonal + zero
	zero   int
	lo, hi int
	beyond int // the value on the diagonals next to the outermost
}

func (f *frontier) at(d int) *int { return &f.x[d+f.zero] }

func (f *frontier) start(d, x int) {
	f.lo, f.hi = d, d
	*f.at(d) = x
}

// widen adds the next diagonal on either side. At the border of the area it drops one instead.
func (f *frontier) widen(area area) {
	if f.lo--; f.lo >= area.x0-area.y1 {
		*f.at(f.lo - 1) = f.beyond
	} else {
		f.lo += 2
	}
	if f.hi++; f.hi <= area.x1-area.y0 {
		*f.at(f.hi + 1) = f.beyond
	} else {
		f.hi -= 2
	}
}

func (f *frontier) holds(d int) bool { return f.lo <= d && d <= f.hi }

// area is a part of the problem: lines x0 to x1 of a and y0 to y1 of b.
type area struct{ x0, x1, y0, y1 int }

// run marks what a script deletes and inserts. Its error is ErrTooLarge.
func (s *script) run(deleted, inserted changedLines) error {
	return s.solve(area{0, len(s.a.lines), 0, len(s.b.lines)}, false, deleted, inserted)
}

// solve does one area. If minimal is set, it finds a shortest script.
func (s *script) solve(r area, minimal bool, deleted, inserted changedLines) error {
	s.shrink(&r)
	if r.x0 == r.x1 || r.y0 == r.y1 {
		for _, i := range s.a.from[r.x0:r.x1] {
			deleted[i] = true
		}
		for _, i := range s.b.from[r.y0:r.y1] {
			inserted[i] = true
		}
		return nil
	}
	at := s.divide(r, minimal)
	if s.steps < 0 {
		return ErrTooLarge
	}
	if err := s.solve(area{r.x0, at.x, r.y0, at.y}, at.bestBefore, deleted, inserted); err != nil {
		return err
	}
	return s.solve(area{at.x, r.x1, at.y, r.y1}, at.bestBehind, deleted, inserted)
}

// shrink removes the common lines at both ends of an area.
func (s *script) shrink(r *area) {
	for r.x0 < r.x1 && r.y0 < r.y1 && s.equal(r.x0, r.y0) {
		r.x0++
		r.y0++
	}
	for r.x0 < r.x1 && r.y0 < r.y1 && s.equal(r.x1-1, r.y1-1) {
		r.x1--
		r.y1--
	}
}

func (s *script) equal(x, y int) bool { return s.a.lines[x] == s.b.lines[y] }

// division is a point on a script, and which of its halves are known to cost no more than finding it did.
type division struct {
	x, y                   int
	bestBefore, bestBehind bool
}

// divide finds a point on a shortest script through an area, or gives up. The start diagonals of the two
// searches are an even or an odd number apart; that decides which search meets the other.
func (s *script) divide(r area, minimal bool) division {
	s.forth.start(r.x0-r.y0, r.x0)
	s.back.start(r.x1-r.y1, r.x1)
	odd := (s.forth.lo-s.back.lo)%2 != 0
	for cost := 1; s.steps >= 0; cost++ {
		s.forth.widen(r)
		if x, y, met := s.advance(r, odd); met {
			return division{x, y, true, true}
		}
		s.back.widen(r)
		if x, y, met := s.retreat(r, !odd); met {
			return division{x, y, true, true}
		}
		if !minimal && cost >= s.tooExpensive {
			return s.giveUp(r)
		}
	}
	return division{}
}

// advance goes one edit further forwards on each diagonal, and along equal lines. If can is set, it stops
// where it meets the other search.
func (s *script) advance(r area, can bool) (x, y int, met bool) {
	f := &s.forth
	for d := f.hi; d >= f.lo; d -= 2 {
		x = max(*f.at(d - 1)+1, *f.at(d + 1))
		from := x
		for y = x - d; x < r.x1 && y < r.y1 && s.equal(x, y); x, y = x+1, y+1 {
		}
		*f.at(d) = x
		s.steps -= 1 + x - from
		if can && s.back.holds(d) && *s.back.at(d) <= x {
			return x, y, true
		}
	}
	return 0, 0, false
}

// retreat is advance from the other end.
func (s *script) retreat(r area, can bool) (x, y int, met bool) {
	f := &s.back
	for d := f.hi; d >= f.lo; d -= 2 {
		x = min(*f.at(d - 1), *f.at(d + 1)-1)
		from := x
		for y = x - d; x > r.x0 && y > r.y0 && s.equal(x-1, y-1); x, y = x-1, y-1 {
		}
		*f.at(d) = x
		s.steps -= 1 + from - x
		if can && s.forth.holds(d) && x <= *s.forth.at(d) {
			return x, y, true
		}
	}
	return 0, 0, false
}

// giveUp divides an area where one of the searches has come farthest. The part on that search's side is known
// to cost no more than was spent, so a shortest script is found for it.
func (s *script) giveUp(r area) division {
	fx, fy := s.forth.farthest(func(d, x int) (int, int) {
		x = min(x, r.x1, r.y1+d)
		return x, x - d
	}, +1)
	bx, by := s.back.farthest(func(d, x int) (int, int) {
		x = max(x, r.x0, r.y0+d)
		return x, x - d
	}, -1)
	if r.x1+r.y1-(bx+by) < fx+fy-(r.x0+r.y0) {
		return division{fx, fy, true, false}
	}
	return division{bx, by, false, true}
}

// farthest returns the point of a frontier with the largest x+y in a direction. inside keeps points within an
// area.
func (f *frontier) farthest(inside func(d, x int) (int, int), direction int) (bestX, bestY int) {
	best := math.MinInt
	for d := f.hi; d >= f.lo; d -= 2 {
		x, y := inside(d, *f.at(d))
		if direction*(x+y) > best {
			best, bestX, bestY = direction*(x+y), x, y
		}
	}
	return bestX, bestY
}
