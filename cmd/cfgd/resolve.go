package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay"
	"cfgd/overlay/store"
)

func (s *session) resolveCommand() *cli.Command {
	return &cli.Command{
		Name: "resolve", ArgsUsage: "[TARGET [PATH…]]",
		Usage: "settle conflicts that a merge left",
		Description: "" +
			"If both sides changed a path, a merge takes one version (on_conflict) and keeps the " +
			"other. Without a choice, resolve prints a text with both versions. A choice (--mine, " +
			"--theirs, --edit or --edited) settles the conflict, in live and in cfg, as a new " +
			"generation. With --list it lists the open conflicts, those of all targets if none is " +
			"named.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "list", Usage: "list the open conflicts"},
			&cli.BoolFlag{Name: "mine", Usage: "take the saved version"},
			&cli.BoolFlag{Name: "theirs", Usage: "take the new default"},
			&cli.BoolFlag{Name: "edited", Usage: "take what is in live now, as you edited it"},
			&cli.BoolFlag{Name: "edit", Usage: "edit both versions in $EDITOR, and take the result"},
			&cli.BoolFlag{Name: "all", Usage: "settle all conflicts of the target"},
			&cli.BoolFlag{Name: "show-secrets", Usage: "show the contents of secrets too"},
		},
		Action: s.resolve,
	}
}

func (s *session) resolve(c *cli.Context) error {
	how, some, err := choice(c)
	switch {
	case err != nil:
		return err
	case c.Bool("list"):
		if some || c.Bool("all") {
			return usagef("--list lists; it settles nothing")
		}
		return s.listConflicts(c.Context, c.Args().Slice())
	case c.NArg() == 0:
		return usagef("which target? cfgd resolve --list lists the conflicts of all")
	case c.Bool("all") != (c.NArg() == 1):
		return usagef("name the paths, or say --all")
	}
	t, err := s.target(c.Args().First())
	if err != nil {
		return err
	}
	o := s.overlay(t)
	list, err := s.meant(c, o)
	if err != nil || len(list) == 0 {
		return err
	}
	switch {
	case !some:
		return s.showConflicts(c, t, o, list)
	case c.Bool("edit"):
		if len(list) != 1 {
			return usagef("--edit takes one path")
		}
		if how.Content, err = s.edited(c.Context, o, list[0]); err != nil {
			return fmt.Errorf("%s: %s: %w", t.Name, pathname.Quote(list[0].Path), err)
		}
	}
	return s.settle(c.Context, t, o, list, how)
}

// choice reads the flags. some reports whether there is a choice.
func choice(c *cli.Context) (how overlay.Choice, some bool, err error) {
	n := 0
	for _, f := range []struct {
		name string
		take config.OnConflict
	}{{"mine", config.ConflictMine}, {"theirs", config.ConflictTheirs}, {"edited", ""}, {"edit", ""}} {
		if c.Bool(f.name) {
			how.Take, n = f.take, n+1
		}
	}
	if n > 1 {
		return how, true, usagef("--mine, --theirs, --edited, --edit: one of them")
	}
	return how, n > 0, nil
}

// meant returns the conflicts of the paths on the command line and below them, or all conflicts.
func (s *session) meant(c *cli.Context, o *overlay.Overlay) ([]store.Conflict, error) {
	only, err := paths(c.Args().Tail())
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

func (s *session) settle(
	ctx context.Context, t *config.Target, o *overlay.Overlay, list []store.Conflict, how overlay.Choice,
) error {
	var names []string
	var changed []listed
	for _, x := range list {
		names = append(names, x.Path)
		changed = append(changed, listed{pathname.FromPath(x.Path), "resolved", "resolved", x.Path})
	}
	r, err := o.Resolve(ctx, names, how)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	for _, name := range names {
		s.madeOf(t, name)
	}
	return s.printSettled(t.Name, r.Generation, changed)
}

// madeOf tells which files are made from a file that changed, and how to make them again.
func (s *session) madeOf(t *config.Target, name string) {
	for _, p := range merge.Products {
		if p.Source == name && p.ByHand != "" {
			s.warn(t.Name, fmt.Sprintf("%s made of %s: run %s", strings.Join(p.Makes, " and "), name,
				p.Remedy(t.Live)))
		}
	}
}

// conflict is the JSON of an unresolved conflict.
type conflict struct {
	Target string `json:"target"`
	pathname.JSON
	Taken string `json:"taken"`
	From  string `json:"from"`
	To    string `json:"to"`
	Why   string `json:"why"`
}

func (s *session) listConflicts(ctx context.Context, names []string) error {
	targets, excluded := s.targets(names)
	if len(targets) == 0 && excluded != nil {
		return excluded
	}
	list := []conflict{}
	errs := make([]error, len(targets))
	for i, t := range targets {
		v, err := s.overlay(t).Look(ctx, overlay.LookOptions{})
		if errs[i] = err; err != nil {
			continue
		}
		for _, x := range v.Conflicts() {
			list = append(list, conflict{t.Name, pathname.FromPath(x.Path), string(x.Taken), x.From, x.To,
				x.Why})
		}
	}
	if err := s.printConflicts(list); err != nil {
		return err
	}
	return s.sum(targets, errs, excluded)
}

func (s *session) printConflicts(list []conflict) error {
	if s.json {
		return s.print(struct {
			Version   int        `json:"version"`
			Conflicts []conflict `json:"conflicts"`
		}{1, list})
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(s.out, "no conflicts")
		return err
	}
	w := newTable()
	w.row("TARGET", "PATH", "TAKEN", "FROM", "TO")
	for _, x := range list {
		name, _ := x.Name()
		w.row(x.Target, pathname.Quote(name), x.Taken, pathname.Plain(x.From), pathname.Plain(x.To))
		w.note(pathname.Plain(x.Why))
	}
	return w.print(s.out)
}

// showConflicts prints both versions of each conflict.
func (s *session) showConflicts(
	c *cli.Context, t *config.Target, o *overlay.Overlay, list []store.Conflict,
) error {
	for _, x := range list {
		if _, err := fmt.Fprintf(s.out, "# %s %s: %s; taken: %s\n", t.Name, pathname.Quote(x.Path),
			pathname.Plain(x.Why), x.Taken); err != nil {
			return err
		}
		if x.Text == nil || t.Classes.Secret(x.Path) && !c.Bool("show-secrets") {
			words := "# no text with both; cfgd diff shows live against the default"
			if x.Text != nil {
				words = "# contents not shown (secret); --show-secrets shows them"
			}
			if _, err := fmt.Fprintln(s.out, words); err != nil {
				return err
			}
			continue
		}
		b, err := o.ConflictText(c.Context, x.Path)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", t.Name, pathname.Quote(x.Path), err)
		}
		if _, err := s.out.Write(b); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(s.out, "# settle with cfgd resolve %s PATH --mine, --theirs, --edited or --edit\n",
		t.Name)
	return err
}

// errMarkers is the error for an edit that is not finished.
var errMarkers = errors.New("markers are left in the text: nothing resolved")

// edited lets the user edit the text with both versions.
func (s *session) edited(ctx context.Context, o *overlay.Overlay, x store.Conflict) ([]byte, error) {
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
	// the user's own program, on the user's terminal
	cmd := exec.CommandContext(ctx, words[0], append(words[1:], name)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, s.err
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w; nothing resolved, the text is in %s", words[0], err, name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if marked(b) {
		return nil, fmt.Errorf("%w; your edit is in %s", errMarkers, name)
	}
	return b, os.RemoveAll(dir)
}

// marked reports whether a line of the text is a marker of diff3.
func marked(text []byte) bool {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("<<<<<<< ")) || bytes.HasPrefix(line, []byte(">>>>>>> ")) {
			return true
		}
	}
	return false
}
