package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/jails"
)

func createCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "create", ArgsUsage: "NAME",
		Usage: "make a jail: filesystems, fstab, lines of rc.conf",
		Description: "" +
			"Makes the jail's own filesystems, its fstab, and its lines of rc.conf between two " +
			"comments. The fstab and the lines are saved to the host's cfg. If a step fails, the " +
			"steps before it are undone. To undo just what was made, run cfgd jail destroy.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "prototype", Usage: "the prototype's `NAME`, if there is more than one"},
			&cli.StringFlag{Name: "snapshot", Usage: "the snapshot's `NAME` (the newest one if left out)"},
			&cli.StringFlag{Name: "hostname", Usage: "the jail's `HOST` name (NAME if left out)"},
			&cli.StringFlag{Name: "ip", Usage: "the jail's `ADDRESS`"},
			&cli.StringFlag{Name: "interface", Usage: "the network `INTERFACE` of the address"},
			&cli.BoolFlag{Name: "plan", Usage: "show what would be made, and make nothing"},
		},
		Action: s.action(runCreate),
	}
}

func runCreate(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	p, err := chosenPrototype(m, c.String("prototype"))
	if err != nil {
		return err
	}
	spec := specOf(m, c, c.Args().First())
	if err := putOn(c.Context, m, spec, p, c.String("snapshot")); err != nil {
		return err
	}
	made, err := spec.Plan(time.Now())
	if err != nil {
		return usageError{err}
	}
	return makeJail(s, c, m.creator(), made, madeText(s, spec))
}

// chosenPrototype returns the prototype of --prototype, or the only one.
func chosenPrototype(m *machine, name string) (*config.Prototype, error) {
	for _, p := range m.Prototypes {
		if p.Name == name || name == "" && len(m.Prototypes) == 1 {
			return p, nil
		}
	}
	return nil, usagef("which prototype? --prototype NAME; cfgd proto list lists them")
}

// specOf returns what the command line asks for. Its flags are those of create, clone and proto create.
func specOf(m *machine, c *cli.Context, name string) *jails.Spec {
	spec := jails.NewSpec(m.Model, name)
	spec.Hostname = cmp.Or(c.String("hostname"), spec.Hostname)
	spec.IP, spec.Interface = c.String("ip"), c.String("interface")
	return spec
}

// putOn is Spec.PutOn. A snapshot that does not exist is an error of the command line.
func putOn(ctx context.Context, m *machine, spec *jails.Spec, p *config.Prototype, snapshot string) error {
	snaps, err := m.snapshots(p)
	if err != nil {
		return err
	}
	err = spec.PutOn(ctx, p, snaps, snapshot)
	if errors.Is(err, jails.ErrUnknownSnapshot) {
		return usageError{err}
	}
	return err
}

// madeText tells which snapshot a new jail is on, and how to start it.
func madeText(s *session, spec *jails.Spec) string {
	start := "service jail start " + spec.Name
	if s.root != "" {
		start = "cfgd --root " + s.root + " jail init " + spec.Name
	}
	return fmt.Sprintf("%s made on %s@%s; start it with %s", spec.Name, spec.Prototype.Name, spec.Snapshot,
		start)
}

// makeJail makes a jail or prototype, and then prints a text. With --plan it only shows what it would make.
func makeJail(s *session, c *cli.Context, k *jails.Creator, made *jails.Creation, text string) error {
	s.warn(made.Jail, made.Notes...)
	if c.Bool("plan") {
		return s.printf("%s", creationText(made))
	}
	problems, err := k.Create(c.Context, made)
	if err != nil {
		return fmt.Errorf("%s: %w", made.Jail, err)
	}
	for _, p := range problems {
		s.warn(made.Jail, p.String())
	}
	return s.printf("%s\n", text)
}

func creationText(made *jails.Creation) string {
	var b strings.Builder
	for _, line := range made.Lines() {
		fmt.Fprintln(&b, line)
	}
	for _, f := range made.Files {
		fmt.Fprintf(&b, "\n%s:\n%s", f.Name, f.Text)
	}
	return b.String()
}
