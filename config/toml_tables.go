package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cfgd/config/conffile"
	"cfgd/config/pattern"
	"cfgd/config/tomldoc"
)

// tomlReader checks the keys of a cfgd.toml.
type tomlReader struct{ *tomldoc.Doc }

// rules checks all of [[path]].
func (r tomlReader) rules(v any) (rules []ClassRule) {
	list, ok := tomldoc.TableList(v)
	if !ok {
		r.Fail([]string{"path"}, "write [[path]] with two brackets", "path is %s, not an array of tables",
			tomldoc.Kind(v))
		return nil
	}
	for i, entry := range list {
		if rule, ok := r.rule([]string{"path", fmt.Sprint(i)}, entry); ok {
			rules = append(rules, rule)
		}
	}
	return rules
}

func (r tomlReader) rule(at []string, entry map[string]any) (ClassRule, bool) {
	before := r.Errors()
	var match, class conffile.Located
	for _, key := range sorted(entry) {
		full := append(slices.Clone(at), key)
		switch key {
		case "match":
			match = r.Text(full, entry[key])
		case "class":
			class = r.Text(full, entry[key])
		default:
			r.Unknown(full, []string{"match", "class"})
		}
	}
	for _, key := range []string{"match", "class"} {
		if _, ok := entry[key]; !ok && r.Errors() == before {
			r.Fail(at, "add "+key+" = …", "[[path]] has no %s", key)
		}
	}
	if r.Errors() > before {
		return ClassRule{}, false
	}
	return r.checkRule(at, match, class)
}

func (r tomlReader) checkRule(at []string, match, class conffile.Located) (ClassRule, bool) {
	p, ok := r.pattern(match)
	if !ok {
		return ClassRule{}, false
	}
	if !slices.Contains(allClasses, Class(class.Value)) {
		r.Add(conffile.Errorf(class.At,
			"write one of persist, secret, volatile, ignore, report, derived", "class %q is unknown",
			class.Value))
		return ClassRule{}, false
	}
	return ClassRule{
		Pattern: p,
		Class:   Class(class.Value),
		Reason:  "set at " + r.At(at).String(),
		Origin:  r.At(at),
	}, true
}

// pattern checks a pattern. A leading /etc/ is allowed, as on the command line.
func (r tomlReader) pattern(match conffile.Located) (string, bool) {
	p := match.Value
	if below, ok := strings.CutPrefix(p, "/etc/"); ok {
		p = "/" + below
	}
	if err := pattern.Check(p); err != nil {
		r.Add(conffile.Errorf(match.At, "write a pattern such as local/ssl/private/** or *.key", "%v", err))
		return "", false
	}
	return p, true
}

// checkerKeys are the keys of a [[checker]].
var checkerKeys = []string{"match", "command", "stdin", "timeout", "where"}

// checkers checks all of [[checker]].
func (r tomlReader) checkers(v any) (checkers []Checker) {
	list, ok := tomldoc.TableList(v)
	if !ok {
		r.Fail([]string{"checker"}, "write [[checker]] with two brackets",
			"checker is %s, not an array of tables", tomldoc.Kind(v))
		return nil
	}
	for i, entry := range list {
		if ch, ok := r.checker([]string{"checker", fmt.Sprint(i)}, entry); ok {
			checkers = append(checkers, ch)
		}
	}
	return checkers
}

func (r tomlReader) checker(at []string, entry map[string]any) (Checker, bool) {
	before := r.Errors()
	c := Checker{
		Timeout: checkWithin,
		Where:   WhereTarget,
		Origin:  r.At(at),
		Reason:  "set at " + r.At(at).String(),
	}
	for _, key := range sorted(entry) {
		r.checkerKey(&c, append(slices.Clone(at), key), entry[key])
	}
	for _, key := range []string{"match", "command"} {
		if _, ok := entry[key]; !ok && r.Errors() == before {
			r.Fail(at, "add "+key+" = …", "[[checker]] has no %s", key)
		}
	}
	file := slices.Contains(c.Command, fileWord)
	switch {
	case r.Errors() > before || len(c.Command) == 0:
	case c.Stdin && file:
		r.Fail(at, "leave one of them out", "[[checker]] has FILE in its command, and stdin")
	case !c.Stdin && !file:
		r.Fail(at, `write command = ["nginx", "-t", "-c", "FILE"], or stdin = true`,
			"[[checker]] says nowhere how the program gets the file")
	case c.Stdin && c.Where != WhereHost:
		r.Fail(at, `add where = "host", or name the file: command = ["nginx", "-t", "-c", "FILE"]`,
			"[[checker]] has stdin, and in the jail's root the file is named")
	}
	return c, r.Errors() == before
}

// checkerKey checks one key.
func (r tomlReader) checkerKey(c *Checker, full []string, v any) {
	switch full[len(full)-1] {
	case "match":
		if l := r.Text(full, v); l.Value != "" {
			c.Match, _ = r.pattern(l)
		}
	case "command":
		c.Command = r.Words(full, v)
	case "stdin":
		on, ok := v.(bool)
		if !ok {
			r.Fail(full, "write true or false", "%s is %s, not a boolean", r.Dotted(full), tomldoc.Kind(v))
		}
		c.Stdin = on
	case "timeout":
		d, err := time.ParseDuration(fmt.Sprint(v))
		if err != nil || d <= 0 || d > time.Minute {
			r.Fail(full, `write a duration of a minute at most, such as "5s"`, "%s: %v is not one",
				r.Dotted(full), v)
		}
		c.Timeout = d
	case "where":
		if c.Where = Where(r.Text(full, v).Value); c.Where != "" && c.Where != WhereHost &&
			c.Where != WhereTarget {
			r.Fail(full, "write host or target", "%s %q is unknown", r.Dotted(full), c.Where)
		}
	default:
		r.Unknown(full, checkerKeys)
	}
}
