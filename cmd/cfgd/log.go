package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/internal/pathname"
	"cfgd/overlay"
)

func logCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "log", ArgsUsage: "TARGET [PATH]",
		Usage: "list the generations of cfg, newest first",
		Description: "" +
			"Prints one line for each generation: its number, its time, the base that it was made " +
			"against, how many paths it changed, and its text. With PATH, lists only the generations " +
			"that changed something there.",
		Action: s.action(runLog),
	}
}

func runLog(s *session, c *cli.Context) error {
	only, err := pathArgs(c.Args().Tail())
	if err != nil {
		return err
	}
	o, err := s.overlay(c.Args().First())
	if err != nil {
		return err
	}
	all, err := o.History().Log(c.Context)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Target.Name, err)
	}
	var list []overlay.LogEntry
	for _, g := range all {
		if len(only) == 0 || g.Damaged != nil || len(changesBelow(g, only)) > 0 {
			list = append(list, g)
		}
	}
	out := []listedGeneration{}
	for _, g := range list {
		out = append(out, newListedGeneration(g, only))
	}
	return s.print(struct {
		Version     int                `json:"version"`
		Target      string             `json:"target"`
		Generations []listedGeneration `json:"generations"`
	}{1, o.Target.Name, out}, func(b *strings.Builder) { printLog(b, list, only) })
}

// changesBelow returns the changes of a generation at or below the paths. It leaves out directories that are
// listed only because something below them changed.
func changesBelow(g overlay.LogEntry, only []string) []overlay.GenerationChange {
	var out []overlay.GenerationChange
	for _, ch := range g.Visible() {
		if below(ch.Path, only) {
			out = append(out, ch)
		}
	}
	return out
}

// listedGeneration is the JSON of a generation.
type listedGeneration struct {
	Generation int            `json:"generation"`
	Time       time.Time      `json:"time"`
	Base       string         `json:"base"`
	From       string         `json:"from,omitempty"` // the earlier base, if it is a merge
	Message    string         `json:"message,omitempty"`
	Changes    []listedChange `json:"changes"`
	Damaged    string         `json:"damaged,omitempty"` // why only the number is known
}

func newListedGeneration(g overlay.LogEntry, only []string) listedGeneration {
	out := listedGeneration{
		Generation: g.Generation, Time: g.Time, Base: g.BaseID, From: g.From, Message: g.Message,
		Changes: []listedChange{},
	}
	if g.Damaged != nil {
		out.Damaged = g.Damaged.Error()
	}
	for _, ch := range changesBelow(g, only) {
		out.Changes = append(out.Changes, newListedChange(ch.Kind.Letter(), ch.Path))
	}
	return out
}

func printLog(b *strings.Builder, list []overlay.LogEntry, only []string) {
	for _, g := range list {
		fmt.Fprintln(b, logLine(g, changesBelow(g, only)))
	}
}

// logLine returns one generation as one line.
func logLine(g overlay.LogEntry, changes []overlay.GenerationChange) string {
	if g.Damaged != nil {
		return pathname.Plain(fmt.Sprintf("%5d  damaged: %v", g.Generation, g.Damaged))
	}
	words := pathname.Plain(g.Message)
	switch {
	case words != "":
	case len(changes) == 0:
		words = "no changes"
	case len(changes) <= 3:
		for i, ch := range changes {
			if i > 0 {
				words += ", "
			}
			words += ch.Kind.Letter() + " " + pathname.Quote(ch.Path)
		}
	default:
		words = fmt.Sprintf("%s %s and %d more", changes[0].Kind.Letter(), pathname.Quote(changes[0].Path),
			len(changes)-1)
	}
	return fmt.Sprintf("%5d  %s  %-14s %4d  %s", g.Generation, g.Time.Local().Format(time.DateTime),
		pathname.Plain(g.BaseID), len(changes), words)
}
