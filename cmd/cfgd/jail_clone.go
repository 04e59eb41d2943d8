package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/overlay"
)

func (s *session) cloneCommand() *cli.Command {
	return &cli.Command{
		Name: "clone", ArgsUsage: "NAME NEW SNAPSHOT",
		Usage: "make a test jail of a jail, on another snapshot",
		Description: "" +
			"Saves what is unsaved in the jail's /etc, and clones the jail's own filesystems as they " +
			"are now (without ZFS, it copies them). Gives the clone an fstab on the other snapshot " +
			"and an address of its own. What it would share with the jail is mounted read-only. To " +
			"undo just what was made, run cfgd jail destroy.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "ip", Usage: "the clone's `ADDRESS`, which must differ from the jail's"},
			&cli.StringFlag{
				Name: "interface", Usage: "the `INTERFACE` of the address (the jail's if left out)",
			},
			&cli.StringFlag{Name: "hostname", Usage: "the clone's `HOST` name (NEW if left out)"},
			&cli.BoolFlag{Name: "plan", Usage: "show what would be made, and make nothing"},
		},
		Action: s.jailClone,
	}
}

func (s *session) jailClone(c *cli.Context) error {
	if err := counted(c, 3, 3); err != nil {
		return err
	}
	jails, err := s.jailsNamed(c.Args().Slice()[:1])
	if err != nil {
		return err
	}
	from, name := jails[0], c.Args().Get(1)
	spec, err := s.spec(c, name, from, c.Args().Get(2))
	if err != nil {
		return err
	}
	k := s.creator()
	k.Locked = s.overlay(from).Locked
	made, err := k.CloneOf(spec, from, time.Now())
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", from.Name, err)}
	}
	if !c.Bool("plan") {
		if _, err := s.saveTarget(c.Context, from, overlay.SaveOptions{}, false); err != nil {
			return fmt.Errorf("%s: save before cloning: %w", from.Name, err)
		}
	}
	return s.make(c, k, made, s.madeOn(spec))
}
