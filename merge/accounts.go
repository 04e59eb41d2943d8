package merge

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// accountForm is how the lines of an account file are made up: fields between colons.
type accountForm struct {
	what    string   // user or group
	fields  []string // their names; the first is the key
	id      int      // the field of the number that must be one's own
	members int      // the field that is a list, 0 for none
}

// password is the field that is never shown: the second of each form.
const password = 1

// accountForms are master.passwd(5), passwd(5) and group(5).
var accountForms = map[string]*accountForm{
	"master.passwd": {"user", []string{"name", "password", "uid", "gid", "class", "change", "expire", "full name", "home", "shell"}, 2, 0},
	"passwd":        {"user", []string{"name", "password", "uid", "gid", "full name", "home", "shell"}, 2, 0},
	"group":         {"group", []string{"name", "password", "gid", "members"}, 2, 3},
}

// The bounds of an account file that is merged: bytes and lines.
const (
	maxAccounts     = 8 << 20
	maxAccountLines = 200_000
)

// IsAccounts reports whether Accounts knows the file of that path below etc.
func IsAccounts(path string) bool { return accountForms[path] != nil }

// Accounts merges account files by entry and field: each field that one side alone changed is taken from it, members of groups are added and
// taken out one by one, and the order is mine. A password that mine set stands, whatever theirs did. Comments, NIS lines and what is no
// entry are kept as they are. It is false for a path that is no account file. The errors are ErrBinary and ErrTooLarge.
func Accounts(path string, old, mine, theirs []byte, names Names) (m Merged, ok bool, err error) {
	form := accountForms[path]
	if form == nil {
		return m, false, nil
	}
	for _, text := range [][]byte{old, mine, theirs} {
		if bytes.IndexByte(text, 0) >= 0 {
			return m, true, ErrBinary
		}
		if len(text) > maxAccounts || bytes.Count(text, newline) > maxAccountLines {
			return m, true, ErrTooLarge
		}
	}
	switch {
	case bytes.Equal(mine, theirs), bytes.Equal(old, mine):
		return Merged{Content: theirs}, true, nil
	case bytes.Equal(old, theirs):
		return Merged{Content: mine}, true, nil
	}
	a := &accounts{form: form, names: names, old: form.read(old), mine: form.read(mine), theirs: form.read(theirs)}
	a.run()
	return Merged{Content: a.text(mine), Conflicts: a.conflicts, Notes: a.notes}, true, nil
}

// record is a line of an account file.
type record struct {
	text   string // without its line break
	fields []string
	entry  bool // else a comment, a NIS line, a blank line, or what is no entry
}

func (r *record) name() string { return r.fields[0] }

// roster is the lines of a file by key, in order.
type roster struct {
	keys []string
	by   map[string]*record
}

// read keys the entries by their names and other lines by their text. What comes more than once is numbered.
func (f *accountForm) read(text []byte) *roster {
	r := &roster{by: map[string]*record{}}
	seen := map[string]int{}
	for _, l := range lines(text) {
		rec := f.record(strings.TrimSuffix(string(l), "\n"))
		key := "line " + string(untagged([]byte(rec.text)))
		if rec.entry {
			key = "entry " + rec.name()
		}
		if seen[key]++; seen[key] > 1 {
			key = fmt.Sprintf("%s %d", key, seen[key])
		}
		r.keys, r.by[key] = append(r.keys, key), rec
	}
	return r
}

func (f *accountForm) record(text string) *record {
	r := &record{text: text, fields: strings.Split(text, ":")}
	r.entry = len(r.fields) == len(f.fields) && r.fields[0] != "" && !strings.ContainsAny(r.fields[0][:1], "#+-") && strings.TrimSpace(r.fields[0]) == r.fields[0]
	return r
}

// accounts is a merge of account files on its way.
type accounts struct {
	form              *accountForm
	names             Names
	old, mine, theirs *roster

	keys      []string            // of the result, in order
	out       map[string][]string // its lines; more than one where there are markers
	conflicts int
	notes     []string
}

func (a *accounts) run() {
	a.out = map[string][]string{}
	for _, key := range a.mine.keys {
		a.ours(key, a.old.by[key], a.mine.by[key], a.theirs.by[key])
	}
	before := ""
	for _, key := range a.theirs.keys {
		a.new(key, before)
		if a.out[key] != nil {
			before = key
		}
	}
}

func (a *accounts) note(format string, args ...any) {
	a.notes = append(a.notes, fmt.Sprintf(format, args...))
}

func (a *accounts) keep(key string, text ...string) {
	a.keys, a.out[key] = append(a.keys, key), text
}

// ours decides about a line that mine has.
func (a *accounts) ours(key string, old, mine, theirs *record) {
	switch {
	case !mine.entry:
		if theirs != nil {
			a.keep(key, theirs.text) // they differ in $FreeBSD$ tags alone
		} else if old == nil {
			a.keep(key, mine.text)
		}
	case theirs != nil:
		a.fields(key, old, mine, theirs)
	case old == nil:
		a.keep(key, mine.text)
	case mine.text == old.text && mine.name() != "root":
	default:
		a.keep(key, mine.text)
		a.note("%s %s: gone from the new default, and kept: it was changed here", a.form.what, mine.name())
	}
}

// new decides about a line that mine has not.
func (a *accounts) new(key, before string) {
	old, mine, theirs := a.old.by[key], a.mine.by[key], a.theirs.by[key]
	switch {
	case mine != nil:
	case old != nil:
		if theirs.entry && theirs.text != old.text {
			a.note("%s %s: deleted here and changed in the new default: it stays deleted", a.form.what, theirs.name())
		}
	case theirs.entry && a.taken(theirs) != "":
		a.conflicts++
		a.note("%s %s: %s %s is taken by %s: not added", a.form.what, theirs.name(), a.form.fields[a.form.id], theirs.fields[a.form.id], a.taken(theirs))
		a.insert(key, before, a.marked(nil, nil, &theirs.text))
	default:
		a.insert(key, before, []string{theirs.text})
	}
}

// taken is who has the number of an entry that theirs adds: one who was given it here, and does not share it there.
func (a *accounts) taken(theirs *record) string {
	id := theirs.fields[a.form.id]
	for _, key := range a.mine.keys {
		m := a.mine.by[key]
		if !m.entry || m.fields[a.form.id] != id {
			continue
		}
		o, t := a.old.by[key], a.theirs.by[key]
		given := o == nil || o.fields[a.form.id] != id
		if given && (t == nil || t.fields[a.form.id] != id) {
			return m.name()
		}
	}
	return ""
}

// insert puts a line of theirs behind the one that it follows there, but not behind NIS lines: what stands behind them is not asked.
func (a *accounts) insert(key, before string, text []string) {
	at := slices.Index(a.keys, before) + 1
	for at > 0 && a.nis(a.keys[at-1]) {
		at--
	}
	a.keys, a.out[key] = slices.Insert(a.keys, at, key), text
}

func (a *accounts) nis(key string) bool {
	text := a.out[key][0]
	return text != "" && strings.ContainsAny(text[:1], "+-")
}

// fields merges an entry that mine and theirs have.
func (a *accounts) fields(key string, old, mine, theirs *record) {
	m, t := slices.Clone(mine.fields), slices.Clone(theirs.fields)
	var clash []string
	for i := range m {
		was, known := "", old != nil
		if known {
			was = old.fields[i]
		}
		if i == a.form.members && i > 0 && known {
			m[i] = mergeMembers(was, m[i], t[i])
			t[i] = m[i]
			continue
		}
		x, y, differ := either(known, was, m[i], t[i])
		if m[i], t[i] = x, y; differ {
			clash = append(clash, a.clash(i, x, y))
		}
	}
	ours, other := strings.Join(m, ":"), strings.Join(t, ":")
	if len(clash) == 0 {
		a.keep(key, ours)
		return
	}
	a.conflicts++
	a.note("%s %s: %s", a.form.what, mine.name(), strings.Join(clash, ", "))
	var was *string
	if old != nil {
		was = &old.text
	}
	a.keep(key, a.marked(&ours, was, &other)...)
}

// either takes the side that changed a value; both differ only where both did.
func either(known bool, old, mine, theirs string) (m, t string, differ bool) {
	switch {
	case mine == theirs, known && theirs == old:
		return mine, mine, false
	case known && mine == old:
		return theirs, theirs, false
	}
	return mine, theirs, true
}

// clash says what both changed. What a password is nobody is told.
func (a *accounts) clash(field int, mine, theirs string) string {
	if field == password {
		return "password changed on both sides"
	}
	return fmt.Sprintf("%s %q here, %q in the new default", a.form.fields[field], mine, theirs)
}

// marked is a conflict with its markers; nil is a version without the entry.
func (a *accounts) marked(mine, old, theirs *string) []string {
	out := []string{label("<<<<<<<", a.names.Mine)}
	for _, part := range []struct {
		text   *string
		behind string
	}{{mine, label("|||||||", a.names.Old)}, {old, "======="}, {theirs, label(">>>>>>>", a.names.Theirs)}} {
		if part.text != nil {
			out = append(out, *part.text)
		}
		out = append(out, part.behind)
	}
	return out
}

func label(marker, name string) string {
	if name == "" {
		return marker
	}
	return marker + " " + name
}

// mergeMembers merges lists between commas: what either side added is there, what either took out is not. The order is mine's.
func mergeMembers(old, mine, theirs string) string {
	list := func(s string) []string {
		return slices.DeleteFunc(strings.Split(s, ","), func(n string) bool { return n == "" })
	}
	o, m, t := list(old), list(mine), list(theirs)
	out := slices.DeleteFunc(slices.Clone(m), func(n string) bool { return slices.Contains(o, n) && !slices.Contains(t, n) })
	for _, n := range t {
		if !slices.Contains(o, n) && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	if slices.Equal(out, m) {
		return mine // as it was written
	}
	return strings.Join(out, ",")
}

// text is the result. It ends in a line break unless mine does not.
func (a *accounts) text(mine []byte) []byte {
	var all []string
	for _, key := range a.keys {
		all = append(all, a.out[key]...)
	}
	if len(all) == 0 {
		return nil
	}
	text := strings.Join(all, "\n")
	if len(mine) == 0 || bytes.HasSuffix(mine, newline) || a.conflicts > 0 {
		text += "\n"
	}
	return []byte(text)
}

// Passwd makes passwd(5) of master.passwd(5), as pwd_mkdb -p does: without the class and the two times, and with a star for each password.
// Comments and blank lines stay, NIS lines lose the same fields.
func Passwd(master []byte) ([]byte, error) {
	var out bytes.Buffer
	for n, l := range lines(master) {
		text := strings.TrimSuffix(string(l), "\n")
		if trimmed := strings.TrimLeft(text, " \t"); trimmed == "" || trimmed[0] == '#' {
			out.WriteString(text + "\n")
			continue
		}
		f := strings.Split(text, ":")
		if len(f) != len(accountForms["master.passwd"].fields) {
			return nil, fmt.Errorf("master.passwd:%d: %d fields where there ought to be 10", n+1, len(f))
		}
		fmt.Fprintf(&out, "%s:*:%s:%s:%s:%s:%s\n", f[0], f[2], f[3], f[7], f[8], f[9])
	}
	return out.Bytes(), nil
}
