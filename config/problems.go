package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// warningAt and errorAt make a Problem about a target (or "" for the machine).
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

// problemOf makes a Problem of an error that makes one target unusable and leaves the others alone.
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

// sortProblems orders problems by place and drops repetitions.
func sortProblems(ps []Problem) []Problem {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line)
	})
	return slices.Compact(ps)
}

// settledBy says what would settle a problem.
func (p Problem) settledBy(e Edit) Problem {
	p.Edit = e
	return p
}
