package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/jails"
	"cfgd/prototype"
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
	return create(s, c, m.creator(), made, madeText(s, spec))
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
	return &jails.Spec{
		Name: name, Hostname: cmp.Or(c.String("hostname"), strings.ReplaceAll(name, "_", "-")),
		IP: c.String("ip"), Interface: c.String("interface"), Form: m.JailForm(),
		Listed: len(m.JailList) > 0, Embedded: m.Root != "",
	}
}

// putOn puts a new jail on a snapshot of a prototype; "" is the newest one.
func putOn(ctx context.Context, m *machine, spec *jails.Spec, p *config.Prototype, snapshot string) error {
	snaps, err := m.snapshots(p)
	if err != nil {
		return err
	}
	all, err := snaps.List(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", p.Name, err)
	case len(all) == 0:
		return fmt.Errorf("%s has no snapshot: cfgd proto snapshot takes one", p.Name)
	}
	spec.Prototype, spec.Mark, spec.Snapshot = p, snaps.Mark(), cmp.Or(snapshot, all[len(all)-1].Name)
	if z, ok := snaps.(prototype.ZFS); ok {
		spec.Dataset = z.Dataset
	}
	if !slices.ContainsFunc(all, func(x prototype.Snapshot) bool { return x.Name == spec.Snapshot }) {
		return usagef("%s has no snapshot %q; cfgd proto list lists them", p.Name, spec.Snapshot)
	}
	return nil
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

// create makes a jail or prototype, and then prints a text. With --plan it only shows what it would make.
func create(s *session, c *cli.Context, k *jails.Creator, made *jails.Creation, text string) error {
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
