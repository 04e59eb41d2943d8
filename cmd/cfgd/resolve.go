package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/internal/run"
	"cfgd/overlay"
	"cfgd/overlay/store"
)

func resolveCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "resolve", ArgsUsage: "[TARGET [PATH…]]",
		Usage: "settle conflicts that a merge left",
		Description: "" +
			"If both sides changed a path, a merge takes one version (on_conflict) and keeps the " +
			"other. Without a choice, resolve prints a text with both versions. A choice (--mine, " +
			"--theirs, --edit or --edited) settles the conflict, in live and in cfg, as a new " +
			"generation. What is made of the path, such as passwd and pwd.db of master.passwd, is made " +
			"anew too. Where the program is missing, a warning gives the command. With --list it " +
			"lists the open conflicts, those of all targets if none is named.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "list", Usage: "list the open conflicts"},
			&cli.BoolFlag{Name: "mine", Usage: "take the saved version"},
			&cli.BoolFlag{Name: "theirs", Usage: "take the new default"},
			&cli.BoolFlag{Name: "edited", Usage: "take what is in live now, as you edited it"},
			&cli.BoolFlag{Name: "edit", Usage: "edit both versions in $EDITOR, and take the result"},
			&cli.BoolFlag{Name: "all", Usage: "settle all conflicts of the target"},
			&cli.BoolFlag{Name: "show-secrets", Usage: "show the contents of secrets too"},
		},
		Action: s.action(runResolve),
	}
}

func runResolve(s *session, c *cli.Context) error {
	how, err := chosenVersion(c)
	switch {
	case err != nil:
		return err
	case c.Bool("list"):
		if how != nil || c.Bool("all") {
			return usagef("--list lists; it settles nothing")
		}
		return runResolveList(s, c)
	case c.NArg() == 0:
		return usagef("which target? cfgd resolve --list lists the conflicts of all")
	case c.Bool("all") != (c.NArg() == 1):
		return usagef("name the paths, or say --all")
	}
	o, err := s.overlay(c.Args().First())
	if err != nil {
		return err
	}
	list, err := chosenConflicts(c, o)
	switch {
	case err != nil || len(list) == 0:
		return err
	case how == nil:
		return showConflicts(c.Context, s.out, o, list, c.Bool("show-secrets"))
	case !c.Bool("edit"):
	case len(list) != 1:
		return usagef("--edit takes one path")
	default:
		if how.Content, err = editConflict(c.Context, o, list[0], s.err); err != nil {
			return fmt.Errorf("%s: %s: %w", o.Target.Name, pathname.Quote(list[0].Path), err)
		}
	}
	return resolveConflicts(c.Context, s, o, list, *how)
}

// chosenVersion reads the flags; nil if there is no choice.
func chosenVersion(c *cli.Context) (*overlay.Choice, error) {
	var how *overlay.Choice
	for _, f := range []struct {
		name string
		take config.OnConflict
	}{{"mine", config.ConflictMine}, {"theirs", config.ConflictTheirs}, {"edited", ""}, {"edit", ""}} {
		if !c.Bool(f.name) {
			continue
		}
		if how != nil {
			return nil, usagef("--mine, --theirs, --edited, --edit: one of them")
		}
		how = &overlay.Choice{Take: f.take}
	}
	return how, nil
}

// chosenConflicts returns the conflicts of the paths on the command line and below them, or all conflicts.
func chosenConflicts(c *cli.Context, o *overlay.Overlay) ([]store.Conflict, error) {
	only, err := pathArgs(c.Args().Tail())
	if err != nil {
		return nil, err
	}
	v, err := o.Look(c.Context, overlay.LookOptions{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Target.Name, err)
	}
	var list []store.Conflict
	found := map[string]bool{}
	for _, x := range v.Conflicts() {
		for _, p := range only {
			found[p] = found[p] || below(x.Path, []string{p})
		}
		if below(x.Path, only) {
			list = append(list, x)
		}
	}
	for _, p := range only {
		if !found[p] {
			return nil, fmt.Errorf("%s: %s: %w; cfgd resolve --list lists them", o.Target.Name,
				pathname.Quote(p), overlay.ErrNoConflict)
		}
	}
	return list, nil
}

// resolveConflicts settles conflicts, and prints them.
func resolveConflicts(
	ctx context.Context, s *session, o *overlay.Overlay, list []store.Conflict, how overlay.Choice,
) error {
	t := o.Target
	var names []string
	done := written{Version: 1, Target: t.Name}
	for _, x := range list {
		names = append(names, x.Path)
		done.Changes = append(done.Changes,
			listedChange{pathname.FromPath(x.Path), "resolved", "resolved", x.Path})
	}
	r, err := o.Resolve(ctx, names, how)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	done.Generation = r.Generation
	s.warn(t.Name, r.Notices...)
	return s.print(done, func(b *strings.Builder) { printWritten(b, done) })
}

// listedConflict is the JSON of an unresolved conflict.
type listedConflict struct {
	Target string `json:"target"`
	pathname.JSON
	Taken string `json:"taken"`
	From  string `json:"from"`
	To    string `json:"to"`
	Why   string `json:"why"`
}

func runResolveList(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	targets, excluded := m.choose(c.Args().Slice())
	if len(targets) == 0 && excluded != nil {
		return excluded
	}
	list := []listedConflict{}
	errs := make([]error, len(targets))
	for i, t := range targets {
		v, err := m.overlay(t).Look(c.Context, overlay.LookOptions{})
		if errs[i] = err; err != nil {
			continue
		}
		for _, x := range v.Conflicts() {
			list = append(list,
				listedConflict{t.Name, pathname.FromPath(x.Path), string(x.Taken), x.From, x.To, x.Why})
		}
	}
	if err := s.print(struct {
		Version   int              `json:"version"`
		Conflicts []listedConflict `json:"conflicts"`
	}{1, list}, func(b *strings.Builder) { printConflicts(b, list) }); err != nil {
		return err
	}
	return s.sum(targets, errs, excluded)
}

func printConflicts(b *strings.Builder, list []listedConflict) {
	if len(list) == 0 {
		fmt.Fprintln(b, "no conflicts")
		return
	}
	w := newTable()
	w.row("TARGET", "PATH", "TAKEN", "FROM", "TO")
	for _, x := range list {
		name, _ := x.Name()
		w.row(x.Target, pathname.Quote(name), x.Taken, pathname.Plain(x.From), pathname.Plain(x.To))
		w.note(pathname.Plain(x.Why))
	}
	w.print(b)
}

// showConflicts writes both versions of each conflict.
func showConflicts(
	ctx context.Context, w io.Writer, o *overlay.Overlay, list []store.Conflict, secrets bool,
) error {
	t := o.Target
	for _, x := range list {
		text := []byte("# no text with both; cfgd diff shows live against the default\n")
		switch {
		case x.Text == nil:
		case t.Classes.Secret(x.Path) && !secrets:
			text = []byte("# contents not shown (secret); --show-secrets shows them\n")
		default:
			var err error
			if text, err = o.ConflictText(ctx, x.Path); err != nil {
				return fmt.Errorf("%s: %s: %w", t.Name, pathname.Quote(x.Path), err)
			}
		}
		if _, err := fmt.Fprintf(w, "# %s %s: %s; taken: %s\n%s", t.Name, pathname.Quote(x.Path),
			pathname.Plain(x.Why), x.Taken, text); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "# settle with cfgd resolve %s PATH --mine, --theirs, --edited or --edit\n",
		t.Name)
	return err
}

// errMarkers is the error for an edit that is not finished.
var errMarkers = errors.New("markers are left in the text: nothing resolved")

// editConflict lets the user edit the text with both versions. errs gets what the editor prints to
// standard error.
func editConflict(ctx context.Context, o *overlay.Overlay, x store.Conflict, errs io.Writer) ([]byte, error) {
	text, err := o.ConflictText(ctx, x.Path)
	if err != nil {
		return nil, fmt.Errorf("there is no text with both to edit: %w; take --mine, --theirs, or --edited",
			err)
	}
	dir, err := os.MkdirTemp("", "cfgd-resolve") // mode 0700: it may be a secret
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, path.Base(x.Path))
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	words := strings.Fields(cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi"))
	if err := run.Editor(ctx, append(words, name), os.Stdin, os.Stdout, errs); err != nil {
		return nil, fmt.Errorf("%s: %w; nothing resolved, the text is in %s", words[0], err, name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if hasMarkers(b) {
		return nil, fmt.Errorf("%w; your edit is in %s", errMarkers, name)
	}
	return b, os.RemoveAll(dir)
}

// hasMarkers reports whether a line of the text is a marker of diff3.
func hasMarkers(text []byte) bool {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("<<<<<<< ")) || bytes.HasPrefix(line, []byte(">>>>>>> ")) {
			return true
		}
	}
	return false
}
