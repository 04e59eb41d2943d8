package conffile

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
	SeverityWarning Severity = "warning"
	SeverityError   Severity = "error"
)

// Key tells problems apart where the machine's set-up changes: the same key in two set-ups is the same
// problem, whatever its line and its words are.
type Key struct {
	Kind         Kind
	Target, File string
}

// Problem is something in the machine's set-up that cfgd check reports, with what to do about it.
type Problem struct {
	Kind     Kind     `json:"-"`
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

// String returns the problem in one line as FILE:LINE: severity: message; fix.
func (p Problem) String() string {
	s := fmt.Sprintf("%s: %s: %s", Origin{p.File, p.Line}, p.Severity, p.Message)
	if p.Fix != "" {
		s += "; " + p.Fix
	}
	return s
}

// Warn returns a warning about a target, "" for the machine.
func Warn(kind Kind, at Origin, target, fix, format string, args ...any) Problem {
	return Problem{
		Kind:     kind,
		Severity: SeverityWarning,
		File:     at.File,
		Line:     at.Line,
		Target:   target,
		Message:  fmt.Sprintf(format, args...),
		Fix:      fix,
	}
}

// Refuse returns a Problem of severity error: a target cannot be used, or its jail does not start correctly.
func Refuse(kind Kind, at Origin, target, fix, format string, args ...any) Problem {
	p := Warn(kind, at, target, fix, format, args...)
	p.Severity = SeverityError
	return p
}

// ProblemOf returns a Problem for an error that makes one target unusable and leaves the others alone.
func ProblemOf(err error, file, target, fix string) Problem {
	e := FileError(file, err)
	return Problem{
		Kind:     BadFile,
		Severity: SeverityError,
		File:     e.File,
		Line:     e.Line,
		Target:   target,
		Message:  e.Message,
		Fix:      cmp.Or(e.Fix, fix),
	}
}

// SortProblems sorts problems by place and removes duplicates.
func SortProblems(ps []Problem) []Problem {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line)
	})
	return slices.Compact(ps)
}

// Key returns the problem's key. Several problems may have the same.
func (p Problem) Key() Key { return Key{p.Kind, p.Target, p.File} }

// SettledBy returns the problem with the edit that would settle it.
func (p Problem) SettledBy(e Edit) Problem {
	p.Edit = e
	return p
}

// Findings collects what is found wrong: problems of the machine, and errors for which a configuration is
// refused.
type Findings struct {
	Problems []Problem
	Errors   []*Error
}

// Add records problems.
func (f *Findings) Add(ps ...Problem) { f.Problems = append(f.Problems, ps...) }

// Fail records an error.
func (f *Findings) Fail(at Origin, fix, format string, args ...any) {
	f.Errors = append(f.Errors, Errorf(at, fix, format, args...))
}
