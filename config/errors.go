package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ConfigError reports that a configuration file cannot be used: which, where, why, and what to do. Load
// returns one, or ConfigErrors. For both the command line exits with 78 (EX_CONFIG of sysexits(3)).
type ConfigError struct {
	File    string // as the configuration or the command line names it
	Line    int    // from 1; 0 for the whole file
	Col     int    // in bytes, from 1; 0 for the whole line
	Message string
	Fix     string // what to do, "" if the message says it
	Err     error  // the cause, or nil
}

// Error returns FILE:LINE:COL: message; fix, without the parts that are not known.
func (e *ConfigError) Error() string {
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
func (e *ConfigError) Unwrap() error { return e.Err }

// ConfigErrors are all the errors of a configuration, in the order of files and lines.
type ConfigErrors []*ConfigError

// Error returns one line for each error.
func (es ConfigErrors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find a *ConfigError.
func (es ConfigErrors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// errAt makes a ConfigError at an origin.
func errAt(at Origin, fix, format string, args ...any) *ConfigError {
	return &ConfigError{File: at.File, Line: at.Line, Message: fmt.Sprintf(format, args...), Fix: fix}
}

// fileError makes a ConfigError of a file that could not be read or parsed; err names the file itself, as
// fileReader's do.
func fileError(file string, err error) *ConfigError {
	var ce *ConfigError
	if errors.As(err, &ce) {
		return ce
	}
	return &ConfigError{File: file, Message: strings.TrimPrefix(err.Error(), file+": "), Err: err}
}

// joinErrors sorts errors by place and returns nil, the only one, or ConfigErrors.
func joinErrors(errs []*ConfigError) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	slices.SortStableFunc(errs, func(a, b *ConfigError) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Col-b.Col)
	})
	return ConfigErrors(errs)
}
