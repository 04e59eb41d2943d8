package main

import (
	"errors"
	"fmt"
	"strings"

	"cfgd/config/conffile"
	"cfgd/internal/pathname"
)

// The exit statuses, the same for every command. 64 and 78 are EX_USAGE and EX_CONFIG of sysexits(3).
const (
	exitDone   = 0  // done, or no difference
	exitDiffer = 1  // a difference or an unsaved change was found
	exitFailed = 2  // failed
	exitSome   = 3  // some targets failed and others did not
	exitUsage  = 64 // the command line is wrong
	exitConfig = 78 // the configuration is wrong
)

// errDiffer ends a command with 1 and without a message: what differs has been printed.
var errDiffer = errors.New("differences were found")

// errSome ends a command with 3: each target's error has been printed.
var errSome = errors.New("some targets failed")

// usageError is the error for a wrong command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// problemError is the error for a target that is left out because of a problem in a configuration file.
type problemError struct{ conffile.Problem }

func (e problemError) Error() string { return e.Problem.String() }

// printedError is an error that was printed already.
type printedError struct{ error }

func (e printedError) Unwrap() error { return e.error }

// status prints an error and turns it into the exit status.
func (s *session) status(err error) int {
	if err == nil {
		return exitDone
	}
	code := exitCode(err)
	var printed printedError
	if code != exitDiffer && code != exitSome && !errors.As(err, &printed) {
		s.complain("", err)
	}
	return code
}

// exitCode returns the exit status for an error.
func exitCode(err error) int {
	var usage usageError
	var one *conffile.Error
	var all conffile.Errors
	var problem problemError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errDiffer):
		return exitDiffer
	case errors.Is(err, errSome):
		return exitSome
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &one), errors.As(err, &all), errors.As(err, &problem):
		return exitConfig
	}
	return exitFailed
}

// complain prints an error. Each line begins with the names of the program and of the target.
func (s *session) complain(target string, err error) {
	text := err.Error()
	var problem problemError
	if errors.As(err, &problem) {
		target = "" // the message names the file, the line and the jail
	}
	for line := range strings.SplitSeq(text, "\n") {
		if target != "" && !strings.HasPrefix(line, target+": ") {
			line = target + ": " + line
		}
		fmt.Fprintf(s.err, "cfgd: %s\n", pathname.Plain(line))
	}
}

// warn prints a warning about a target.
func (s *session) warn(target, words string) {
	if target != "" && !strings.HasPrefix(words, target+": ") {
		words = target + ": " + words
	}
	fmt.Fprintf(s.err, "cfgd: warning: %s\n", pathname.Plain(words))
}
