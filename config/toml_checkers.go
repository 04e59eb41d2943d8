package config

import (
	"fmt"
	"slices"
	"time"
)

// checkerKeys are the keys of a [[checker]].
var checkerKeys = []string{"match", "command", "stdin", "timeout", "where"}

// checkers checks all of [[checker]].
func (r *tomlReader) checkers(c *tomlConf, v any) {
	list, ok := tableList(v)
	if !ok {
		r.fail([]string{"checker"}, "write [[checker]] with two brackets",
			"checker is %s, not an array of tables", tomlKind(v))
		return
	}
	for i, entry := range list {
		if ch, ok := r.checker([]string{"checker", fmt.Sprint(i)}, entry); ok {
			c.checkers = append(c.checkers, ch)
		}
	}
}

func (r *tomlReader) checker(at []string, entry map[string]any) (Checker, bool) {
	before := len(r.errs)
	c := Checker{
		Timeout: checkWithin,
		Where:   WhereTarget,
		Origin:  r.at(at),
		Reason:  "set at " + r.at(at).String(),
	}
	for _, key := range sorted(entry) {
		r.checkerKey(&c, append(slices.Clone(at), key), entry[key])
	}
	for _, key := range []string{"match", "command"} {
		if _, ok := entry[key]; !ok && len(r.errs) == before {
			r.fail(at, "add "+key+" = …", "[[checker]] has no %s", key)
		}
	}
	file := slices.Contains(c.Command, fileWord)
	switch {
	case len(r.errs) > before || len(c.Command) == 0:
	case c.Stdin && file:
		r.fail(at, "leave one of them out", "[[checker]] has FILE in its command, and stdin")
	case !c.Stdin && !file:
		r.fail(at, `write command = ["nginx", "-t", "-c", "FILE"], or stdin = true`,
			"[[checker]] says nowhere how the program gets the file")
	case c.Stdin && c.Where != WhereHost:
		r.fail(at, `add where = "host", or name the file: command = ["nginx", "-t", "-c", "FILE"]`,
			"[[checker]] has stdin, and in the jail's root the file is named")
	}
	return c, len(r.errs) == before
}

// checkerKey checks one key.
func (r *tomlReader) checkerKey(c *Checker, full []string, v any) {
	switch full[len(full)-1] {
	case "match":
		if l := r.text(full, v); l.Value != "" {
			c.Match, _ = r.pattern(l)
		}
	case "command":
		c.Command = r.words(full, v)
	case "stdin":
		on, ok := v.(bool)
		if !ok {
			r.fail(full, "write true or false", "%s is %s, not a boolean", dotted(full), tomlKind(v))
		}
		c.Stdin = on
	case "timeout":
		d, err := time.ParseDuration(fmt.Sprint(v))
		if err != nil || d <= 0 || d > time.Minute {
			r.fail(full, `write a duration of a minute at most, such as "5s"`, "%s: %v is not one",
				dotted(full), v)
		}
		c.Timeout = d
	case "where":
		if c.Where = Where(r.text(full, v).Value); c.Where != "" && c.Where != WhereHost &&
			c.Where != WhereTarget {
			r.fail(full, "write host or target", "%s %q is unknown", dotted(full), c.Where)
		}
	default:
		r.unknown(full, checkerKeys)
	}
}

// words checks for an array of strings.
func (r *tomlReader) words(full []string, v any) []string {
	list, ok := v.([]any)
	var out []string
	for _, w := range list {
		s, isText := w.(string)
		ok = ok && isText && s != ""
		out = append(out, s)
	}
	if !ok {
		r.fail(full, `write it as ["program", "argument"]`, "%s is no array of words", dotted(full))
		return nil
	}
	return out
}
