package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

func rollbackCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "rollback", ArgsUsage: "TARGET N",
		Usage: "go back to generation N, as a new generation",
		Description: "" +
			"Makes generation N the saved and the live state. Saves first what is unsaved, so that a " +
			"rollback can be rolled back. A generation that was made against another base is merged " +
			"with the present base. If that leaves conflicts, they are listed, and cfgd resolve " +
			"settles them.",
		Action: s.action(runRollback),
	}
}

func runRollback(s *session, c *cli.Context) error {
	n, err := strconv.Atoi(c.Args().Get(1))
	if err != nil || n < 1 {
		return usagef("%q: not the number of a generation; cfgd log %s lists them", c.Args().Get(1),
			c.Args().First())
	}
	o, err := s.overlay(c.Args().First())
	if err != nil {
		return err
	}
	r, m, err := o.Rollback(c.Context, n)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Target.Name, err)
	}
	s.warn(o.Target.Name, r.Notices...)
	done := written{1, o.Target.Name, r.Generation, []listedChange{}}
	for _, ch := range r.Changes {
		done.Changes = append(done.Changes, newListedChange(ch.Kind.Letter(), ch.Path))
	}
	return s.print(done, func(b *strings.Builder) {
		if m != nil {
			printMerge(b, o.Target.Name, m, false)
		}
		printWritten(b, done)
	})
}
