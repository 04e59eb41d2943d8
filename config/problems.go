package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// warningAt and errorAt return a Problem about a target (or "" for the machine).
func warningAt(at Origin, target, fix, format string, args ...any) Problem {
	return Problem{
		Severity: Warning,
		File:     at.File,
		Line:     at.Line,
		Target:   target,
		Message:  fmt.Sprintf(format, args...),
		Fix:      fix,
	}
}

func errorAt(at Origin, target, fix, format string, args ...any) Problem {
	p := warningAt(at, target, fix, format, args...)
	p.Severity = Error
	return p
}

// problemOf returns a Problem for an error that makes one target unusable and leaves the others alone.
func problemOf(err error, file, target, fix string) Problem {
	e := fileError(file, err)
	return Problem{
		Severity: Error,
		File:     e.File,
		Line:     e.Line,
		Target:   target,
		Message:  e.Message,
		Fix:      cmp.Or(e.Fix, fix),
	}
}

// sortProblems sorts problems by place and removes duplicates.
func sortProblems(ps []Problem) []Problem {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line)
	})
	return slices.Compact(ps)
}

// settledBy returns the problem with the edit that would settle it.
func (p Problem) settledBy(e Edit) Problem {
	p.Edit = e
	return p
}
