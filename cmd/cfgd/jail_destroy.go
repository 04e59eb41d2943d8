package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

func destroyCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "destroy", ArgsUsage: "NAME",
		Usage: "undo what jail create or jail clone made",
		Description: "" +
			"Destroys the jail's filesystems with everything in them, its fstab and its lines of " +
			"rc.conf, and nothing else. The jail must not run. If something was added since (lines, " +
			"datasets, snapshots, files in its root), or if another jail or the host mounts a part of it, " +
			"it refuses before it destroys anything. If it was interrupted, run it again.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do it; without --yes, print what would be destroyed"},
			&cli.BoolFlag{Name: "force", Usage: "do it even if more was added, or a mount is not known"},
		},
		Action: s.action(runDestroy),
	}
}

func runDestroy(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	name := c.Args().First()
	k := m.creator()
	made, err := k.Created(name)
	if err != nil {
		return err
	}
	if t := m.Target(name); t != nil && m.service().Runs(c.Context, t) {
		return fmt.Errorf("%s runs: stop it first", name)
	}
	if !c.Bool("yes") {
		files := make([]string, 0, len(made.Files))
		for _, f := range made.Files {
			files = append(files, f.Name)
		}
		return usagef("this destroys %s, with all that is in them, and what defines %s in %s; say --yes",
			strings.Join(made.Holds(), ", "), name, strings.Join(files, ", "))
	}
	if err := k.Destroy(c.Context, made, c.Bool("force")); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return s.printf("%s destroyed\n", name)
}
