package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/watcher/control"
)

func statusCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "status", ArgsUsage: "[TARGET…]",
		Usage: "show what is changed and what is unsaved in each target",
		Description: "" +
			"Prints one line for each target: its base; the generation of cfg; how many paths differ " +
			"from the defaults; how many of these a restart would lose; how the daemon watches the " +
			"target (kqueue, on Linux fsnotify, or scan); the time up to which every change is on " +
			"stable storage, or the date if that is not today; the room left in cfg. Exit status 1 if " +
			"something is unsaved or in conflict.",
		Action: s.action(runStatus),
	}
}

func runStatus(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	targets, excluded := m.choose(c.Args().Slice())
	if len(targets) == 0 && excluded != nil {
		return excluded
	}
	found := m.saver().Statuses(c.Context, targets)
	s.warnOf(targets, found)
	if err := s.print(struct {
		Version int              `json:"version"`
		Targets []control.Status `json:"targets"`
	}{1, found.List}, func(b *strings.Builder) { printStatus(b, found.List) }); err != nil {
		return err
	}
	return s.sum(targets, verdicts(found.List), excluded)
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

func printStatus(b *strings.Builder, list []control.Status) {
	w := newTable()
	w.row("TARGET", "BASE", "GEN", "LOCAL", "UNSAVED", "DAEMON", "SAVED AS OF", "ROOM")
	for _, st := range list {
		w.row(st.Name, dash(st.Base), strconv.Itoa(st.Generation), strconv.Itoa(st.Local), unsavedCell(st),
			watchCell(st), savedCell(st), roomCell(st))
	}
	w.print(b)
	for _, st := range list {
		for _, n := range st.Notes() {
			fmt.Fprintf(b, "%s: %s\n", st.Name, n)
		}
	}
}

func unsavedCell(st control.Status) string {
	if !st.Populated {
		return "-"
	}
	return strconv.Itoa(st.Unsaved)
}

func watchCell(st control.Status) string {
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

func savedCell(st control.Status) string {
	if st.SavedAsOf == nil {
		return "-"
	}
	return clockOrDay(*st.SavedAsOf, time.Now())
}

// roomCell prints what is left in cfg, if that is known.
func roomCell(st control.Status) string {
	if st.Free == 0 && (!st.Populated || st.Problem != "") {
		return "-"
	}
	return bytesText(st.Free)
}
