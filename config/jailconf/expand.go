package jailconf

import (
	"strings"

	"cfgd/config/conffile"
)

// expandState is how far a parameter's variables are expanded.
type expandState byte

const (
	expandNew expandState = iota
	expandBusy
	expandDone
	expandBad // a problem was reported
)

// params are the parameters and variables of one jail.
type params struct {
	limits *limits
	name   string
	at     conffile.Origin
	byKey  map[string]*parameter
	order  []*parameter
	hidden []hiddenAssign
	chain  int // of variables being expanded
}

// parameter is a parameter or variable of one jail.
type parameter struct {
	name     string
	variable bool
	fixed    bool // cannot be set again: name and jid
	values   []token
	origins  []conffile.Origin // of values
	at       conffile.Origin
	section  *section // of the last assignment
	state    expandState
	out      []conffile.Located
}

// hiddenAssign is a command that another in the same section replaced.
type hiddenAssign struct {
	name          string
	first, second token
	at, again     conffile.Origin
}

// paramKey returns the common key of X and noX: "no" may precede the last component of a parameter, and
// names the same parameter.
func paramKey(name string) string {
	i := strings.LastIndexByte(name, '.') + 1
	return name[:i] + strings.TrimPrefix(name[i:], "no")
}

// expandAll expands the variables of every parameter. A bad parameter is left out of the block, because
// its value is not known.
func (j *params) expandAll() Block {
	b := Block{Name: j.name, Params: map[string]Param{}}
	for _, v := range j.order {
		if !j.expand(v) || v.variable {
			continue
		}
		p := Param{Origin: v.at}
		for _, l := range v.out {
			p.Values = append(p.Values, l.Value)
			p.Origins = append(p.Origins, l.At)
		}
		b.Params[v.name] = p
	}
	for _, h := range j.hidden {
		v := &parameter{name: h.name}
		if j.expandWord(v, h.first, h.at) && j.expandWord(v, h.second, h.again) && len(v.out) > 1 {
			b.Hidden = append(b.Hidden, Hidden{h.name, v.out[0], v.out[len(v.out)-1]})
		}
	}
	return b
}

// expand expands a parameter's values, after those of the variables in it. It returns false if that
// fails.
func (j *params) expand(v *parameter) bool {
	if v.state != expandNew {
		return v.state == expandDone
	}
	v.state = expandBusy
	j.chain++
	for i, w := range v.values {
		if !j.expandWord(v, w, v.origins[i]) {
			v.state = expandBad
			break
		}
	}
	j.chain--
	if v.state == expandBusy {
		v.state = expandDone
	}
	return v.state == expandDone
}

// expandWord adds the expansion of a word to a parameter's values: one value, or a whole list if the word
// is the list's name.
func (j *params) expandWord(v *parameter, w token, at conffile.Origin) bool {
	if text, ok := w.literal(); ok {
		v.out = append(v.out, conffile.Located{Value: text, At: at})
		return j.checkBounds(v, at, len(text), len(text))
	}
	var b strings.Builder
	var list []conffile.Located
	for i, part := range w.parts {
		text := part.text
		if part.variable {
			values, ok := j.lookup(v, part, at)
			if !ok {
				return false
			}
			if len(values) > 1 && (b.Len() > 0 || i < len(w.parts)-1) {
				return j.bad(v, conffile.At(at.File, part.pos.line), "let it stand alone between commas",
					"$%s is a list, which cannot be put into a longer word", part.text)
			}
			text, list = values[0].Value, values[1:]
		}
		b.WriteString(text)
		if !j.checkBounds(v, at, len(text), b.Len()) {
			return false
		}
	}
	v.out = append(v.out, conffile.Located{Value: b.String(), At: at})
	for _, l := range list {
		v.out = append(v.out, conffile.Located{Value: l.Value, At: at})
		if !j.checkBounds(v, at, len(l.Value), len(l.Value)) {
			return false
		}
	}
	return true
}

// checkBounds checks the bounds of a list, and of a value that has grown by some bytes to n.
func (j *params) checkBounds(v *parameter, at conffile.Origin, grown, n int) bool {
	if j.limits.bytesLeft -= 32 + grown; j.limits.bytesLeft < 0 {
		// a value costs about 32 bytes besides its text
		j.limits.fail("values of more than %d MiB with their variables put in", maxExpanded>>20)
	}
	switch {
	case j.limits.err != nil:
		return false
	case n > maxValue:
		return j.bad(v, at, "write less", "a value of more than %d KiB with its variables put in",
			maxValue>>10)
	case len(v.out) > maxList:
		return j.bad(v, at, "write less", "more than %d values", maxList)
	}
	return true
}

// lookup returns the values of a variable, or of a parameter that is used as one. The name must be
// exactly as it was written last: after allow.nomount there is no allow.mount.
func (j *params) lookup(user *parameter, part wordPart, at conffile.Origin) ([]conffile.Located, bool) {
	at.Line = part.pos.line
	v := j.byKey[paramKey(part.text)]
	switch {
	case v == nil || v.name != part.text || len(v.values) == 0:
		return nil, j.bad(user, at,
			`define it above, or write '…' or \$ for a "$" that the shell should see`,
			"variable $%s is not set", part.text)
	case v.state == expandBusy:
		return nil, j.bad(user, at, "write one of them out", "variable $%s refers to itself", part.text)
	case j.chain > maxChain:
		return nil, j.bad(user, at, "write some of them out",
			"more than %d variables that refer to each other", maxChain)
	}
	if !j.expand(v) {
		return nil, false
	}
	return v.out, true
}

// bad reports why a parameter has no value, and returns false.
func (j *params) bad(v *parameter, at conffile.Origin, fix, format string, args ...any) bool {
	args = append([]any{v.name, j.name}, args...)
	j.limits.problem(
		conffile.Refuse(conffile.BadParameter, at, j.name, fix, "%s of jail %s: "+format, args...),
	)
	return false
}
