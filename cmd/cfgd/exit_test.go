package main

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/overlay/store"
)

// TestExitStatuses tests the whole table of exit statuses.
func TestExitStatuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		want int
	}{
		{"done", nil, 0},
		{"a difference", errDiffer, 1},
		{"a wrapped difference", fmt.Errorf("vhost1: %w", errDiffer), 1},
		{"any error", errors.New("disk on fire"), 2},
		{"a printed error", printedError{errors.New("disk on fire")}, 2},
		{"no room", fmt.Errorf("vhost1: %w", store.ErrNoSpace), 2},
		{"held", store.ErrHeld, 2},
		{"some of several", errSome, 3},
		{"usage", usagef("which?"), 64},
		{"a printed configuration error", printedError{&conffile.Error{File: "/etc/rc.conf", Line: 3}},
			78},
		{"several configuration errors", conffile.Errors{{File: "a"}, {File: "b"}}, 78},
		{"a target that is left out", problemError{conffile.Problem{File: "/etc/fstab.vhost1", Line: 2}}, 78},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestSum tests the exit status for several targets: it is 3 only if some failed and others did not.
func TestSum(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	two := []*config.Target{{Name: "vhost1"}, {Name: "vhost2"}}
	for _, c := range []struct {
		name string
		errs []error
		left error
		want int
	}{
		{"both well", []error{nil, nil}, nil, 0},
		{"one differs", []error{nil, errDiffer}, nil, 1},
		{"one fails", []error{nil, failed}, nil, 3},
		{"one fails, one differs", []error{errDiffer, failed}, nil, 3},
		{"both fail", []error{failed, failed}, nil, 2},
		{"a third is left out", []error{nil, nil}, problemError{}, 3},
		{"all fail, one by its configuration", []error{failed, failed}, problemError{}, 78},
	} {
		s := &session{out: &bytes.Buffer{}, err: &bytes.Buffer{}}
		if got := s.exitStatus(s.sum(two, c.errs, c.left)); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
