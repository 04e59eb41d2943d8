package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	sysrun "cfgd/internal/run"
	"cfgd/jails"
)

func jailSnapshotCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "snapshot", ArgsUsage: "NAME…|ALL", Usage: "take a snapshot of a jail's own filesystems",
		Description: "" +
			"For backups. The snapshot is recursive: of the filesystems that the jail's fstab mounts, " +
			"and of those beside them below the jail's name, never of the prototype's. What is " +
			"unsaved in the jail's /etc is saved first. The snapshot's name is cfgd- and the time, " +
			"because the prototypes' snapshots have numbers.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "comment", Usage: "keep this `TEXT` with the snapshot"},
			&cli.BoolFlag{Name: "plan", Usage: "print the commands, and run none"},
		},
		Action: s.action(runJailSnapshot),
	}
}

func runJailSnapshot(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	targets, err := m.jails(c.Args().Slice())
	if err != nil {
		return err
	}
	name := jails.BackupName(time.Now())
	errs := make([]error, len(targets))
	for i, t := range targets {
		errs[i] = backUp(s, c, m, t, name)
	}
	return s.sum(targets, errs, nil)
}

// backUp saves a jail and takes a snapshot of its datasets. With --plan it only prints the command.
func backUp(s *session, c *cli.Context, m *machine, t *config.Target, name string) error {
	tops, err := jails.DatasetsOf(m.Model, t)
	if err != nil {
		return err
	}
	cmd := jails.Backup(tops, name, c.String("comment"))
	if c.Bool("plan") {
		return s.printf("%s\n", cmd)
	}
	if err := saveBefore(c.Context, s, m, t); err != nil {
		return fmt.Errorf("save before the snapshot: %w", err)
	}
	if _, err := (sysrun.System{}).Run(c.Context, cmd); err != nil {
		return err
	}
	return s.printf("%s snapshot %s taken of %s\n", t.Name, name, strings.Join(tops, ", "))
}
