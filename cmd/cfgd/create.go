package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	sysrun "cfgd/internal/run"
	"cfgd/jailhooks"
)

func (s *session) createCommand() *cli.Command {
	return &cli.Command{
		Name: "create", ArgsUsage: "NAME",
		Usage: "make a jail on a prototype: filesystems of its own, fstab, lines of rc.conf",
		Description: "What section 3.6 of the paper does by hand. The lines are added to rc.conf between two comments, and saved to the host's cfg with the\n" +
			"fstab. cfgd jail destroy undoes just that. A step that fails undoes those before it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "prototype", Usage: "the prototype by its `NAME`; may be left out where there is one"},
			&cli.StringFlag{Name: "snapshot", Usage: "the snapshot by its `NAME`; the newest if left out"},
			&cli.StringFlag{Name: "hostname", Usage: "the jail's `HOST` name; its own name if left out"},
			&cli.StringFlag{Name: "ip", Usage: "its `ADDRESS`"},
			&cli.StringFlag{Name: "interface", Usage: "the network `INTERFACE` of the address"},
			&cli.BoolFlag{Name: "plan", Usage: "show what would be made, and make nothing"},
		},
		Action: s.jailCreate,
	}
}

func (s *session) destroyCommand() *cli.Command {
	return &cli.Command{
		Name: "destroy", ArgsUsage: "NAME",
		Usage:       "undo what jail create made, and nothing else",
		Description: "The jail must not run. Its filesystems go with all that is in them. Refuses where something was added since.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do it; without it the command says what it would destroy"},
			&cli.BoolFlag{Name: "force", Usage: "even where something was added since"},
		},
		Action: s.jailDestroy,
	}
}

func (s *session) creator() *jailhooks.Creator {
	return &jailhooks.Creator{Model: s.loaded, Run: sysrun.System{}, SaveHost: s.hostSaver(), Reload: s.load}
}

func (s *session) jailCreate(c *cli.Context) error {
	if err := counted(c, 1, 1); err != nil {
		return err
	}
	name := c.Args().First()
	spec, err := s.spec(c, name)
	if err != nil {
		return err
	}
	made, err := spec.Plan(time.Now())
	if err != nil {
		return usageError{err}
	}
	if c.Bool("plan") {
		for _, line := range made.Lines() {
			if _, err := fmt.Fprintln(s.out, line); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintf(s.out, "\n%s:\n%s\n%s:\n%s", made.Fstab, made.Text, made.Conf, made.Block)
		return err
	}
	if err := s.creator().Create(c.Context, made); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	start := "service jail start " + name
	if s.loaded.Root != "" {
		start = "cfgd --root " + s.root + " jail init " + name
	}
	_, err = fmt.Fprintf(s.out, "%s made on %s@%s; start it with %s\n", name, spec.Prototype.Name, spec.Snapshot, start)
	return err
}

// spec is what the flags ask for.
func (s *session) spec(c *cli.Context, name string) (*jailhooks.Spec, error) {
	m, err := s.model()
	if err != nil {
		return nil, err
	}
	var p *config.Prototype
	for _, x := range m.Prototypes {
		if x.Name == c.String("prototype") || c.String("prototype") == "" && len(m.Prototypes) == 1 {
			p = x
		}
	}
	if p == nil {
		return nil, usagef("which prototype? --prototype NAME; cfgd proto list lists them")
	}
	snaps, err := s.snapshots(c.Context, p)
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
	spec := &jailhooks.Spec{Name: name, Hostname: cmp.Or(c.String("hostname"), strings.ReplaceAll(name, "_", "-")), IP: c.String("ip"), Interface: c.String("interface"),
		Prototype: p, Mark: snaps.Mark(), Snapshot: all[len(all)-1].Name}
	if z, ok := snaps.(jailhooks.ZFS); ok {
		spec.Dataset = z.Dataset
	}
	if want := c.String("snapshot"); want != "" {
		found := false
		for _, x := range all {
			found = found || x.Name == want
		}
		if !found {
			return nil, usagef("%s has no snapshot %q; cfgd proto list lists them", p.Name, want)
		}
		spec.Snapshot = want
	}
	return spec, nil
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
		what := append(append([]string{}, made.Datasets...), made.Dirs...)
		return usagef("this destroys %s, with all that is in them, %s, and the lines of %s in %s; say --yes", strings.Join(append(what, made.Root), ", "), made.Fstab, name, made.Conf)
	}
	if err := k.Destroy(c.Context, made, c.Bool("force")); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err = fmt.Fprintf(s.out, "%s destroyed\n", name)
	return err
}
