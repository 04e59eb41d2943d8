package merge

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
)

// ErrBinary is the error for contents that are not text.
var ErrBinary = errors.New("not text")

// Names are the labels of the three versions in markers.
type Names struct{ Mine, Old, Theirs string }

// Merged is what a three-way merge came to.
type Merged struct {
	Content   []byte   // with markers where Conflicts is not 0; it may be one of the contents that were merged
	Conflicts int      // places that both sides changed, and differently
	Notes     []string // what a reader should know of it, a line each; of account files with values of fields, but no password
}

// Text merges by lines what two sides made of old: it is diff3 -m -A, as GNU has it, without conflicts over the same change.
// Where one side changed lines they are taken from it, where both did the same, once. Where both did, and differently, or
// where no unchanged line stands between their changes, is a conflict: markers show what each side has, and what old had.
//
// Bytes are kept as they are, and a last line without its line break is another line than one with it; only before a marker
// is one added. Markers end as the first line does, in LF or CRLF.
//
// Lines that differ only in $FreeBSD$ tags are equal: what a release puts there is nobody's change. Of lines that are equal to
// old's on both sides theirs are taken, as those of the newer release. A side that differs from old in tags alone has no
// say: the other side is returned whole.
//
// The errors are ErrBinary and ErrTooLarge.
func Text(old, mine, theirs []byte, names Names) (Merged, error) {
	if Binary(old) || Binary(mine) || Binary(theirs) {
		return Merged{}, ErrBinary
	}
	for _, same := range []func(a, b []byte) bool{bytes.Equal, SameButTags} {
		switch {
		case same(mine, theirs), same(old, mine):
			return Merged{Content: theirs}, nil
		case same(old, theirs):
			return Merged{Content: mine}, nil
		}
	}
	m, err := newThreeWay(old, mine, theirs, names)
	if err != nil {
		return Merged{}, err
	}
	m.run()
	return Merged{Content: m.out.Bytes(), Conflicts: m.conflicts}, nil
}

// tag is a keyword that the FreeBSD project's Subversion filled in with a file's path, revision, date and author.
var tag = regexp.MustCompile(`\$FreeBSD:[^$\n]*\$`)

// untagged is a text with its tags as they were before anything filled them in.
func untagged(text []byte) []byte {
	if !bytes.Contains(text, []byte("$FreeBSD:")) { // as in every release since
		return text
	}
	return tag.ReplaceAllLiteral(text, []byte("$FreeBSD$"))
}

// SameButTags reports whether two contents differ at most in what their $FreeBSD$ tags hold.
func SameButTags(a, b []byte) bool { return bytes.Equal(untagged(a), untagged(b)) }

// threeWay is a merge on its way to text.
type threeWay struct {
	old, mine, theirs version
	names             Names
	eol               string
	out               bytes.Buffer
	conflicts         int
}

func newThreeWay(old, mine, theirs []byte, names Names) (*threeWay, error) {
	m := &threeWay{names: names, eol: lineEnd(mine, theirs, old)}
	var err error
	if m.mine.edits, err = editsFrom(old, mine); err != nil {
		return nil, err
	}
	if m.theirs.edits, err = editsFrom(old, theirs); err != nil {
		return nil, err
	}
	m.old.excerpt, m.mine.excerpt, m.theirs.excerpt = excerptOf(old), excerptOf(mine), excerptOf(theirs)
	return m, nil
}

// horizon is diff3's, as a context for compare: the lines at equal ends that take part in the comparison.
const horizon = 100

// editsFrom is the edits that lead from old to a side. Like diff3's they are found from the side to old: of several
// shortest scripts GNU diff chooses not always the same one in both directions.
func editsFrom(old, side []byte) ([]edit, error) {
	edits, err := compare(untagged(side), untagged(old), horizon)
	for i, e := range edits {
		edits[i] = edit{a0: e.b0, a1: e.b1, b0: e.a0, b1: e.a1}
	}
	return edits, err
}

// lineEnd is how the first line ends, in the first of the texts where one does.
func lineEnd(texts ...[]byte) string {
	for _, t := range texts {
		if line, _, ended := bytes.Cut(t, newline); ended {
			if bytes.HasSuffix(line, []byte("\r")) {
				return "\r\n"
			}
			break
		}
	}
	return "\n"
}

// run goes through the three from region to region. A region is lines that the edits of one side or both stand for, with no
// line between them that both sides left alone.
func (m *threeWay) run() {
	for {
		from := min(m.mine.unchanged(m.old), m.theirs.unchanged(m.old))
		m.old.until(from)
		m.mine.until(from)
		m.take(m.theirs.until(from))
		if len(m.mine.edits)+len(m.theirs.edits) == 0 {
			return
		}
		to := m.reach(from)
		m.region(m.old.until(to), m.mine.until(to), m.theirs.until(to))
	}
}

// reach passes the edits of a region as far as it is known to go in old, and returns where it ends.
func (m *threeWay) reach(to int) int {
	for {
		further := m.theirs.reach(m.mine.reach(to))
		if further == to {
			return to
		}
		to = further
	}
}

// region decides by what the lines are, not by the edits: both sides may have made the same of it in different ways.
func (m *threeWay) region(old, mine, theirs excerpt) {
	switch {
	case mine.same(theirs), mine.same(old):
		m.take(theirs)
	case theirs.same(old):
		m.take(mine)
	default:
		m.conflict(old, mine, theirs)
	}
}

func (m *threeWay) conflict(old, mine, theirs excerpt) {
	m.conflicts++
	m.marker("<<<<<<<", m.names.Mine)
	m.part(mine)
	m.marker("|||||||", m.names.Old)
	m.part(old)
	m.marker("=======", "")
	m.part(theirs)
	m.marker(">>>>>>>", m.names.Theirs)
}

func (m *threeWay) marker(sign, label string) {
	if label != "" {
		sign += " " + label
	}
	m.out.WriteString(sign + m.eol)
}

// part writes lines before a marker, which has to begin a line.
func (m *threeWay) part(x excerpt) {
	m.take(x)
	if n := len(x.lines); n > 0 && !bytes.HasSuffix(x.lines[n-1], newline) {
		m.out.WriteString(m.eol)
	}
}

func (m *threeWay) take(x excerpt) {
	for _, l := range x.lines {
		m.out.Write(l)
	}
}

// excerpt is lines as they are, and as they are compared.
type excerpt struct{ lines, plain [][]byte }

func excerptOf(text []byte) excerpt { return excerpt{lines(text), lines(untagged(text))} }

func (x excerpt) same(y excerpt) bool { return slices.EqualFunc(x.plain, y.plain, bytes.Equal) }

// version is one of the three being gone through.
type version struct {
	excerpt
	done  int    // lines behind us
	edits []edit // what leads to it from old, ahead of us
	more  int    // how many lines it has more than old, edits aside
}

// unchanged is the line of old up to which a version has no further edit.
func (v *version) unchanged(old version) int {
	if len(v.edits) == 0 {
		return len(old.lines)
	}
	return v.edits[0].a0
}

// reach passes the edits that overlap or touch what ends at a line of old, and returns where they end there.
func (v *version) reach(to int) int {
	for len(v.edits) > 0 && v.edits[0].a0 <= to {
		e := v.edits[0]
		to, v.more, v.edits = max(to, e.a1), e.b1-e.a1, v.edits[1:]
	}
	return to
}

// until takes the lines that stand for those of old before a line that no edit ahead of us is above.
func (v *version) until(line int) excerpt {
	from := v.done
	v.done = line + v.more
	return excerpt{v.lines[from:v.done], v.plain[from:v.done]}
}
