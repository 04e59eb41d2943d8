package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/prototype"
)

func protoSnapshotCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "snapshot", ArgsUsage: "[NAME]", Usage: "take a snapshot with the next number",
		Description: "" +
			"If the prototype's root is a ZFS dataset, takes a recursive snapshot, so that " +
			"the system and its etc are of the same moment. Otherwise copies the tree into " +
			"the prototype's .cfgd/snapshot, whether zfs(8) is installed or not. Refuses " +
			"while packages are being installed. NAME may be left out if there is one " +
			"prototype.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "comment", Usage: "keep this `TEXT` with the snapshot"},
			&cli.BoolFlag{Name: "plan", Usage: "print the commands, and run none"},
		},
		Action: s.action(runProtoSnapshot),
	}
}

func runProtoSnapshot(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	p, err := m.prototype(c.Args().Slice())
	if err != nil {
		return err
	}
	snaps, err := m.snapshots(p)
	if err != nil {
		return err
	}
	if c.Bool("plan") {
		all, err := snaps.List(c.Context)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		return s.printf("%s\n", strings.Join(snaps.TakePlan(prototype.Next(all), c.String("comment")), "\n"))
	}
	name, err := prototype.TakeNext(c.Context, m.Model, p, snaps, c.String("comment"))
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return s.printf("%s snapshot %s taken; cfgd jail switch --plan ALL %[2]s shows what it would do\n",
		p.Name, name)
}
