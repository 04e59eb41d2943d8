package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"cfgd/internal/pathname"
)

func (s *session) pinCommand() *cli.Command {
	return &cli.Command{
		Name: "pin", ArgsUsage: "TARGET PATH…",
		Usage: "keep overrides even if they equal base",
		Description: "" +
			"Saves each path as it is now. While a path is pinned, no new default replaces it. A " +
			"directory means everything below it.",
		Action: func(c *cli.Context) error { return s.pin(c, false) },
	}
}

func (s *session) unpinCommand() *cli.Command {
	return &cli.Command{
		Name: "unpin", ArgsUsage: "TARGET PATH…",
		Usage:       "no longer keep overrides that equal base",
		Description: "Give each PATH as it was given to cfgd pin.",
		Action:      func(c *cli.Context) error { return s.pin(c, true) },
	}
}

func (s *session) pin(c *cli.Context, off bool) error {
	if err := counted(c, 2, -1); err != nil {
		return err
	}
	list, err := paths(c.Args().Tail())
	if err != nil {
		return err
	}
	for _, p := range list {
		if p == "" {
			return usagef("/: pin what is meant, not everything")
		}
	}
	t, err := s.target(c.Args().First())
	if err != nil {
		return err
	}
	r, err := s.overlay(t).Pin(c.Context, list, off)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	word := "pinned"
	if off {
		word = "unpinned"
	}
	var changed []listed
	for _, p := range list {
		changed = append(changed, listed{pathname.FromPath(p), word, word, p})
	}
	return s.printSettled(t.Name, r.Generation, changed)
}

// printSettled prints what was done with paths, and the new generation.
func (s *session) printSettled(target string, generation int, changed []listed) error {
	if s.json {
		return s.print(struct {
			Version    int      `json:"version"`
			Target     string   `json:"target"`
			Generation int      `json:"generation"`
			Changes    []listed `json:"changes"`
		}{1, target, generation, changed})
	}
	for _, c := range changed {
		if _, err := fmt.Fprintf(s.out, "%s %s %s\n", target, c.letter, pathname.Quote(c.path)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(s.out, "%s saved as generation %d\n", target, generation)
	return err
}
