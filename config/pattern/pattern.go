// Package pattern matches paths of an etc against tables of patterns, of which the first that matches counts.
//
// A pattern is one of doublestar's (*, ?, [a-z], {a,b}, ** across directories). As in gitignore(5), one
// without a slash matches a name at any depth, and one with a slash is anchored at etc; a leading slash only
// anchors. What always holds: a compiled table decides as doublestar would, rule by rule; it does not change,
// and is safe for concurrent use.
package pattern

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
)

// Check returns what is wrong with a pattern of cfgd.toml, or nil.
func Check(pattern string) error {
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

// Table is a compiled table: literal patterns are looked up, the others tried in order.
type Table struct {
	names map[string]int // a literal name at any depth, and the first rule that has it
	paths map[string]int // a literal path
	globs []matcher      // in the order of rules
	tree  bool           // a rule that matches a directory holds for all below it
}

// special are the bytes that have a meaning in a pattern.
const special = `*?[]{}\`

// Compile prepares a table of patterns that Check accepts. With tree, a pattern that matches a directory
// holds for all below it too.
func Compile(patterns []string, tree bool) *Table {
	s := &Table{names: map[string]int{}, paths: map[string]int{}, tree: tree}
	for i, p := range patterns {
		p = strings.TrimSuffix(p, "/")
		anchored := strings.Contains(p, "/")
		for _, plain := range alternatives(strings.TrimPrefix(p, "/")) {
			s.add(i, plain, anchored)
		}
	}
	return s
}

// add compiles one pattern.
func (s *Table) add(rule int, pattern string, anchored bool) {
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

// First returns the number of the first pattern that holds for a path relative to etc, or -1.
func (s *Table) First(name string) int {
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
func (s *Table) firstOne(name string) int {
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
