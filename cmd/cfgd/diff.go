package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay"
	"cfgd/overlay/tree"
)

func diffCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "diff", ArgsUsage: "TARGET [PATH…]",
		Usage: "show what differs between live and base",
		Description: "" +
			"Prints the differences in the format of git. On a copy of the old tree, patch -E -p1 and " +
			"git apply take them. Lines that begin with # tell what that format does not hold. The " +
			"contents of secrets are not shown unless asked for. Exit status 1 if there are " +
			"differences.\n\n" +
			"With --name-status, each difference is one letter and one path: A added, M modified, D " +
			"deleted, T of another type, P other permissions. A ! marks what is unsaved.",
		Flags: []cli.Flag{
			&cli.BoolFlag{
				Name: "unsaved", Usage: "compare live with the saved tree: what a restart would lose",
			},
			&cli.BoolFlag{
				Name: "saved", Usage: "compare the saved tree with base, even while the jail is down",
			},
			&cli.BoolFlag{Name: "name-status", Usage: "print only a letter and a path for each difference"},
			&cli.IntFlag{Name: "U", Usage: "show `N` lines of context", Value: 3},
			&cli.BoolFlag{Name: "show-secrets", Usage: "show the contents of secrets too"},
		},
		Action: s.action(runDiff),
	}
}

// difference says what a diff compares, and how it is printed.
type difference struct {
	target   *config.Target
	view     *overlay.View
	old, new string // the trees: base, saved, live
	secrets  bool
	context  int
	unsaved  map[string]bool
	only     []string
	read     func(e *tree.Entry, tree string) ([]byte, error)
}

func runDiff(s *session, c *cli.Context) error {
	only, err := pathArgs(c.Args().Tail())
	switch {
	case err != nil:
		return err
	case c.Bool("unsaved") && c.Bool("saved"):
		return usagef("--unsaved and --saved are two different questions; ask one of them")
	case c.Int("U") < 0:
		return usagef("-U %d: a number of lines is not negative", c.Int("U"))
	}
	o, err := s.overlay(c.Args().First())
	if err != nil {
		return err
	}
	v, err := o.Look(c.Context, overlay.LookOptions{})
	if err != nil {
		return fmt.Errorf("%s: %w", o.Target.Name, err)
	}
	s.warn(o.Target.Name, v.Notices...)
	d := &difference{
		target: o.Target, view: v, secrets: c.Bool("show-secrets"), context: c.Int("U"), only: only,
		read: func(e *tree.Entry, tree string) ([]byte, error) { return v.Read(e, tree, e.Size+1) },
	}
	changes, err := d.choose(c.Bool("unsaved"), c.Bool("saved"))
	if err != nil {
		return fmt.Errorf("%s: %w", o.Target.Name, err)
	}
	if err := d.print(s, changes, c.Bool("name-status"), !c.Bool("unsaved")); err != nil {
		return err
	}
	if len(changes) > 0 {
		return errDiffer
	}
	return nil
}

// choose returns the changes that the command line asks for.
func (d *difference) choose(unsaved, saved bool) ([]tree.Change, error) {
	var changes []tree.Change
	switch {
	case saved:
		d.old, d.new, changes = "base", "saved", d.view.Stored
	case d.view.NotPopulated != nil:
		return nil, fmt.Errorf("%w; cfgd diff --saved %s shows what is saved", d.view.NotPopulated,
			d.target.Name)
	case unsaved:
		d.old, d.new, changes = "saved", "live", d.view.Unsaved
	default:
		d.old, d.new, changes = "base", "live", d.view.Local
	}
	for _, p := range d.only { // a typing error must not look like "no difference"
		if !d.view.Has(p) {
			return nil, usageError{fmt.Errorf("%s: %w", pathname.Quote(p), overlay.ErrUnknownPath)}
		}
	}
	d.unsaved = map[string]bool{}
	for _, u := range d.view.Unsaved {
		d.unsaved[u.Path] = d.new == "live"
	}
	var out []tree.Change
	for _, ch := range d.view.Visible(changes) {
		if below(ch.Path, d.only) {
			out = append(out, ch)
		}
	}
	return out, nil
}

// listedDifference is the JSON of a change.
type listedDifference struct {
	pathname.JSON
	Change string `json:"change"`
	Kind   string `json:"kind"`
	Class  string `json:"class"`
	Saved  bool   `json:"saved"`
}

// print prints the changes: as JSON, as names, or as a diff, which may be long and is written at once.
func (d *difference) print(s *session, changes []tree.Change, names, defaults bool) error {
	if s.json || names {
		return s.print(struct {
			Version int                `json:"version"`
			Target  string             `json:"target"`
			Changes []listedDifference `json:"changes"`
		}{1, d.target.Name, d.listed(changes)}, func(b *strings.Builder) { d.printNames(b, changes) })
	}
	for _, ch := range changes {
		m, err := d.change(ch)
		if err == nil {
			err = merge.Write(s.out, m, d.context)
		}
		if err != nil {
			return err
		}
	}
	if !defaults {
		return nil
	}
	return s.printf("%s", d.defaults(changes))
}

func (d *difference) listed(changes []tree.Change) []listedDifference {
	list := []listedDifference{}
	for _, ch := range changes {
		list = append(list, listedDifference{
			pathname.FromPath(ch.Path), ch.Kind.String(), ch.FileKind().String(),
			string(d.view.Class(ch.Path)), !d.unsaved[ch.Path],
		})
	}
	return list
}

func (d *difference) printNames(b *strings.Builder, changes []tree.Change) {
	for _, ch := range changes {
		mark := ""
		if d.unsaved[ch.Path] {
			mark = "!"
		}
		fmt.Fprintf(b, "%s%s %s\n", ch.Kind.Letter(), mark, pathname.Quote(ch.Path))
	}
}

// conflict describes the unresolved conflict of a path; "" if there is none.
func (d *difference) conflict(path string) string {
	for _, x := range d.view.Conflicts() {
		if x.Path == path {
			taken := "the saved one is taken"
			if x.Taken == config.ConflictTheirs {
				taken = "the default is taken"
			}
			return pathname.Plain(fmt.Sprintf("conflict: %s; %s; cfgd resolve %s %s settles it", x.Why, taken,
				d.target.Name, pathname.Quote(path)))
		}
	}
	return ""
}

// defaults lists what has no difference to show: conflicts in which the default was taken, and defaults that
// are not made.
func (d *difference) defaults(changes []tree.Change) string {
	shown := map[string]bool{}
	for _, ch := range changes {
		shown[ch.Path] = true
	}
	var b strings.Builder
	for _, x := range d.view.Conflicts() {
		if !shown[x.Path] && below(x.Path, d.only) {
			fmt.Fprintf(&b, "# %s %s\n# %s\n", d.target.Name, pathname.Quote(x.Path), d.conflict(x.Path))
		}
	}
	if d.old == "base" {
		for _, e := range d.view.LeftOut() {
			if below(e.Path, d.only) {
				fmt.Fprintf(&b, "# %s %s\n# a %s in the default: not made\n", d.target.Name,
					pathname.Quote(e.Path), e.Kind)
			}
		}
	}
	return b.String()
}

// change returns a change with both contents, as merge.Write prints it.
func (d *difference) change(ch tree.Change) (m merge.Change, err error) {
	m = merge.Change{
		Target: d.target.Name, Path: ch.Path, Unsaved: d.unsaved[ch.Path],
		Secret: !d.secrets && d.target.Classes.Secret(ch.Path),
	}
	if m.Old, err = merge.SideOf(ch.Old, d.old, m.Secret, d.read); err != nil {
		return m, err
	}
	if m.New, err = merge.SideOf(ch.New, d.new, m.Secret, d.read); err != nil {
		return m, err
	}
	m.Notes = d.attributes(ch)
	if words := d.conflict(ch.Path); words != "" {
		m.Notes = append(m.Notes, words)
	}
	return m, nil
}

var xattrWords = map[tree.ChangeKind]string{
	tree.Added: "added", tree.Modified: "changed", tree.Deleted: "removed",
}

// attributes tells which extended attributes differ, and why some are not saved. It never prints their
// values, which may be secrets.
func (d *difference) attributes(ch tree.Change) []string {
	var notes []string
	for _, x := range d.view.XattrChanges(ch) {
		notes = append(notes, fmt.Sprintf("attribute %s: %s", pathname.Quote(x.Name), xattrWords[x.Kind]))
	}
	if ch.New != nil && ch.New.Unlisted != "" {
		notes = append(notes, pathname.Plain(ch.New.Unlisted))
	}
	return notes
}
