package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
)

func protoCreateCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "create", ArgsUsage: "NAME", Usage: "make an empty prototype: filesystems, fstab, jail",
		Description: "" +
			"Makes the prototype's filesystems, its fstab, and the lines that define its " +
			"jail. With --dataset it makes the two ZFS filesystems that snapshots are taken " +
			"of, and beside them those that other jails do not see. Without --dataset it " +
			"makes directories. Then install a system below it, and take the first snapshot. " +
			"To undo it, run cfgd jail destroy.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dataset", Usage: "the ZFS `DATASET` to make, POOL/NAME"},
			&cli.StringFlag{
				Name: "hostname", Usage: "the prototype's `HOST` name (NAME if left out)",
			},
			&cli.StringFlag{Name: "ip", Usage: "the prototype's `ADDRESS`"},
			&cli.StringFlag{Name: "interface", Usage: "the network `INTERFACE` of the address"},
			&cli.BoolFlag{Name: "plan", Usage: "show what would be made, and make nothing"},
		},
		Action: s.action(runProtoCreate),
	}
}

func runProtoCreate(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	if s.config != "" {
		return usagef("--config %s: a prototype is made known in %s", s.config, config.DefaultFile)
	}
	name := c.Args().First()
	spec := specOf(m, c, name)
	spec.Dataset = c.String("dataset")
	made, err := spec.PlanPrototype(config.DefaultFile, time.Now())
	if err != nil {
		return usageError{err}
	}
	if m.Root != "" {
		made.Datasets = nil // with --root no command runs; its directories are enough
	}
	return makeJail(s, c, m.creator(), made,
		name+" made; install a system below "+made.Root+", then: cfgd proto snapshot "+name)
}
