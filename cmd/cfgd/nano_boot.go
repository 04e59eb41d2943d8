package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"cfgd/nano"
)

// This file has the commands that decide which slice boots: activate, rollback and confirm.

func nanoActivateCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "activate", ArgsUsage: "SLICE", Usage: "boot a slice from now on",
		Description: "" +
			"SLICE is a name that cfgd nano status shows, such as ada0s2, or its number. A slice that " +
			"cannot boot is refused, here and by cfgd nano rollback.",
		Flags: []cli.Flag{planFlag()}, Action: s.action(runNanoActivate),
	}
}

func nanoRollbackCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "rollback", Usage: "boot the other system again",
		Description: "" +
			"Before the restart, the running slice boots next again, if another one was " +
			"chosen. After the restart, the slice that does not run boots next. To take back " +
			"a rollback before the restart, run it again.",
		Flags: []cli.Flag{planFlag()}, Action: s.action(runNanoRollback),
	}
}

func nanoConfirmCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "confirm", Usage: "boot the slice that is on trial from now on",
		Description: "" +
			"The slice on trial is the running one. Before the restart nothing is on trial " +
			"yet: then confirm changes nothing, and says so.",
		Flags: []cli.Flag{planFlag()}, Action: s.action(runNanoConfirm),
	}
}

func planFlag() cli.Flag {
	return &cli.BoolFlag{Name: "plan", Usage: "show what would be done, and do nothing"}
}

func runNanoActivate(s *session, c *cli.Context) error {
	return decideBoot(s, c, nano.Named(c.Args().First()))
}

func runNanoRollback(s *session, c *cli.Context) error { return decideBoot(s, c, nano.Rollback) }

func runNanoConfirm(s *session, c *cli.Context) error { return decideBoot(s, c, nano.Confirm) }

// decideBoot makes a slice boot from now on. With --plan it only prints how.
func decideBoot(s *session, c *cli.Context, pick nano.Pick) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	disk, err := m.disk(c.Context, s.warnMachine)
	if err != nil {
		return err
	}
	if c.Bool("plan") {
		d, err := disk.Plan(c.Context, pick)
		if err != nil {
			return bootError(err)
		}
		if len(d.Commands) == 0 {
			return s.printf("nothing: the table says already that %s boots\n", d.Slice.Name)
		}
		for _, cmd := range d.Commands {
			if err := s.printf("%s\n", cmd); err != nil {
				return err
			}
		}
		return nil
	}
	d, err := disk.Decide(c.Context, pick, m.trials(disk))
	if err != nil {
		return bootError(err)
	}
	if err := reportNext(s, c, disk); err != nil || d.Off == "" {
		return err
	}
	return s.printf("%s, which was to boot next, is called off\n", d.Off)
}

func bootError(err error) error {
	if errors.Is(err, nano.ErrNoSlice) {
		return usagef("%v", err)
	}
	return err
}

// reportNext prints which slice boots next.
func reportNext(s *session, c *cli.Context, d *nano.Disk) error {
	t, err := d.Table(c.Context)
	if err != nil {
		return err
	}
	words := t.NextName() + " boots next"
	if x, ok := t.Slice(t.Next()); ok && x.Once {
		words += ", once: cfgd nano confirm keeps it when it runs"
	}
	if err := s.printf("%s\n", words); err != nil {
		return err
	}
	for _, doubt := range t.Doubts() {
		s.warn("", d.Drive+": "+doubt)
	}
	return nil
}
