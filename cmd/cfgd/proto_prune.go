package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/internal/mount"
	"cfgd/prototype"
)

func protoPruneCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "prune", ArgsUsage: "[NAME]", Usage: "destroy snapshots that nothing needs",
		Description: "" +
			"Keeps each snapshot that an fstab, jail.conf or cfgd.toml names, that is mounted, cloned or " +
			"held, that a jail's cfg may have to go back to, or that is one of the newest. Keeps snapshots " +
			"whose names are no numbers. Destroys nothing while an fstab or a jail's definition cannot be " +
			"read, and names it.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "keep", Usage: "keep the newest `N` in any case", Value: 5},
			&cli.BoolFlag{
				Name: "dry-run", Aliases: []string{"n"},
				Usage: "print what would be destroyed, and destroy nothing",
			},
		},
		Action: s.action(runProtoPrune),
	}
}

func runProtoPrune(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	p, err := m.prototype(c.Args().Slice())
	if err != nil {
		return err
	}
	if c.Int("keep") < 1 {
		return usagef("--keep %d: at least the newest stays", c.Int("keep"))
	}
	if !c.Bool("dry-run") {
		unlock, err := prototype.Lock(c.Context, m.Model, p.Name)
		if err != nil {
			return err
		}
		defer unlock()
		if m, err = s.reload(); err != nil { // a jail may have been created meanwhile
			return err
		}
		if p, err = m.prototype(c.Args().Slice()); err != nil {
			return err
		}
	}
	snaps, err := m.snapshots(p)
	if err != nil {
		return err
	}
	pruner := &prototype.Pruner{
		Model: m.Model, Prototype: p, Snapshots: snaps, Overlay: m.overlay, Mounted: mount.All,
	}
	plan, err := pruner.Plan(c.Context, c.Int("keep"))
	if err != nil {
		return fmt.Errorf("%s: %w; nothing was destroyed", p.Name, err)
	}
	destroy := snaps.Destroy
	if c.Bool("dry-run") {
		destroy = nil
	}
	return pruneSnapshots(c.Context, s, p.Name, plan, snaps.DestroyPlan, destroy)
}

// pruneSnapshots destroys the snapshots that nothing needs, and goes on if one can't be destroyed. The
// exit status is 2 if none could be pruned, and 3 if some could not. If destroy is nil, it only prints
// what would be done.
func pruneSnapshots(
	ctx context.Context, s *session, proto string, plan []prototype.Candidate,
	commands func(name string) []string, destroy func(ctx context.Context, name string) error,
) error {
	failed := 0
	for _, x := range plan {
		words := "destroyed"
		switch {
		case x.Keep != "":
			words = "kept: " + x.Keep
		case destroy == nil:
			words = "would be destroyed: " + strings.Join(commands(x.Name), "; ")
		default:
			if err := destroy(ctx, x.Name); err != nil {
				failed++
				s.complain(proto+"@"+x.Name, err)
				continue
			}
		}
		if err := s.printf("%s@%s %s\n", proto, x.Name, words); err != nil {
			return err
		}
	}
	switch {
	case failed == 0:
		return nil
	case failed < len(plan):
		return errSome
	}
	return fmt.Errorf("%s: no snapshot could be pruned", proto)
}
