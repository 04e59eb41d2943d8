package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/watcher/control"
)

// print writes the result of a command: with --json the value as one JSON object, else the text. The text is
// collected in memory, so text has no errors to handle.
func (s *session) print(v any, text func(b *strings.Builder)) error {
	var b strings.Builder
	if s.json {
		out, err := json.Marshal(v)
		if err != nil {
			return err
		}
		b.Write(append(out, '\n'))
	} else {
		text(&b)
	}
	_, err := fmt.Fprint(s.out, b.String())
	return err
}

// printf writes text that has no JSON.
func (s *session) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(s.out, format, args...)
	return err
}

// warn prints warnings about a target; "" is the machine.
func (s *session) warn(target string, warnings ...string) {
	for _, words := range warnings {
		if target != "" && !strings.HasPrefix(words, target+": ") {
			words = target + ": " + words
		}
		fmt.Fprintf(s.err, "cfgd: warning: %s\n", pathname.Plain(words))
	}
}

// warnMachine prints a warning about the machine.
func (s *session) warnMachine(words string) { s.warn("", words) }

// warnOf prints what was found while the targets were asked for their status.
func (s *session) warnOf(targets []*config.Target, found control.Statuses) {
	if found.Daemon != nil {
		s.complain("", found.Daemon)
	}
	for i, t := range targets {
		s.warn(t.Name, found.Notices[i]...)
	}
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

// sum prints the errors of the targets, and joins them into one. excluded is the error for targets that could
// not be tried.
func (s *session) sum(targets []*config.Target, errs []error, excluded error) error {
	var first error
	failed, differ := 0, false
	for i, err := range errs {
		switch {
		case err == nil:
		case errors.Is(err, errDiffer):
			differ = true
		default:
			s.complain(targets[i].Name, err)
			failed++
			first = errors.Join(first, err)
		}
	}
	all := len(targets)
	if excluded != nil {
		s.complain("", excluded)
		first = errors.Join(excluded, first)
		failed++
		all++
	}
	switch {
	case failed > 0 && failed < all:
		return errSome
	case failed > 0:
		return printedError{first}
	case differ:
		return errDiffer
	}
	return nil
}

// exitStatus prints an error, unless that was done, and turns it into the exit status.
func (s *session) exitStatus(err error) int {
	code := exitCode(err)
	var printed printedError
	if err != nil && code != exitDiffer && code != exitSome && !errors.As(err, &printed) {
		s.complain("", err)
	}
	return code
}
