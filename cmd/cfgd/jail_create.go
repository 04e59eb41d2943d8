package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	sysrun "cfgd/internal/run"
	"cfgd/jails"
	"cfgd/prototype"
)

func (s *session) createCommand() *cli.Command {
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
		Action: s.jailCreate,
	}
}

func (s *session) destroyCommand() *cli.Command {
	return &cli.Command{
		Name: "destroy", ArgsUsage: "NAME",
		Usage: "undo what jail create or jail clone made",
		Description: "" +
			"Destroys the jail's filesystems with everything in them, its fstab and its lines of " +
			"rc.conf, and nothing else. The jail must not run. If something was added since (lines, " +
			"datasets, snapshots, files in its root), it refuses before it destroys anything. If it " +
			"was interrupted, run it again.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do it; without --yes, print what would be destroyed"},
			&cli.BoolFlag{Name: "force", Usage: "destroy even if something was added since"},
		},
		Action: s.jailDestroy,
	}
}

func (s *session) creator() *jails.Creator {
	return &jails.Creator{Model: s.loaded, Run: sysrun.System{}, SaveHost: s.hostSaver(), Reload: s.load}
}

func (s *session) jailCreate(c *cli.Context) error {
	if err := counted(c, 1, 1); err != nil {
		return err
	}
	spec, err := s.spec(c, c.Args().First(), nil, c.String("snapshot"))
	if err != nil {
		return err
	}
	made, err := spec.Plan(time.Now())
	if err != nil {
		return usageError{err}
	}
	return s.make(c, s.creator(), made, s.madeOn(spec))
}

// madeOn tells which snapshot a new jail is on, and how to start it.
func (s *session) madeOn(spec *jails.Spec) string {
	start := "service jail start " + spec.Name
	if s.loaded.Root != "" {
		start = "cfgd --root " + s.root + " jail init " + spec.Name
	}
	return fmt.Sprintf("%s made on %s@%s; start it with %s", spec.Name, spec.Prototype.Name, spec.Snapshot,
		start)
}

// make makes a jail. With --plan it only shows what it would make.
func (s *session) make(c *cli.Context, k *jails.Creator, made *jails.Creation, words string) error {
	for _, n := range made.Notes {
		s.warn(made.Jail, n)
	}
	if c.Bool("plan") {
		return s.printCreation(made)
	}
	problems, err := k.Create(c.Context, made)
	if err != nil {
		return fmt.Errorf("%s: %w", made.Jail, err)
	}
	for _, p := range problems {
		s.warn(made.Jail, p.String())
	}
	_, err = fmt.Fprintln(s.out, words)
	return err
}

func (s *session) printCreation(made *jails.Creation) error {
	for _, line := range made.Lines() {
		if _, err := fmt.Fprintln(s.out, line); err != nil {
			return err
		}
	}
	for _, f := range made.Files {
		if _, err := fmt.Fprintf(s.out, "\n%s:\n%s", f.Name, f.Text); err != nil {
			return err
		}
	}
	return nil
}

// spec returns what the flags ask for. A clone has the prototype of the jail from which it is cloned.
func (s *session) spec(
	c *cli.Context, name string, from *config.Target, snapshot string,
) (*jails.Spec, error) {
	p, err := s.prototypeOf(c, from)
	if err != nil {
		return nil, err
	}
	snaps, err := s.snapshots(p)
	if err != nil {
		return nil, err
	}
	all, err := snaps.List(c.Context)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no snapshot: cfgd proto snapshot takes one", p.Name)
	}
	spec := &jails.Spec{
		Name: name, Hostname: cmp.Or(c.String("hostname"), strings.ReplaceAll(name, "_", "-")),
		IP: c.String("ip"), Interface: c.String("interface"),
		Prototype: p, Mark: snaps.Mark(), Snapshot: cmp.Or(snapshot, all[len(all)-1].Name),
		Form: s.loaded.JailForm(), Listed: len(s.loaded.JailList) > 0, Embedded: s.loaded.Root != "",
	}
	if from != nil && from.Definition.Form != "" {
		spec.Form = from.Definition.Form
	}
	if z, ok := snaps.(prototype.ZFS); ok {
		spec.Dataset = z.Dataset
	}
	if !slices.ContainsFunc(all, func(x prototype.Snapshot) bool { return x.Name == spec.Snapshot }) {
		return nil, usagef("%s has no snapshot %q; cfgd proto list lists them", p.Name, spec.Snapshot)
	}
	return spec, nil
}

// prototypeOf returns the prototype of a jail, else the one of --prototype, else the only one.
func (s *session) prototypeOf(c *cli.Context, from *config.Target) (*config.Prototype, error) {
	m, err := s.model()
	if err != nil {
		return nil, err
	}
	if from != nil {
		snap, ok := config.ParseSnapshot(from.Base)
		for _, p := range m.Prototypes {
			if ok && p.Has(snap) {
				return p, nil
			}
		}
		return nil, fmt.Errorf("%s: base %s is no snapshot of a prototype", from.Name, from.Base)
	}
	for _, p := range m.Prototypes {
		if p.Name == c.String("prototype") || c.String("prototype") == "" && len(m.Prototypes) == 1 {
			return p, nil
		}
	}
	return nil, usagef("which prototype? --prototype NAME; cfgd proto list lists them")
}

func (s *session) jailDestroy(c *cli.Context) error {
	if err := counted(c, 1, 1); err != nil {
		return err
	}
	if _, err := s.model(); err != nil {
		return err
	}
	name := c.Args().First()
	k := s.creator()
	made, err := k.Created(name)
	if err != nil {
		return err
	}
	if t := s.loaded.Target(name); t != nil && s.jails().Runs(c.Context, t) {
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
	_, err = fmt.Fprintf(s.out, "%s destroyed\n", name)
	return err
}
