package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/internal/pathname"
)

func pinCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "pin", ArgsUsage: "TARGET PATH…",
		Usage: "keep saved files even where they equal the default",
		Description: "" +
			"Saves each path as it is now. While a path is pinned, no new default replaces it. A " +
			"directory means everything below it.",
		Action: func(c *cli.Context) error { return runPin(s, c, false) },
	}
}

func unpinCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "unpin", ArgsUsage: "TARGET PATH…",
		Usage:       "no longer keep saved files that equal the default",
		Description: "Give each PATH as it was given to cfgd pin.",
		Action:      func(c *cli.Context) error { return runPin(s, c, true) },
	}
}

func runPin(s *session, c *cli.Context, off bool) error {
	list, err := pathArgs(c.Args().Tail())
	if err != nil {
		return err
	}
	for _, p := range list {
		if p == "" {
			return usagef("/: pin what is meant, not everything")
		}
	}
	o, err := s.overlay(c.Args().First())
	if err != nil {
		return err
	}
	r, err := o.Pin(c.Context, list, off)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Target.Name, err)
	}
	word := "pinned"
	if off {
		word = "unpinned"
	}
	var changed []listedChange
	for _, p := range list {
		changed = append(changed, listedChange{pathname.FromPath(p), word, word, p})
	}
	done := written{1, o.Target.Name, r.Generation, changed}
	return s.print(done, func(b *strings.Builder) { printWritten(b, done) })
}
