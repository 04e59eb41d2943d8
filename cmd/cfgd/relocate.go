package main

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/mount"
	"cfgd/internal/pathname"
	"cfgd/jails"
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
	all, err := k.All(p.Name)
	if err != nil {
		return err
	}
	if c.NArg() == 1 {
		return s.printRelocated(all)
	}
	from, err := belowRoot(c.Args().Get(1))
	if err != nil {
		return err
	}
	if !c.Bool("plan") {
		unlock, err := jails.Exclusive(c.Context, s.loaded, p.Name)
		if err != nil {
			return err
		}
		defer unlock()
		if all, err = s.settled(c, k, p); err != nil {
			return err
		}
	}
	if c.Bool("undo") {
		return s.relocateBack(c, k, p, all, from)
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
	r, err := k.Plan(p, from, to)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	if c.Bool("plan") {
		_, err := fmt.Fprintln(s.out, strings.Join(r.Lines(), "\n"))
		return err
	}
	if err := k.Do(c.Context, r); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	_, err = fmt.Fprintf(s.out, "%s /%s is in /%s now, with a link to %s; cfgd proto snapshot %s brings "+
		"it to the jails\n",
		p.Name, pathname.Quote(r.Path), pathname.Quote(r.To), pathname.Quote(r.Link), p.Name)
	return err
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

// settled finishes or undoes relocations that were interrupted, and returns the others. The caller holds the
// prototype's lock, so no process works on an unfinished one.
func (s *session) settled(
	c *cli.Context, k *prototype.Relocator, p *config.Prototype,
) ([]*prototype.Relocation, error) {
	all, err := k.All(p.Name)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Finished() {
			continue
		}
		if err := k.Settle(c.Context, r); err != nil {
			return nil, fmt.Errorf("%s: an earlier relocation was cut short: %w", p.Name, err)
		}
		s.warn(p.Name, fmt.Sprintf("an earlier relocation of /%s was cut short: finished or undone now",
			pathname.Quote(r.Path)))
	}
	return k.All(p.Name)
}

func (s *session) relocateBack(
	c *cli.Context, k *prototype.Relocator, p *config.Prototype, all []*prototype.Relocation, from string,
) error {
	for _, r := range all {
		if r.Path != from {
			continue
		}
		if c.Bool("plan") {
			_, err := fmt.Fprintf(s.out,
				"copy %s/%s back to %[1]s/%[3]s, in the place of the link\nremove %[1]s/%[2]s\n", r.Root,
				r.To, r.Path)
			return err
		}
		if err := k.Undo(c.Context, r); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		_, err := fmt.Fprintf(s.out, "%s /%s is back in its place\n", p.Name, pathname.Quote(r.Path))
		return err
	}
	return usagef("%s: /%s was not relocated by cfgd; cfgd relocate %[1]s lists what was", p.Name,
		pathname.Quote(from))
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
