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

func relocateCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "relocate", ArgsUsage: "PROTOTYPE [PATH]",
		Usage: "move files of a prototype into its etc, and link to them",
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
		Action: s.action(runRelocate),
	}
}

func runRelocate(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	p, err := m.prototypeTree(c.Args().First())
	if err != nil {
		return err
	}
	k := &prototype.Relocator{Model: m.Model, Now: time.Now}
	if m.Root == "" {
		k.Mounts = mount.All
	}
	if c.NArg() == 1 {
		return runRelocateList(s, k, p)
	}
	from, err := belowRoot(c.Args().Get(1))
	if err != nil {
		return err
	}
	if c.Bool("undo") {
		return relocateBack(s, c, k, p, from)
	}
	return relocateTo(s, c, k, p, from)
}

// relocateTo moves a path of the prototype into its etc. With --plan it only prints how.
func relocateTo(
	s *session, c *cli.Context, k *prototype.Relocator, p *config.Prototype, from string,
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
		return s.printf("%s\n", strings.Join(r.Lines(), "\n"))
	}
	r, err := k.Move(c.Context, p, from, to)
	s.warn(p.Name, settledTexts(r)...)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return s.printf("%s /%s is in /%s now, with a link to %s; cfgd proto snapshot %[1]s brings it to the "+
		"jails\n", p.Name, pathname.Quote(r.Path), pathname.Quote(r.To), pathname.Quote(r.Link))
}

// belowRoot turns an absolute path into one below a root.
func belowRoot(p string) (string, error) {
	if !path.IsAbs(p) || path.Clean(p) != p || p == "/" {
		return "", usagef("%s: give the whole path, as the prototype's jail sees it", pathname.Quote(p))
	}
	return p[1:], nil
}

// relocateBack moves a path back. With --plan it only prints how.
func relocateBack(
	s *session, c *cli.Context, k *prototype.Relocator, p *config.Prototype, from string,
) error {
	if c.Bool("plan") {
		r, err := k.Of(p, from)
		if err != nil {
			return notRelocated(p, err)
		}
		return s.printf("%s\n", strings.Join(r.BackLines(), "\n"))
	}
	r, err := k.MoveBack(c.Context, p, from)
	s.warn(p.Name, settledTexts(r)...)
	if err != nil {
		return notRelocated(p, err)
	}
	return s.printf("%s /%s is back in its place\n", p.Name, pathname.Quote(r.Path))
}

func notRelocated(p *config.Prototype, err error) error {
	if errors.Is(err, prototype.ErrNotRelocated) {
		return usagef("%s: %v; cfgd relocate %[1]s lists what was", p.Name, err)
	}
	return fmt.Errorf("%s: %w", p.Name, err)
}

// settledTexts names the earlier relocations that were interrupted.
func settledTexts(done prototype.Moved) []string {
	var out []string
	for _, r := range done.Settled {
		out = append(out, fmt.Sprintf("an earlier relocation of /%s was cut short: finished or undone now",
			pathname.Quote(r.Path)))
	}
	return out
}

func runRelocateList(s *session, k *prototype.Relocator, p *config.Prototype) error {
	all, err := k.All(p.Name)
	if err != nil {
		return err
	}
	return s.print(struct {
		Version   int                     `json:"version"`
		Relocated []*prototype.Relocation `json:"relocated"`
	}{1, append([]*prototype.Relocation{}, all...)}, func(b *strings.Builder) { printRelocated(b, all) })
}

func printRelocated(b *strings.Builder, all []*prototype.Relocation) {
	w := newTable()
	for _, r := range all {
		row := []string{"/" + pathname.Quote(r.Path), "/" + pathname.Quote(r.To),
			r.Time.Local().Format(time.DateTime)}
		if !r.Finished() {
			row = append(row, r.State)
		}
		w.row(row...)
	}
	w.print(b)
}
