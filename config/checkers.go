package config

import (
	"slices"
	"time"

	"cfgd/config/conffile"
	"cfgd/config/pattern"
)

// Where is where a checker can run.
type Where string

// A checker of the host reads one file and nothing else. One that follows references in the file has to
// run in the target's root.
const (
	WhereHost   Where = "host"
	WhereTarget Where = "target"
)

// fileWord stands for the file in a checker's command.
const fileWord = "FILE"

// Checker is a program that checks the syntax of a configuration file.
type Checker struct {
	Match string // a pattern as ClassRule's
	// Command is the program and its arguments, run without a shell. The word FILE stands for the file.
	// If it is empty nothing checks the file.
	Command []string
	Stdin   bool   // the file is read from standard input and not named in Command; only with WhereHost
	Syntax  string // the name of one of package merge's own checks, in the place of a command
	Timeout time.Duration
	Where   Where
	Reason  string
	Origin  conffile.Origin // of a [[checker]]; the zero Origin is the built-in table
}

// Words returns the program and its arguments for a file. Only a whole word is replaced, never a part:
// -DPROFILE stays.
func (c Checker) Words(file string) []string {
	words := slices.Clone(c.Command)
	for i, w := range words {
		if w == fileWord {
			words[i] = file
		}
	}
	return words
}

// Checkers finds the checker of a path. The zero value and nil have only the built-in table.
type Checkers struct {
	all []Checker // the administrator's first
	set *pattern.Table
}

var builtinCheckerSet = pattern.Compile(matchesOf(builtinCheckers), false)

// newCheckers puts the administrator's checkers before the built-in ones.
func newCheckers(user []Checker) *Checkers {
	return &Checkers{all: user, set: pattern.Compile(matchesOf(user), true)}
}

func matchesOf(list []Checker) []string {
	patterns := make([]string, len(list))
	for i, c := range list {
		patterns[i] = c.Match
	}
	return patterns
}

// Of returns the checker of a path relative to etc, false if nothing checks it.
func (c *Checkers) Of(name string) (Checker, bool) {
	found, ok := Checker{}, false
	if c != nil && c.set != nil {
		if i := c.set.First(name); i >= 0 {
			found, ok = c.all[i], true
		}
	}
	if !ok {
		if i := builtinCheckerSet.First(name); i >= 0 {
			found, ok = builtinCheckers[i], true
		}
	}
	return found, ok && (len(found.Command) > 0 || found.Syntax != "")
}

// Table returns all checkers in the order in which they are tried.
func (c *Checkers) Table() []Checker {
	if c == nil {
		return slices.Clone(builtinCheckers)
	}
	return slices.Concat(c.all, builtinCheckers)
}
