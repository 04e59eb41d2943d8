package main

import (
	"errors"
	"fmt"

	"cfgd/config/conffile"
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
