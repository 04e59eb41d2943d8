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

// Merged is the result of a three-way merge.
type Merged struct {
	Content   []byte   // with markers if Conflicts is not 0; it may be one of the merged contents
	Conflicts int      // places that both sides changed, differently
	Notes     []string // one line each, for a reader; of account files with values of fields, but no password
}

// Text merges by lines what two sides made of old, as GNU diff3 -m -A does. The same change by both sides is
// no conflict. If one side changed lines, its lines are taken; if both made the same change, it is taken
// once. If both changed them differently, or no unchanged line separates their changes, that is a conflict:
// markers show what each side has, and what old had.
//
// Bytes are kept as they are. A last line without a newline differs from one with it; a newline is added only
// before a marker. Markers end as the first line does, in LF or CRLF.
//
// Lines that differ only in $FreeBSD$ tags are equal, because nobody but a release changes those. If both
// sides' lines equal old's, theirs are taken, because they are of the newer release. If a side differs from
// old in tags alone, the other side is returned whole.
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

// tag is a keyword that the FreeBSD project's Subversion expanded with a file's path, revision, date and
// author.
var tag = regexp.MustCompile(`\$FreeBSD:[^$\n]*\$`)

// untagged returns a text with its tags unexpanded.
func untagged(text []byte) []byte {
	if !bytes.Contains(text, []byte("$FreeBSD:")) { // true of every release since Subversion
		return text
	}
	return tag.ReplaceAllLiteral(text, []byte("$FreeBSD$"))
}

// SameButTags reports whether two contents differ only in the text of their $FreeBSD$ tags, or not at all.
func SameButTags(a, b []byte) bool { return bytes.Equal(untagged(a), untagged(b)) }

// threeWay is the state of one merge of texts.
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

// horizon is diff3's --horizon-lines: how many lines of the equal ends take part in the comparison. compare
// calls it context.
const horizon = 100

// editsFrom returns the edits that lead from old to a side. Like diff3, it compares side with old: of several
// shortest scripts GNU diff does not always take the same one in both directions.
func editsFrom(old, side []byte) ([]edit, error) {
	edits, err := compare(untagged(side), untagged(old), horizon)
	for i, e := range edits {
		edits[i] = edit{a0: e.b0, a1: e.b1, b0: e.a0, b1: e.a1}
	}
	return edits, err
}

// lineEnd returns the end of the first line, of the first text that has one.
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

// run goes through the three texts from region to region. A region is the lines that edits of one or both
// sides replace, with no line in it that both sides left alone.
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

// reach passes the edits of a region that ends at line to of old or later, and returns where it ends.
func (m *threeWay) reach(to int) int {
	for {
		further := m.theirs.reach(m.mine.reach(to))
		if further == to {
			return to
		}
		to = further
	}
}

// region decides by the lines, not by the edits, because both sides may have made the same lines in different
// ways.
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

// part writes lines before a marker. A marker must begin a line.
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

// excerpt holds lines as they are, and as they are compared.
type excerpt struct{ lines, plain [][]byte }

func excerptOf(text []byte) excerpt { return excerpt{lines(text), lines(untagged(text))} }

func (x excerpt) same(y excerpt) bool { return slices.EqualFunc(x.plain, y.plain, bytes.Equal) }

// version is one of the three texts while the merge goes through it.
type version struct {
	excerpt
	done  int    // number of lines done
	edits []edit // edits from old to this version that are not done
	more  int    // how many more lines than old it has so far
}

// unchanged returns the line of old up to which a version has no further edit.
func (v *version) unchanged(old version) int {
	if len(v.edits) == 0 {
		return len(old.lines)
	}
	return v.edits[0].a0
}

// reach passes the edits that overlap or touch what ends at a line of old, and returns where they end in old.
func (v *version) reach(to int) int {
	for len(v.edits) > 0 && v.edits[0].a0 <= to {
		e := v.edits[0]
		to, v.more, v.edits = max(to, e.a1), e.b1-e.a1, v.edits[1:]
	}
	return to
}

// until takes the version's lines that correspond to old's lines before the given one. All edits before it
// must be done.
func (v *version) until(line int) excerpt {
	from := v.done
	v.done = line + v.more
	return excerpt{v.lines[from:v.done], v.plain[from:v.done]}
}
