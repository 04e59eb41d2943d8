package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay"
	"cfgd/overlay/tree"
)

func (s *session) diffCommand() *cli.Command {
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
		Action: s.diff,
	}
}

// difference is one run of the diff command.
type difference struct {
	*session
	target   *config.Target
	overlay  *overlay.Overlay
	view     *overlay.View
	old, new string // the trees: base, saved, live
	secrets  bool
	context  int
	unsaved  map[string]bool
	only     []string
}

func (s *session) diff(c *cli.Context) error {
	if err := counted(c, 1, -1); err != nil {
		return err
	}
	only, err := paths(c.Args().Tail())
	switch {
	case err != nil:
		return err
	case c.Bool("unsaved") && c.Bool("saved"):
		return usagef("--unsaved and --saved are two different questions; ask one of them")
	case c.Int("U") < 0:
		return usagef("-U %d: a number of lines is not negative", c.Int("U"))
	}
	t, err := s.target(c.Args().First())
	if err != nil {
		return err
	}
	d := &difference{
		session: s, target: t, overlay: s.overlay(t), old: "base", new: "live",
		secrets: c.Bool("show-secrets"), context: c.Int("U"), only: only,
	}
	changes, err := d.look(c, only)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	if err := d.print(c, changes); err != nil {
		return err
	}
	if len(changes) > 0 {
		return errDiffer
	}
	return nil
}

// look finds the changes that the command line asks for.
func (d *difference) look(c *cli.Context, only []string) ([]tree.Change, error) {
	var err error
	if d.view, err = d.overlay.Look(c.Context, overlay.LookOptions{}); err != nil {
		return nil, err
	}
	d.notices(d.target.Name, d.view.Notices)
	changes := d.view.Local
	switch {
	case c.Bool("saved"):
		d.new, changes = "saved", d.view.Stored
	case d.view.NotPopulated != nil:
		return nil, fmt.Errorf("%w; cfgd diff --saved %s shows what is saved", d.view.NotPopulated,
			d.target.Name)
	case c.Bool("unsaved"):
		d.old, changes = "saved", d.view.Unsaved
	}
	if err := d.known(only); err != nil {
		return nil, err
	}
	d.unsaved = map[string]bool{}
	for _, u := range d.view.Unsaved {
		d.unsaved[u.Path] = d.new == "live"
	}
	var out []tree.Change
	for _, ch := range d.view.Visible(changes) {
		if below(ch.Path, only) {
			out = append(out, ch)
		}
	}
	return out, nil
}

// known refuses a PATH that is in no tree, because a typing error must not look like "no difference".
func (d *difference) known(only []string) error {
	for _, p := range only {
		if !known(d.view, p) {
			return usagef("%s: neither in base nor in cfg nor in live", pathname.Quote(p))
		}
	}
	return nil
}

// known reports whether a path is in one of the three trees.
func known(v *overlay.View, p string) bool {
	for _, t := range []*tree.Tree{v.Base.Tree, v.Plain, v.Live} {
		if t == nil {
			continue
		}
		if _, ok := t.Get(p); ok {
			return true
		}
	}
	return p == ""
}

// below reports whether a path is one of the given paths or below one. If none is given, every path is.
func below(path string, only []string) bool {
	if len(only) == 0 {
		return true
	}
	for _, dir := range only {
		if dir == "" || path == dir || len(path) > len(dir) && path[:len(dir)] == dir &&
			path[len(dir)] == '/' {
			return true
		}
	}
	return false
}

// changed is the JSON of a change.
type changed struct {
	pathname.JSON
	Change string `json:"change"`
	Kind   string `json:"kind"`
	Class  string `json:"class"`
	Saved  bool   `json:"saved"`
}

func (d *difference) print(c *cli.Context, changes []tree.Change) error {
	if d.json {
		list := []changed{}
		for _, ch := range changes {
			list = append(list, changed{pathname.FromPath(ch.Path), ch.What.String(), ch.Kind().String(),
				string(d.view.Class(ch.Path)), !d.unsaved[ch.Path]})
		}
		return d.session.print(struct {
			Version int       `json:"version"`
			Target  string    `json:"target"`
			Changes []changed `json:"changes"`
		}{1, d.target.Name, list})
	}
	for _, ch := range changes {
		if err := d.printOne(c.Context, ch, c.Bool("name-status")); err != nil {
			return err
		}
	}
	if c.Bool("name-status") || c.Bool("unsaved") {
		return nil
	}
	return d.printDefaults(changes)
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

// printDefaults lists the conflicts in which the default was taken, because these have no difference to show.
func (d *difference) printDefaults(changes []tree.Change) error {
	shown := map[string]bool{}
	for _, ch := range changes {
		shown[ch.Path] = true
	}
	for _, x := range d.view.Conflicts() {
		if shown[x.Path] || !below(x.Path, d.only) {
			continue
		}
		if _, err := fmt.Fprintf(d.out, "# %s %s\n# %s\n", d.target.Name, pathname.Quote(x.Path),
			d.conflict(x.Path)); err != nil {
			return err
		}
	}
	return nil
}

func (d *difference) printOne(ctx context.Context, ch tree.Change, names bool) error {
	if names {
		mark := ""
		if d.unsaved[ch.Path] {
			mark = "!"
		}
		_, err := fmt.Fprintf(d.out, "%s%s %s\n", ch.What.Letter(), mark, pathname.Quote(ch.Path))
		return err
	}
	m := merge.Change{
		Target: d.target.Name, Path: ch.Path, Unsaved: d.unsaved[ch.Path], Secret: d.secret(ch.Path),
	}
	read := func(e *tree.Entry, tree string) ([]byte, error) {
		return d.overlay.Read(d.view, e, tree, e.Size+1)
	}
	var err error
	if m.Old, err = side(ch.Old, d.old, m.Secret, read); err != nil {
		return err
	}
	if m.New, err = side(ch.New, d.new, m.Secret, read); err != nil {
		return err
	}
	m.Notes = d.attributes(ch)
	if words := d.conflict(ch.Path); words != "" {
		m.Notes = append(m.Notes, words)
	}
	return merge.Write(d.out, m, d.context)
}

var xattrWords = map[tree.ChangeKind]string{
	tree.Added: "added", tree.Modified: "changed", tree.Deleted: "removed",
}

// attributes tells which extended attributes differ, and why some are not saved. It never prints their
// values, which may be secrets.
func (d *difference) attributes(ch tree.Change) []string {
	var notes []string
	for _, x := range d.view.XattrChanges(ch) {
		notes = append(notes, fmt.Sprintf("attribute %s: %s", pathname.Quote(x.Name), xattrWords[x.What]))
	}
	if ch.New != nil && ch.New.Unlisted != "" {
		notes = append(notes, pathname.Plain(ch.New.Unlisted))
	}
	return notes
}

func (d *difference) secret(path string) bool { return !d.secrets && d.target.Classes.Secret(path) }

// side returns one side of a diff. The content of a secret is not read.
func side(
	e *tree.Entry, label string, secret bool, read func(*tree.Entry, string) ([]byte, error),
) (merge.Side, error) {
	s := merge.Side{Label: label}
	if e == nil {
		return s, nil
	}
	s.Exists, s.Kind, s.Mode, s.Size = true, merge.Kind(e.Kind.String()), e.Mode, e.Size
	s.Owner = strconv.Itoa(int(e.UID)) + ":" + strconv.Itoa(int(e.GID))
	s.Flags, s.Digest = dirfd.FlagNames(e.Flags), e.Digest.String()
	switch {
	case e.Kind == dirfd.KindSymlink:
		s.Content = []byte(e.Link)
	case e.Kind != dirfd.KindFile:
	case secret:
		s.Omitted = "secret"
	case e.Unread != "":
		s.Omitted = string(e.Unread)
	default:
		b, err := read(e, label)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, dirfd.ErrNotRegular):
			s.Omitted = "no longer there"
		case err != nil:
			return s, err
		default:
			s.Content = b
		}
	}
	return s, nil
}
