package conffile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Error reports that a configuration file cannot be used: which, where, why, and what to do. config.Load
// returns one, or Errors. For both the command line exits with 78 (EX_CONFIG of sysexits(3)).
type Error struct {
	File    string // as the configuration or the command line names it
	Line    int    // from 1; 0 for the whole file
	Col     int    // in bytes, from 1; 0 for the whole line
	Message string
	Fix     string // what to do, "" if the message says it
	Err     error  // the cause, or nil
}

// Error returns FILE:LINE:COL: message; fix, without the parts that are not known.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
		if e.Col > 0 {
			fmt.Fprintf(&b, ":%d", e.Col)
		}
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	if e.Fix != "" {
		b.WriteString("; " + e.Fix)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errors are all the errors of a configuration, in the order of files and lines.
type Errors []*Error

// Error returns one line for each error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find an *Error.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// Errorf returns an Error at an origin, with the message that fmt.Sprintf makes.
func Errorf(at Origin, fix, format string, args ...any) *Error {
	return &Error{File: at.File, Line: at.Line, Message: fmt.Sprintf(format, args...), Fix: fix}
}

// FileError returns an Error for a file that could not be read or parsed. If err is an Error it is
// returned. err may begin with the file's name and ": ", as the errors of a Reader do.
func FileError(file string, err error) *Error {
	var ce *Error
	if errors.As(err, &ce) {
		return ce
	}
	return &Error{File: file, Message: strings.TrimPrefix(err.Error(), file+": "), Err: err}
}

// Join sorts errors by place, and returns nil, the only one as an *Error, or Errors.
func Join(errs []*Error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	slices.SortStableFunc(errs, func(a, b *Error) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Col-b.Col)
	})
	return Errors(errs)
}
