package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
)

func cloneCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "clone", ArgsUsage: "NAME NEW SNAPSHOT",
		Usage: "copy a jail, on another snapshot, for a test",
		Description: "" +
			"Saves what is unsaved in the jail's /etc, and clones the jail's own filesystems as they " +
			"are now (without ZFS, it copies them). Gives the clone an fstab on the other snapshot " +
			"and an address of its own. What it would share with the jail is mounted read-only. To " +
			"undo just what was made, run cfgd jail destroy.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "ip", Usage: "the clone's `ADDRESS`, which must differ from the jail's"},
			&cli.StringFlag{
				Name: "interface", Usage: "the address's `INTERFACE` (the jail's if left out)",
			},
			&cli.StringFlag{Name: "hostname", Usage: "the clone's `HOST` name (NEW if left out)"},
			&cli.BoolFlag{Name: "plan", Usage: "show what would be made, and make nothing"},
		},
		Action: s.action(runClone),
	}
}

func runClone(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	targets, err := m.jails(c.Args().Slice()[:1])
	if err != nil {
		return err
	}
	from := targets[0]
	p := m.PrototypeOf(from.Base)
	if p == nil {
		return fmt.Errorf("%s: base %s is no snapshot of a prototype", from.Name, from.Base)
	}
	spec := specOf(m, c, c.Args().Get(1))
	if from.Definition.Form != "" {
		spec.Form = from.Definition.Form
	}
	if err := putOn(c.Context, m, spec, p, c.Args().Get(2)); err != nil {
		return err
	}
	k := m.creator()
	k.Locked = m.overlay(from).Locked
	made, err := k.CloneOf(spec, from, time.Now())
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", from.Name, err)}
	}
	if !c.Bool("plan") {
		if err := saveBefore(c.Context, s, m, from); err != nil {
			return fmt.Errorf("%s: save before cloning: %w", from.Name, err)
		}
	}
	return makeJail(s, c, k, made, madeText(s, spec))
}
