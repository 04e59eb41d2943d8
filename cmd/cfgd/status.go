package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/overlay"
	"cfgd/watcher/control"
)

func (s *session) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", ArgsUsage: "[TARGET…]",
		Usage: "show what is changed and what is unsaved in each target",
		Description: "" +
			"Prints one line for each target: its base; the generation of cfg; how many paths differ " +
			"from the defaults; how many of these a restart would lose; how the daemon watches the " +
			"target (kqueue, on Linux fsnotify, or scan); the time up to which every change is on " +
			"stable storage, or the date if that is not today; the room left in cfg. Exit status 1 if " +
			"something is unsaved or in conflict.",
		Action: func(c *cli.Context) error {
			targets, excluded := s.targets(c.Args().Slice())
			if len(targets) == 0 && excluded != nil {
				return excluded
			}
			list := s.statuses(c.Context, targets)
			if err := s.printStatus(list); err != nil {
				return err
			}
			return s.sum(targets, verdicts(list), excluded)
		},
	}
}

// statuses asks the daemon, and looks at those targets that the daemon does not know.
func (s *session) statuses(ctx context.Context, targets []*config.Target) []control.Status {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	known := map[string]control.Status{}
	list, err := s.client().Status(ctx, true)
	if err != nil && !errors.Is(err, control.ErrNoDaemon) {
		s.complain("", err)
	}
	for _, st := range list {
		known[st.Name] = st
	}
	out := make([]control.Status, len(targets))
	_ = s.each(targets, nil, func(t *config.Target) error { // there is no error: the status has what is wrong
		st, ok := known[t.Name]
		if !ok {
			st = s.look(ctx, t)
		}
		if st.Down { // the daemon does not look at it
			if err := s.overlay(t).Earlier(); err != nil {
				st.Problem, st.Down = err.Error(), false
			}
		}
		if st.Populated && t.BaseID != "" && t.BaseID != st.Base {
			st.NextBase = t.BaseID
		}
		out[slices.Index(targets, t)] = st
		return nil
	})
	return out
}

// look returns a target's status without a daemon.
func (s *session) look(ctx context.Context, t *config.Target) control.Status {
	r, err := s.overlay(t).Save(ctx, overlay.SaveOptions{DryRun: true})
	if r != nil && r.View != nil {
		s.notices(t.Name, r.View.Notices)
	}
	return control.Describe(t, r, err)
}

// verdicts returns an error for each target with a problem, and errDiffer for each with something unsaved.
func verdicts(list []control.Status) []error {
	out := make([]error, len(list))
	for i, st := range list {
		switch {
		case st.Problem != "" && !st.Down:
			out[i] = errors.New(st.Problem)
		case st.Unsaved > 0 || st.Conflicts > 0:
			out[i] = errDiffer
		}
	}
	return out
}

func (s *session) printStatus(list []control.Status) error {
	if s.json {
		return s.print(struct {
			Version int              `json:"version"`
			Targets []control.Status `json:"targets"`
		}{1, list})
	}
	w := newTable()
	w.row("TARGET", "BASE", "GEN", "LOCAL", "UNSAVED", "DAEMON", "SAVED AS OF", "ROOM")
	for _, st := range list {
		w.row(st.Name, dash(st.Base), strconv.Itoa(st.Generation), strconv.Itoa(st.Local), unsaved(st),
			watching(st), savedAsOf(st), room(st))
	}
	if err := w.print(s.out); err != nil {
		return err
	}
	for _, st := range list {
		for _, n := range st.Notes() {
			fmt.Fprintf(s.out, "%s: %s\n", st.Name, n)
		}
	}
	return nil
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func unsaved(st control.Status) string {
	if !st.Populated {
		return "-"
	}
	return strconv.Itoa(st.Unsaved)
}

func watching(st control.Status) string {
	switch {
	case !st.Populated && st.Problem != "" && !st.Down:
		return "failing"
	case !st.Populated:
		return "down"
	case !st.Watched:
		return "none"
	}
	return st.Watch
}

func savedAsOf(st control.Status) string {
	if st.SavedAsOf == nil {
		return "-"
	}
	return clockOrDay(*st.SavedAsOf, time.Now())
}

// clockOrDay prints a time of today by the clock, and another day's by its date, as ps(1) does.
func clockOrDay(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.Year() == now.Year() && t.YearDay() == now.YearDay() {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateOnly)
}

// room prints what is left in cfg, if that is known.
func room(st control.Status) string {
	if st.Free == 0 && (!st.Populated || st.Problem != "") {
		return "-"
	}
	return bytesText(st.Free)
}

// bytesText prints a number of bytes in three digits and a unit, of 1024, as df -h does.
func bytesText(n uint64) string {
	const units = "BKMGTPE"
	f, u := float64(n), 0
	for f >= 999.5 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	if f < 10 && u > 0 {
		return fmt.Sprintf("%.1f%c", f, units[u])
	}
	return fmt.Sprintf("%.0f%c", f, units[u])
}
