package merge

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
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
	old, mine, theirs []string       // its lines; more than one only if a name is not unique
	at                int            // index in mine of the last of them
	result            []string       // its lines in the result,
	unmerged          *conflictLines // unless there is a conflict
	note              string
	written           int // how many of its lines were handled so far
}

// conflictLines holds the lines between conflict markers.
type conflictLines struct{ mine, old, theirs []string }

// accounts is the state of one merge of account files.
type accounts struct {
	*accountForm
	names             Names
	by                map[accountKey]*account
	all               []*account // in the order of mine, then those that only theirs has
	old, mine, theirs fileLines
}

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

// accountNumber reads a uid or gid as strtoul(3) does.
func accountNumber(text string) (string, error) {
	digits := strings.TrimPrefix(strings.TrimLeft(text, " \t\n\v\f\r"), "+")
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return "", errors.New("no number of 32 bits") // without the text: it may be a password
	}
	return strconv.FormatUint(n, 10), nil
}

// maxAccountLine is the longest line in bytes: LINE_MAX, less the line end and NUL that pwd_mkdb adds.
const maxAccountLine = 2046

// Passwd makes passwd(5) from master.passwd(5), byte for byte as pwd_mkdb -p does: without passwords, class
// and times, and with numbers as pwd_mkdb reads them. Comments and blank lines are left out: everybody reads
// passwd, and a comment may be an account with its password. NIS lines are entries that need no numbers. What
// pwd_mkdb refuses is an error that names the line without its text (pwd_mkdb.c, pw_scan.c). A NUL is
// ErrBinary.
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
		out.WriteString(line)
	}
	return out.Bytes(), nil
}

// passwdLine returns the line of passwd for a line of master.passwd, "" for a comment.
func passwdLine(line string) (string, error) {
	f, want := strings.Split(line, ":"), len(accountForms["master.passwd"].fields)
	switch {
	case len(line) > maxAccountLine:
		return "", fmt.Errorf("longer than %d bytes", maxAccountLine)
	case isRemark(line):
		return "", nil
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
	return strings.Join([]string{f[0], "*", f[2], f[3], f[7], f[8], f[9]}, ":") + "\n", nil
}
