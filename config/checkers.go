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
	Syntax  string // the name of one of merge/check's own checks, in the place of a command
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

// checkWithin is how long a checker may take. A checker that takes longer has no result.
const checkWithin = 5 * time.Second

// shell is a parser of sh(1): with -n it reads and runs nothing.
var shell = []string{"sh", "-n"}

var visudo = []string{"visudo", "-c", "-f", "FILE"}

// newsyslog with -n rotates nothing, and with -r it need not be root to say so.
var newsyslog = []string{"newsyslog", "-n", "-r", "-f", "FILE"}

// builtinCheckers is the table of checkers: the first that matches wins, after the administrator's own
// [[checker]].
var builtinCheckers = []Checker{
	{
		Match:   "/rc.conf",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "rc(8) reads it with sh(1)",
	},
	{
		Match:   "/rc.conf.local",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "rc(8) reads it with sh(1)",
	},
	{
		Match:   "/rc.conf.d/**",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "rc(8) reads it with sh(1)",
	},
	{
		Match:   "/defaults/rc.conf",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "rc(8) reads it with sh(1)",
	},
	{
		Match:   "/rc.d/**",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "a script of sh(1)",
	},
	{
		Match:   "/local/rc.d/**",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "a script of sh(1)",
	},
	{
		Match:   "/periodic.conf",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "periodic(8) reads it with sh(1)",
	},
	{
		Match:   "/periodic.conf.local",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "periodic(8) reads it with sh(1)",
	},
	{
		Match:   "/defaults/periodic.conf",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "periodic(8) reads it with sh(1)",
	},
	{
		Match:   "/profile",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "sh(1) reads it at a login",
	},

	{
		Match:  "/crontab",
		Syntax: "crontab",
		Where:  WhereHost,
		Reason: "cron(8) leaves out what it cannot read",
	},
	{
		Match:  "/cron.d/**",
		Syntax: "crontab",
		Where:  WhereHost,
		Reason: "cron(8) leaves out what it cannot read",
	},
	{
		Match:  "/syslog.conf",
		Syntax: "syslog.conf",
		Where:  WhereHost,
		Reason: "syslogd(8) leaves out what it cannot read",
	},

	{
		Match:   "/ssh/sshd_config",
		Command: []string{"sshd", "-t", "-f", "FILE"},
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "sshd(8) does not start with a bad one",
	},
	{
		Match:   "/namedb/named.conf",
		Command: []string{"named-checkconf", "FILE"},
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "named(8) does not start with a bad one",
	},
	{
		Match:   "/local/namedb/named.conf",
		Command: []string{"named-checkconf", "FILE"},
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "named(8) does not start with a bad one",
	},
	{
		Match:   "/local/nginx/nginx.conf",
		Command: []string{"nginx", "-t", "-c", "FILE"},
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "nginx(8) does not start with a bad one",
	},
	{
		Match:   "/local/sudoers",
		Command: visudo,
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "with a bad one nobody becomes root",
	},
	{
		Match:   "/local/sudoers.d/**",
		Command: visudo,
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "with a bad one nobody becomes root",
	},
	{
		Match:   "/newsyslog.conf",
		Command: newsyslog,
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "newsyslog(8) rotates nothing with a bad one",
	},
	{
		Match:   "/newsyslog.conf.d/**",
		Command: newsyslog,
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "newsyslog(8) rotates nothing with a bad one",
	},
}
