package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity ranks a Problem. A warning means that everything works, but not as it should. An error keeps a
// target from being used, or its jail from starting correctly.
type Severity string

// The severities of a Problem.
const (
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Problem is something in the machine's set-up that cfgd check reports, with what to do about it.
type Problem struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Target   string   `json:"target,omitempty"` // the target or jail that it is about, if one
	Message  string   `json:"message"`
	Fix      string   `json:"fix"`

	// Edit would settle it, in a file of the machine. It is the zero value if somebody has to decide or
	// to check.
	Edit Edit `json:"-"`
}

// Edit is a change of one line of a file.
type Edit struct {
	File string
	Line int    // counted from 1; 0 adds New as a line at the end
	Old  string // the part of the line that New replaces; "" adds New as a line after it
	New  string
}

// String returns the problem in one line as FILE:LINE: severity: message; fix.
func (p Problem) String() string {
	s := fmt.Sprintf("%s: %s: %s", Origin{p.File, p.Line}, p.Severity, p.Message)
	if p.Fix != "" {
		s += "; " + p.Fix
	}
	return s
}

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
