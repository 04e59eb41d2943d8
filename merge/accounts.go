package merge

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cfgd/internal/pathname"
)

// accountForm describes the lines of an account file: fields between colons.
type accountForm struct {
	noun    string   // what an entry is called
	fields  []string // names of the fields; the first identifies an entry
	members int      // index of the field that is a list, 0 for none
	needed  string   // the entry without which nobody can log in to repair the rest
}

// Fields with the same index in all forms. The password is never shown. The number should not be shared by
// two names.
const (
	fieldPassword = 1
	fieldNumber   = 2
)

// accountForms are master.passwd(5), passwd(5) and group(5), by their paths below etc.
var accountForms = map[string]*accountForm{
	"master.passwd": {
		"user",
		[]string{"name", "password", "uid", "gid", "class", "change", "expire", "gecos", "home", "shell"},
		0,
		"root",
	},
	"passwd": {
		"user",
		[]string{"name", "password", "uid", "gid", "gecos", "home", "shell"},
		0,
		"root",
	},
	"group": {"group", []string{"name", "password", "gid", "members"}, 3, "wheel"},
}

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
// values, but no password.
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

// accounts is the state of one merge of account files.
type accounts struct {
	*accountForm
	names             Names
	by                map[accountKey]*account
	all               []*account // in the order of mine, then those that only theirs has
	old, mine, theirs fileLines
}

// fileLines is one version of a file, line by line.
type fileLines struct {
	lines []*account
	tail  int  // index of the NIS lines at the end of the file; the number of lines if there are none
	crlf  bool // all lines end in CRLF; if only some do, CR is part of their text
	open  bool // the last line has no newline
}

// accountKey identifies a line in any version: an entry by its name, another line by its text and the number
// of equal lines above it.
type accountKey struct {
	entry bool
	text  string
	nth   int
}

// account is an entry or another line in three versions, and its result.
type account struct {
	accountKey
	old, mine, theirs []string // its lines; more than one only if a name is not unique
	at                int      // index in mine of the last of them
	result            []string // its lines in the result,
	clash             *clash   // unless there is a conflict
	note              string
	written           int // how many of its lines were handled so far
}

// clash holds the lines between conflict markers.
type clash struct{ mine, old, theirs []string }

func newAccounts(f *accountForm, old, mine, theirs []byte, names Names) *accounts {
	a := &accounts{accountForm: f, names: names, by: map[accountKey]*account{}}
	a.mine = a.read(mine, func(x *account, line string, i int) { x.mine, x.at = append(x.mine, line), i })
	a.theirs = a.read(theirs, func(x *account, line string, _ int) { x.theirs = append(x.theirs, line) })
	a.old = a.read(old, func(x *account, line string, _ int) { x.old = append(x.old, line) })
	return a
}

// read assigns each line to its account.
func (a *accounts) read(version []byte, give func(x *account, line string, i int)) fileLines {
	text := string(version)
	n := strings.Count(text, "\n")
	r := fileLines{
		crlf: n > 0 && strings.Count(text, "\r\n") == n,
		open: text != "" && !strings.HasSuffix(text, "\n"),
	}
	seen := map[accountKey]int{}
	for l := range strings.Lines(text) {
		if end := strings.TrimSuffix(l, "\n"); r.crlf && end != l {
			l = strings.TrimSuffix(end, "\r")
		} else {
			l = end
		}
		k := a.key(l)
		if !k.entry {
			seen[k]++
			k.nth = seen[k]
		}
		x := a.account(k)
		give(x, l, len(r.lines))
		r.lines = append(r.lines, x)
	}
	r.tail = tailOf(r.lines)
	return r
}

// key returns the key of a line. $FreeBSD$ tags in comments are ignored.
func (f *accountForm) key(line string) accountKey {
	name, _, _ := strings.Cut(line, ":")
	switch {
	case isRemark(line):
		if strings.Contains(line, "$FreeBSD:") {
			line = string(untagged([]byte(line)))
		}
	case name != "" && !isNIS(line) && strings.Count(line, ":") == len(f.fields)-1:
		return accountKey{entry: true, text: name}
	}
	return accountKey{text: line}
}

// isRemark recognizes comments and blank lines as pwd_mkdb(8) does.
func isRemark(line string) bool {
	line = strings.TrimLeft(line, " \t")
	return line == "" || line[0] == '#'
}

func isNIS(line string) bool { return line != "" && (line[0] == '+' || line[0] == '-') }

func tailOf(lines []*account) int {
	tail := len(lines)
	for i := len(lines) - 1; i >= 0 && !lines[i].entry; i-- {
		if isNIS(lines[i].text) {
			tail = i
		}
	}
	return tail
}

func (a *accounts) account(k accountKey) *account {
	x := a.by[k]
	if x == nil {
		x = &account{accountKey: k}
		a.by[k], a.all = x, append(a.all, x)
	}
	return x
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
		if x.clash != nil {
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

func (a *accounts) decide(x *account) {
	gone := len(x.theirs) == 0
	switch {
	case slices.Equal(x.mine, x.theirs), slices.Equal(x.old, x.theirs):
		x.result = x.mine
	case gone && slices.Equal(x.old, x.mine) && x.text == a.needed:
		x.result, x.note = x.mine, "gone from the new default, and kept"
	case slices.Equal(x.old, x.mine):
		x.result = x.theirs
	case gone:
		x.result, x.note = x.mine, "gone from the new default, and kept: it was changed here"
	case len(x.mine) == 0:
		x.note = "deleted here and changed in the new default: it stays deleted"
	case x.ambiguous():
		x.conflict("a name that is there more than once, changed on both sides")
	default:
		a.byField(x, "")
	}
}

// ambiguous reports that an entry occurs more than once, so that nobody knows which line became which.
func (x *account) ambiguous() bool { return max(len(x.old), len(x.mine), len(x.theirs)) > 1 }

// conflict makes all lines of an entry a conflict.
func (x *account) conflict(note string) {
	x.clash, x.note = &clash{x.mine, x.old, x.theirs}, note
}

// byField merges an entry that mine and theirs have once. taken is the name that has the number that theirs
// gives to this entry, "" for none.
func (a *accounts) byField(x *account, taken string) {
	known := len(x.old) > 0
	o, m, t := make([]string, len(a.fields)), strings.Split(x.mine[0], ":"), strings.Split(x.theirs[0], ":")
	if known {
		o = strings.Split(x.old[0], ":")
	}
	var both []string
	for i := range m {
		v, agreed := a.field(i, known, o[i], m[i], t[i])
		switch {
		case i == fieldNumber && taken != "":
			both = append(both, a.takenNote(t[i], taken)+"not changed")
		case agreed:
			o[i], m[i], t[i] = v, v, v
		case i == fieldPassword:
			both = append(both, "password changed on both sides")
		default:
			both = append(both, fmt.Sprintf("%s %q here, %q in the new default", a.fields[i], m[i], t[i]))
		}
	}
	if len(both) == 0 {
		x.result = []string{strings.Join(m, ":")}
		return
	}
	x.clash, x.note = &clash{
		mine:   []string{strings.Join(m, ":")},
		theirs: []string{strings.Join(t, ":")},
	}, strings.Join(both, "; ")
	if known {
		x.clash.old = []string{strings.Join(o, ":")}
	}
}

func (a *accounts) takenNote(number, by string) string {
	return fmt.Sprintf("%s %s is taken by %s: ", a.fields[fieldNumber], pathname.Quote(number),
		pathname.Quote(by))
}

func (f *accountForm) field(i int, known bool, old, mine, theirs string) (v string, agreed bool) {
	switch {
	case mine == theirs, known && old == theirs:
		return mine, true
	case known && old == mine:
		return theirs, true
	case known && f.members > 0 && i == f.members:
		return mergeMembers(old, mine, theirs), true
	}
	return "", false
}

// mergeMembers merges comma-separated lists. It starts with mine, adds what theirs added and drops what
// theirs dropped.
func mergeMembers(old, mine, theirs string) string {
	o, m, t := membersOf(old), membersOf(mine), membersOf(theirs)
	var out []string
	changed := false
	for n := range strings.SplitSeq(mine, ",") {
		if o[n] && !t[n] {
			changed = true
		} else if n != "" {
			out = append(out, n)
		}
	}
	for n := range strings.SplitSeq(theirs, ",") {
		if n != "" && !o[n] && !m[n] {
			out, m[n], changed = append(out, n), true, true
		}
	}
	if !changed {
		return mine // unchanged, byte for byte
	}
	return strings.Join(out, ",")
}

func membersOf(list string) map[string]bool {
	set := map[string]bool{}
	for n := range strings.SplitSeq(list, ",") {
		if n != "" {
			set[n] = true
		}
	}
	return set
}

// numbers prevents two names from sharing a number that mine gave to one and theirs to the other. The name
// that is refused keeps mine's number. Theirs may have given that number to a third name meanwhile, so there
// is a queue.
func (a *accounts) numbers() {
	taken, given := map[string]*account{}, map[string][]*account{}
	var queue []string
	take := func(number string, x *account) {
		if taken[number] == nil {
			taken[number], queue = x, append(queue, number)
		}
	}
	for _, x := range a.all {
		a.claims(x, take, func(number string, x *account) { given[number] = append(given[number], x) })
	}
	for ; len(queue) > 0; queue = queue[1:] {
		for _, x := range given[queue[0]] {
			a.refuse(x, queue[0], taken[queue[0]].text)
			a.claims(x, take, func(string, *account) {})
		}
	}
}

// claims reports the numbers that an entry takes in the result from mine alone, and those from theirs alone.
func (a *accounts) claims(x *account, mine, theirs func(number string, x *account)) {
	if !x.entry || slices.Equal(x.mine, x.theirs) {
		return
	}
	here, there, result := numbersOf(x.mine), numbersOf(x.theirs), x.result
	if x.clash != nil {
		result = x.clash.mine
	}
	for n := range numbersOf(result) {
		if here[n] && !there[n] {
			mine(n, x)
		}
		if there[n] && !here[n] {
			theirs(n, x)
		}
	}
}

func numbersOf(lines []string) map[string]bool {
	set := map[string]bool{}
	for _, l := range lines {
		if n, err := accountNumber(strings.SplitN(l, ":", fieldNumber+2)[fieldNumber]); err == nil {
			set[n] = true
		}
	}
	return set
}

// refuse leaves an entry the number it has in mine. If theirs adds the entry, refuse leaves it out.
func (a *accounts) refuse(x *account, number, by string) {
	switch {
	case len(x.mine) == 0:
		x.conflict(a.takenNote(number, by) + "not added")
	case x.ambiguous():
		x.conflict(a.takenNote(number, by) + "not changed")
	default:
		a.byField(x, by)
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
	case x.clash != nil && i == 0:
		return a.marked(x.clash)
	case x.clash != nil || i >= len(x.result):
		return nil
	case i == lines-1:
		return x.result[i:]
	}
	return x.result[i : i+1]
}

func (a *accounts) marked(c *clash) []string {
	return slices.Concat([]string{marker("<", a.names.Mine)}, c.mine, []string{marker("|", a.names.Old)},
		c.old, []string{marker("=", "")}, c.theirs, []string{marker(">", a.names.Theirs)})
}

func marker(sign, label string) string {
	return strings.TrimSuffix(strings.Repeat(sign, 7)+" "+label, " ")
}

// maxAccountLine is the longest line in bytes: LINE_MAX, less the line end and NUL that pwd_mkdb adds.
const maxAccountLine = 2046

// Passwd makes passwd(5) from master.passwd(5), byte for byte as pwd_mkdb -p does: without passwords, class
// and times, and with numbers as pwd_mkdb reads them. Comments and blank lines stay. NIS lines are entries
// that need no numbers. What pwd_mkdb refuses is an error that names the line without its text (pwd_mkdb.c,
// pw_scan.c). A NUL is ErrBinary.
func Passwd(master []byte) ([]byte, error) {
	if bytes.IndexByte(master, 0) >= 0 {
		return nil, fmt.Errorf("master.passwd: %w", ErrBinary)
	}
	var out bytes.Buffer
	n := 0
	for l := range strings.Lines(string(master)) {
		n++
		line, err := passwdLine(strings.TrimSuffix(l, "\n"))
		if err != nil {
			return nil, fmt.Errorf("master.passwd:%d: %w", n, err)
		}
		out.WriteString(line + "\n")
	}
	return out.Bytes(), nil
}

func passwdLine(line string) (string, error) {
	f, want := strings.Split(line, ":"), len(accountForms["master.passwd"].fields)
	switch {
	case len(line) > maxAccountLine:
		return "", fmt.Errorf("longer than %d bytes", maxAccountLine)
	case isRemark(line):
		return line, nil
	case len(f) != want:
		return "", fmt.Errorf("%d fields where there ought to be %d", len(f), want)
	}
	for i, what := range []string{2: "uid", 3: "gid"} {
		if what == "" || f[i] == "" && isNIS(line) {
			continue
		}
		var err error
		if f[i], err = accountNumber(f[i]); err != nil {
			return "", fmt.Errorf("%s: %w", what, err)
		}
	}
	if f[0] == "root" && f[2] != "0" {
		return "", errors.New("the uid of root is not 0")
	}
	return strings.Join([]string{f[0], "*", f[2], f[3], f[7], f[8], f[9]}, ":"), nil
}

// accountNumber reads a uid or gid as strtoul(3) does.
func accountNumber(text string) (string, error) {
	digits := strings.TrimPrefix(strings.TrimLeft(text, " \t\n\v\f\r"), "+")
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return "", errors.New("no number of 32 bits") // without the text: it may be a password
	}
	return strconv.FormatUint(n, 10), nil
}
