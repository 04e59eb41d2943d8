package jailconf

import (
	"fmt"

	"cfgd/config/conffile"
)

// Bounds of a jail.conf with all that it includes, far above what a thousand jails need. They keep a
// hostile or faulty file from taking more than about a second: values can double in every line, and every
// default applies to every jail.
const (
	maxBytes = 4 << 20 // of all files together
	maxFiles = 4096    // files read; a file included in several blocks counts each time
	maxDepth = 32      // files including files, as in jail(8), and blocks within blocks
	// bytes of a jail's, parameter's or variable's name; MAXHOSTNAMELEN less its NUL
	maxName     = 255
	maxValue    = 64 << 10 // bytes of one value with its variables put in
	maxList     = 4096     // values of one parameter
	maxChain    = 256      // variables that refer to variables
	maxWork     = 1 << 20  // values looked at for all jails
	maxExpanded = 32 << 20 // bytes of all values with their variables put in
	maxProblems = 1000     // problems reported about one file
)

// limits is what may still be read of a file and all that it includes, and the problems found so far.
type limits struct {
	file      string
	workLeft  int // values that may still be read
	bytesLeft int // bytes that expansions may still take
	problems  []conffile.Problem
	err       error // set once, when a bound is exceeded
}

// spend uses n of the work left. It returns false if none is left.
func (l *limits) spend(n int) bool {
	if l.workLeft -= n; l.workLeft < 0 {
		l.fail("too many jails and defaults: more than %d values in all", maxWork)
	}
	return l.err == nil
}

// fail ends the reading of the file.
func (l *limits) fail(format string, args ...any) {
	if l.err == nil {
		l.err = &conffile.Error{
			File:    l.file,
			Message: fmt.Sprintf(format, args...),
			Fix:     "write less, or in several files",
		}
	}
}

// problem records a problem, up to a maximum number.
func (l *limits) problem(p conffile.Problem) {
	if len(l.problems) < maxProblems {
		l.problems = append(l.problems, p)
	}
}
