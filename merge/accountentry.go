package merge

import (
	"fmt"
	"slices"
	"strings"

	"cfgd/internal/pathname"
)

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
	x.unmerged, x.note = &conflictLines{mine: x.mine, old: x.old, theirs: x.theirs}, note
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
			m[i], t[i] = v, v
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
	// The old default is shown as it was. A field merged into it may be a password that was set here.
	x.unmerged, x.note = &conflictLines{
		mine:   []string{strings.Join(m, ":")},
		old:    x.old,
		theirs: []string{strings.Join(t, ":")},
	}, strings.Join(both, "; ")
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
	if x.unmerged != nil {
		result = x.unmerged.mine
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
