package main

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/mount"
	"cfgd/internal/pathname"
	"cfgd/prototype"
)

func (s *session) relocateCommand() *cli.Command {
	return &cli.Command{
		Name: "relocate", ArgsUsage: "PROTOTYPE [PATH]",
		Usage: "move a file or directory of a prototype into its etc",
		Description: "" +
			"Leaves a link in the old place, so that each jail may have its own: /usr/local/etc goes " +
			"to /etc/local, and /root/.ssh to /etc/root.dot.ssh. PATH is the whole path as the " +
			"prototype's jail sees it. Stop every program that has it open. Afterwards take a " +
			"snapshot and switch the jails. A relocation that was interrupted is finished or undone " +
			"by the next one. Without PATH, lists what was relocated and changes nothing.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "the place in etc: `ETCPATH` is local/foo or /etc/local/foo"},
			&cli.BoolFlag{Name: "undo", Usage: "move it back, and remove the link"},
			&cli.BoolFlag{Name: "plan", Usage: "show what would be done, and do nothing"},
		},
		Action: s.relocate,
	}
}

func (s *session) relocate(c *cli.Context) error {
	if err := counted(c, 1, 2); err != nil {
		return err
	}
	if _, err := s.model(); err != nil {
		return err
	}
	p := s.prototypeNamed(c.Args().First())
	if p == nil {
		return usagef("no prototype %q; cfgd proto list lists them", c.Args().First())
	}
	k := &prototype.Relocator{Model: s.loaded, Now: time.Now}
	if s.loaded.Root == "" {
		k.Mounts = mount.All
	}
	if c.NArg() == 1 {
		all, err := k.All(p.Name)
		if err != nil {
			return err
		}
		return s.printRelocated(all)
	}
	from, err := belowRoot(c.Args().Get(1))
	if err != nil {
		return err
	}
	if c.Bool("undo") {
		return s.relocateBack(c, k, p, from)
	}
	return s.relocateTo(c, k, p, from)
}

// relocateTo moves a path of the prototype into its etc. With --plan it only prints how.
func (s *session) relocateTo(
	c *cli.Context, k *prototype.Relocator, p *config.Prototype, from string,
) error {
	to := prototype.NewPlace(from)
	if x := c.String("to"); x != "" {
		to = "etc/" + strings.TrimPrefix(path.Clean("/"+strings.TrimPrefix(path.Clean("/"+x), "/etc/")), "/")
	}
	if c.Bool("plan") {
		r, err := k.Plan(p, from, to)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		_, err = fmt.Fprintln(s.out, strings.Join(r.Lines(), "\n"))
		return err
	}
	r, err := k.Move(c.Context, p, from, to)
	s.warnSettled(p, r)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	_, err = fmt.Fprintf(s.out, "%s /%s is in /%s now, with a link to %s; cfgd proto snapshot %s brings "+
		"it to the jails\n",
		p.Name, pathname.Quote(r.Path), pathname.Quote(r.To), pathname.Quote(r.Link), p.Name)
	return err
}

// relocateBack moves a path back. With --plan it only prints how.
func (s *session) relocateBack(
	c *cli.Context, k *prototype.Relocator, p *config.Prototype, from string,
) error {
	if c.Bool("plan") {
		r, err := k.Of(p, from)
		if err != nil {
			return notRelocated(p, err)
		}
		_, err = fmt.Fprintln(s.out, strings.Join(r.BackLines(), "\n"))
		return err
	}
	r, err := k.MoveBack(c.Context, p, from)
	s.warnSettled(p, r)
	if err != nil {
		return notRelocated(p, err)
	}
	_, err = fmt.Fprintf(s.out, "%s /%s is back in its place\n", p.Name, pathname.Quote(r.Path))
	return err
}

func notRelocated(p *config.Prototype, err error) error {
	if errors.Is(err, prototype.ErrNotRelocated) {
		return usagef("%s: %v; cfgd relocate %[1]s lists what was", p.Name, err)
	}
	return fmt.Errorf("%s: %w", p.Name, err)
}

// warnSettled warns of earlier relocations that were interrupted.
func (s *session) warnSettled(p *config.Prototype, done prototype.Moved) {
	for _, r := range done.Settled {
		s.warn(p.Name, fmt.Sprintf("an earlier relocation of /%s was cut short: finished or undone now",
			pathname.Quote(r.Path)))
	}
}

func (s *session) prototypeNamed(name string) *config.Prototype {
	for _, p := range s.loaded.Prototypes {
		if p.Name == name && p.Root != "" {
			return p
		}
	}
	return nil
}

// belowRoot turns an absolute path into one below a root.
func belowRoot(p string) (string, error) {
	if !path.IsAbs(p) || path.Clean(p) != p || p == "/" {
		return "", usagef("%s: give the whole path, as the prototype's jail sees it", pathname.Quote(p))
	}
	return p[1:], nil
}

func (s *session) printRelocated(all []*prototype.Relocation) error {
	if s.json {
		return s.print(struct {
			Version   int                     `json:"version"`
			Relocated []*prototype.Relocation `json:"relocated"`
		}{1, append([]*prototype.Relocation{}, all...)})
	}
	w := newTable()
	for _, r := range all {
		row := []string{"/" + pathname.Quote(r.Path), "/" + pathname.Quote(r.To),
			r.Time.Local().Format(time.DateTime)}
		if !r.Finished() {
			row = append(row, r.State)
		}
		w.row(row...)
	}
	return w.print(s.out)
}
