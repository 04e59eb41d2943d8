package main

import (
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"
)

func (s *session) rollbackCommand() *cli.Command {
	return &cli.Command{
		Name: "rollback", ArgsUsage: "TARGET N",
		Usage: "go back to generation N, as a new generation",
		Description: "" +
			"Makes generation N the saved and the live state. Saves first what is unsaved, so that a " +
			"rollback can be rolled back. A generation that was made against another base is merged " +
			"with the present base. If that leaves conflicts, they are listed, and cfgd resolve " +
			"settles them.",
		Action: s.rollback,
	}
}

func (s *session) rollback(c *cli.Context) error {
	if err := counted(c, 2, 2); err != nil {
		return err
	}
	n, err := strconv.Atoi(c.Args().Get(1))
	if err != nil || n < 1 {
		return usagef("%q: not the number of a generation; cfgd log %s lists them", c.Args().Get(1),
			c.Args().First())
	}
	t, err := s.target(c.Args().First())
	if err != nil {
		return err
	}
	r, m, err := s.overlay(t).Rollback(c.Context, n)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	if m != nil && !s.json {
		if err := s.printMerge(t.Name, m, false); err != nil {
			return err
		}
	}
	changed := []listed{}
	for _, ch := range r.Changes {
		changed = append(changed, newListed(ch.What.Letter(), ch.Path))
	}
	return s.printSettled(t.Name, r.Generation, changed)
}
