package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"

	"cfgd/config/conffile"
)

// Class is what cfgd does with a changed path.
type Class string

// The classes of paths.
const (
	Persist  Class = "persist"  // saved; the default
	Secret   Class = "secret"   // saved, its contents never shown
	Derived  Class = "derived"  // saved, hidden in diffs, rebuilt from its source
	Volatile Class = "volatile" // neither saved nor reported
	Ignore   Class = "ignore"   // editors' temporaries and locks: as if they were not there
	Report   Class = "report"   // not saved, but listed
)

// allClasses are the classes that cfgd.toml may name.
var allClasses = []Class{Persist, Secret, Volatile, Ignore, Report, Derived}

// ClassRule is one line of the table of classes.
//
// Pattern is one of doublestar's (*, ?, [a-z], {a,b}, ** across directories) on the path relative to etc.
// As in gitignore(5), a pattern without a slash matches a name at any depth, and one with a slash is
// anchored at etc; a leading slash only anchors. A pattern of cfgd.toml that matches a directory holds
// for all below it.
type ClassRule struct {
	Pattern string
	Class   Class
	Secret  bool            // contents are never shown, whatever the class; implied by class secret
	Reason  string          // why, for cfgd check
	Origin  conffile.Origin // of a [[path]]; the zero Origin is the built-in table
}

// Classes maps every path to its class; see ClassRule for the patterns and builtinRules for the table.
// The zero value and nil have only the built-in table. It does not change after Load and is safe for
// concurrent use.
type Classes struct {
	user []ClassRule
	set  *ruleSet // of user
}

// defaultReason is the reason if no rule matched.
const defaultReason = "nothing else is said about it"

var builtinSet = compileRules(builtinRules, false)

// newClasses puts the administrator's rules before the built-in ones; their patterns have been checked.
func newClasses(user []ClassRule) *Classes {
	return &Classes{user: user, set: compileRules(user, true)}
}

// Of returns the class of a path relative to etc and the reason of the rule that decided.
func (c *Classes) Of(name string) (Class, string) {
	if c != nil && c.set != nil {
		if i := c.set.first(name); i >= 0 {
			return c.user[i].Class, c.user[i].Reason
		}
	}
	if i := builtinSet.first(name); i >= 0 {
		return builtinRules[i].Class, builtinRules[i].Reason
	}
	return Persist, defaultReason
}

// Secret reports whether the contents of a path must not be shown. A [[path]] of class persist makes a
// built-in secret public; one of another class only changes how it is saved. Everything below a directory
// with a secret's name is secret too, and so is a path with the name of a directory of secrets: somebody
// may have moved one into the other.
func (c *Classes) Secret(name string) bool {
	if c != nil && c.set != nil {
		if i := c.set.first(name); i >= 0 {
			switch c.user[i].Class {
			case Secret:
				return true
			case Persist:
				return false
			}
		}
		if i := c.set.first(name + anyName); i >= 0 && c.user[i].Class == Secret {
			return true
		}
	}
	if secretRule(builtinSet.first(name + anyName)) {
		return true
	}
	for ; name != ""; name = name[:max(strings.LastIndexByte(name, '/'), 0)] {
		if secretRule(builtinSet.first(name)) {
			return true
		}
	}
	return false
}

// anyName stands for a name below a directory that no rule matches by itself.
const anyName = "/\x01"

func secretRule(i int) bool {
	return i >= 0 && (builtinRules[i].Secret || builtinRules[i].Class == Secret)
}

// Table returns all rules in the order in which they are tried, for cfgd check.
func (c *Classes) Table() []ClassRule {
	if c == nil {
		return slices.Clone(builtinRules)
	}
	return slices.Concat(c.user, builtinRules)
}

// Equal reports whether two tables give the same results.
func (c *Classes) Equal(o *Classes) bool { return slices.Equal(c.Table(), o.Table()) }

// checkPattern returns what is wrong with a pattern of cfgd.toml, or nil.
func checkPattern(pattern string) error {
	switch {
	case strings.Trim(pattern, "/") == "":
		return fmt.Errorf("match is empty")
	case slices.Contains(strings.Split(pattern, "/"), ".."):
		return fmt.Errorf("match %q leads out of etc", pattern)
	case !doublestar.ValidatePattern(pattern) || !utf8.ValidString(pattern):
		return fmt.Errorf("match %q is not a valid pattern", pattern)
	}
	return nil
}

// matcher matches one pattern, in the cheapest way that its form allows, because a scan asks for
// thousands of paths.
type matcher struct {
	rule    int
	name    bool   // looks at the last component alone
	prefix  string // literal text that a path must have at the beginning,
	suffix  string // at the end,
	middle  string // and anywhere
	exact   bool   // nothing more to look at
	pattern string
}

func (m *matcher) match(full, base string) bool {
	s := full
	if m.name {
		s = base
	}
	if len(s) < len(m.prefix)+len(m.suffix) || !strings.HasPrefix(s, m.prefix) ||
		!strings.HasSuffix(s, m.suffix) || !strings.Contains(s, m.middle) {
		return false
	}
	if m.exact {
		return true
	}
	ok, err := doublestar.Match(m.pattern, s)
	return ok && err == nil
}

// ruleSet is a compiled table: literal patterns are looked up, the others tried in order.
type ruleSet struct {
	names map[string]int // a literal name at any depth, and the first rule that has it
	paths map[string]int // a literal path
	globs []matcher      // in the order of rules
	tree  bool           // a rule that matches a directory holds for all below it
}

// special are the bytes that have a meaning in a pattern.
const special = `*?[]{}\`

// compileRules prepares a table; tree is for the administrator's rules, see ruleSet.
func compileRules(rules []ClassRule, tree bool) *ruleSet {
	s := &ruleSet{names: map[string]int{}, paths: map[string]int{}, tree: tree}
	for i, r := range rules {
		pattern := strings.TrimSuffix(r.Pattern, "/")
		anchored := strings.Contains(pattern, "/")
		for _, p := range alternatives(strings.TrimPrefix(pattern, "/")) {
			s.add(i, p, anchored)
		}
	}
	return s
}

// add compiles one pattern.
func (s *ruleSet) add(rule int, pattern string, anchored bool) {
	literals := s.names
	if anchored {
		literals = s.paths
	}
	if strings.ContainsAny(pattern, special) {
		s.globs = append(s.globs, compileGlob(rule, pattern, !anchored))
	} else if _, dup := literals[pattern]; !dup {
		literals[pattern] = rule
	}
}

// alternatives expands plain braces of a pattern, a{b,c} into ab and ac: most results are literal and can
// be looked up. Other braces are left to doublestar.
func alternatives(pattern string) []string {
	open := strings.IndexByte(pattern, '{')
	end := strings.IndexByte(pattern, '}')
	if open < 0 || end < open || strings.ContainsAny(pattern, `\[`) ||
		strings.Contains(pattern[open+1:end], "{") {
		return []string{pattern}
	}
	var out []string
	for _, word := range strings.Split(pattern[open+1:end], ",") {
		out = append(out, alternatives(pattern[:open]+word+pattern[end+1:])...)
	}
	return out
}

// compileGlob finds the literal parts of a pattern. As in gitignore(5), a/** is what is inside a, without
// a itself.
func compileGlob(rule int, pattern string, name bool) matcher {
	if dir, ok := strings.CutSuffix(pattern, "/**"); ok {
		if !strings.ContainsAny(dir, special) {
			return matcher{rule: rule, prefix: dir + "/", exact: true}
		}
		pattern = dir + "/*/**"
	}
	m := matcher{rule: rule, name: name, pattern: pattern}
	if strings.ContainsAny(pattern, `?[]{}\`) || !name {
		m.findLiterals()
		return m
	}
	// Only stars, in a name: there is no slash at which they would stop.
	parts := strings.Split(pattern, "*")
	last := len(parts) - 1
	m.prefix, m.suffix = parts[0], parts[last]
	switch middle := strings.Join(parts[1:last], ""); {
	case len(parts) == 2:
		m.exact = true
	case len(parts) == 3 && (m.prefix == "" && m.suffix == ""):
		m.middle, m.exact = middle, true
	default:
		m.middle = parts[1]
	}
	return m
}

// findLiterals finds the literal text that a path must begin with and contain to match a pattern.
func (m *matcher) findLiterals() {
	m.prefix = m.pattern[:strings.IndexAny(m.pattern, special)]
	if !m.name {
		m.prefix = strings.TrimSuffix(m.prefix, "/") // a/**/b matches a/b
	}
	if strings.ContainsAny(m.pattern, `[]{}\`) {
		return
	}
	for _, component := range strings.Split(m.pattern, "/") {
		for _, text := range strings.FieldsFunc(component, func(r rune) bool {
			return r == '*' || r == '?'
		}) {
			if len(text) > len(m.middle) {
				m.middle = text
			}
		}
	}
}

// first returns the first rule that holds for a path, or -1.
func (s *ruleSet) first(name string) int {
	best := s.firstOne(name)
	if !s.tree {
		return best
	}
	for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if i := s.firstOne(dir); i >= 0 && (best < 0 || i < best) {
			best = i
		}
	}
	return best
}

// firstOne returns the first rule that matches the path itself, or -1.
func (s *ruleSet) firstOne(name string) int {
	base := name[strings.LastIndexByte(name, '/')+1:]
	best := -1
	if i, ok := s.paths[name]; ok {
		best = i
	}
	if i, ok := s.names[base]; ok && (best < 0 || i < best) {
		best = i
	}
	for i := range s.globs {
		m := &s.globs[i]
		if best >= 0 && m.rule > best {
			break
		}
		if m.match(name, base) {
			return m.rule
		}
	}
	return best
}
