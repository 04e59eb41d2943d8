package config

import (
	"slices"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/pattern"
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
	set  *pattern.Table // of user
}

// defaultReason is the reason if no rule matched.
const defaultReason = "nothing else is said about it"

var builtinSet = pattern.Compile(patternsOf(builtinRules), false)

// newClasses puts the administrator's rules before the built-in ones; their patterns have been checked.
func newClasses(user []ClassRule) *Classes {
	return &Classes{user: user, set: pattern.Compile(patternsOf(user), true)}
}

func patternsOf(rules []ClassRule) []string {
	patterns := make([]string, len(rules))
	for i, r := range rules {
		patterns[i] = r.Pattern
	}
	return patterns
}

// Of returns the class of a path relative to etc and the reason of the rule that decided.
func (c *Classes) Of(name string) (Class, string) {
	if c != nil && c.set != nil {
		if i := c.set.First(name); i >= 0 {
			return c.user[i].Class, c.user[i].Reason
		}
	}
	if i := builtinSet.First(name); i >= 0 {
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
		if i := c.set.First(name); i >= 0 {
			switch c.user[i].Class {
			case Secret:
				return true
			case Persist:
				return false
			}
		}
		if i := c.set.First(name + anyName); i >= 0 && c.user[i].Class == Secret {
			return true
		}
	}
	if secretRule(builtinSet.First(name + anyName)) {
		return true
	}
	for ; name != ""; name = name[:max(strings.LastIndexByte(name, '/'), 0)] {
		if secretRule(builtinSet.First(name)) {
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
