package merge

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"cfgd/internal/pathname"
)

// The bounds of an account file that is merged, in bytes and lines.
const (
	maxAccounts     = 8 << 20
	maxAccountLines = 200_000
)

// Accounts merges master.passwd(5), passwd(5) or group(5), by entry and field. path is below etc; ok is false
// for any other file.
//
// If one side changed a field, its value is taken. If both changed it differently, that is a conflict.
// Members of a group are merged one by one. A deletion by either side holds. But if one side deleted an entry
// and the other changed it, mine's version stays; root and wheel always stay; Notes say so. It is a conflict
// if theirs gives a uid or gid to one name and mine gives it to another: no merge makes two names share a
// number. A name that occurs twice in one version is a conflict if all three versions of it differ.
//
// The order is mine's. What theirs adds comes after the entry that it follows in theirs, and before NIS lines
// at the end of the file. Comments, NIS lines and other lines that are no entries are kept or dropped as a
// whole. Every line of mine that theirs neither changed nor deleted is in the result. Notes name fields and
// values, but no password. In a conflict the old entry is as it was, and the two others are merged in the
// fields that agree.
//
// The errors are ErrBinary and ErrTooLarge.
func Accounts(path string, old, mine, theirs []byte, names Names) (m Merged, ok bool, err error) {
	form := accountForms[path]
	switch {
	case form == nil:
		return Merged{}, false, nil
	case bytes.Equal(mine, theirs), bytes.Equal(old, mine):
		return Merged{Content: theirs}, true, nil
	case bytes.Equal(old, theirs):
		return Merged{Content: mine}, true, nil
	}
	for _, text := range [][]byte{old, mine, theirs} {
		if err := mergeable(text); err != nil {
			return Merged{}, true, err
		}
	}
	return newAccounts(form, old, mine, theirs, names).merged(), true, nil
}

func mergeable(text []byte) error {
	switch {
	case len(text) > maxAccounts || bytes.Count(text, newline) > maxAccountLines:
		return ErrTooLarge
	case bytes.IndexByte(text, 0) >= 0:
		return ErrBinary
	}
	return nil
}

// merged decides about each line, then about numbers, which depend on all those decisions, and writes the
// result.
func (a *accounts) merged() Merged {
	for _, x := range a.all {
		if x.entry {
			a.decide(x)
		} else {
			x.mergeLine()
		}
	}
	a.numbers()
	m := Merged{Content: a.content()}
	for _, x := range a.all {
		if x.unmerged != nil {
			m.Conflicts++
		}
		if x.note != "" {
			m.Notes = append(m.Notes, fmt.Sprintf("%s %s: %s", a.noun, pathname.Quote(x.text), x.note))
		}
	}
	return m
}

// mergeLine decides about a line that is no entry. If all versions have it, theirs' tags are taken.
func (x *account) mergeLine() {
	old, mine, theirs := len(x.old) > 0, len(x.mine) > 0, len(x.theirs) > 0
	switch {
	case theirs && (mine || !old):
		x.result = x.theirs
	case mine && !old:
		x.result = x.mine
	}
}

// content writes mine's lines, and after each one what theirs adds there.
func (a *accounts) content() []byte {
	added := a.added()
	out := added[0]
	for i, x := range a.mine.lines {
		out = append(out, a.nextLines(x, len(x.mine))...)
		out = append(out, added[i+1]...)
	}
	if len(out) == 0 {
		return nil
	}
	eol := "\n"
	if a.crlf() {
		eol = "\r\n"
	}
	text := strings.Join(out, eol)
	if !a.open() || strings.HasPrefix(out[len(out)-1], ">>>>>>>") { // a marker needs a line of its own
		text += eol
	}
	return []byte(text)
}

func (a *accounts) crlf() bool {
	if len(a.old.lines) > 0 && a.old.crlf == a.mine.crlf {
		return a.theirs.crlf
	}
	return a.mine.crlf
}

// open reports whether the last line has no newline: as in mine, unless theirs alone added one.
func (a *accounts) open() bool { return a.mine.open && (!a.old.open || a.theirs.open) }

// added finds places for the lines of theirs that mine does not have. Element i+1 of the result follows line
// i of mine.
func (a *accounts) added() [][]string {
	added := make([][]string, len(a.mine.lines)+1)
	above := entriesAbove(a.mine.lines)
	at := 0 // index in added
	for i, x := range a.theirs.lines {
		if i == a.theirs.tail {
			at = max(at, a.mine.tail) // after what mine has added at the end
		}
		place := x.at + 1
		switch {
		case len(x.mine) > 0:
			// Entries follow entries. A comment is followed only if no entry comes between.
			if x.entry || place > at && above[place] == above[at] {
				at = place
			}
		case x.entry:
			place = min(at, a.mine.tail)
			added[place] = append(added[place], a.nextLines(x, len(x.theirs))...)
		default:
			added[at] = append(added[at], a.nextLines(x, len(x.theirs))...)
		}
	}
	return added
}

// entriesAbove counts, for each i, the entries among the first i lines.
func entriesAbove(lines []*account) []int {
	above := make([]int, len(lines)+1)
	for i, x := range lines {
		above[i+1] = above[i]
		if x.entry {
			above[i+1]++
		}
	}
	return above
}

// nextLines returns what to write for the next one of an account's lines, of which a version has the given
// number.
func (a *accounts) nextLines(x *account, lines int) []string {
	i := x.written
	x.written++
	switch {
	case x.unmerged != nil && i == 0:
		return a.marked(x)
	case x.unmerged != nil || i >= len(x.result):
		return nil
	case i == lines-1:
		return x.result[i:]
	}
	return x.result[i : i+1]
}

// marked returns the lines of a conflict. An entry that was merged in fields that do not conflict is no
// version as it is, and its label says so.
func (a *accounts) marked(x *account) []string {
	label := func(name string, version, shown []string) string {
		if name != "" && !slices.Equal(version, shown) {
			name += mergedLabel
		}
		return name
	}
	c := x.unmerged
	return slices.Concat(
		[]string{marker("<", label(a.names.Mine, x.mine, c.mine))}, c.mine,
		[]string{marker("|", a.names.Old)}, c.old,
		[]string{marker("=", "")}, c.theirs,
		[]string{marker(">", label(a.names.Theirs, x.theirs, c.theirs))})
}

// mergedLabel ends the label of an entry that was merged in other fields.
const mergedLabel = ", merged"

func marker(sign, label string) string {
	return strings.TrimSuffix(strings.Repeat(sign, 7)+" "+label, " ")
}
