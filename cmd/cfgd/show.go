package main

import (
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay"
	"cfgd/overlay/tree"
)

func (s *session) showCommand() *cli.Command {
	return &cli.Command{
		Name: "show", ArgsUsage: "TARGET N [PATH]",
		Usage: "show what generation N changed, or a file as it was then",
		Description: "" +
			"Without PATH, prints the changes as cfgd diff does. With PATH, prints the content of " +
			"that file, or where that symbolic link points, in generation N.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "show-secrets", Usage: "show the contents of secrets too"}},
		Action: s.show,
	}
}

func (s *session) show(c *cli.Context) error {
	if err := counted(c, 2, 3); err != nil {
		return err
	}
	n, err := strconv.Atoi(c.Args().Get(1))
	if err != nil || n < 1 {
		return usagef("%s: not the number of a generation; cfgd log %s lists them", c.Args().Get(1),
			c.Args().First())
	}
	only, err := paths(c.Args().Slice()[2:])
	if err != nil {
		return err
	}
	t, err := s.target(c.Args().First())
	if err != nil {
		return err
	}
	o, secrets := s.overlay(t), c.Bool("show-secrets")
	if len(only) == 1 {
		return s.showFile(c, t, o, n, only[0], secrets)
	}
	all, err := o.Log(c.Context)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	for _, g := range all {
		if g.Generation == n {
			return s.showGeneration(c, t, o, g, secrets)
		}
	}
	return notKept(t.Name, n)
}

func notKept(target string, n int) error {
	return fmt.Errorf("%s: generation %d is not kept; cfgd log %s lists those that are", target, n, target)
}

func (s *session) showFile(
	c *cli.Context, t *config.Target, o *overlay.Overlay, n int, path string, secrets bool,
) error {
	if t.Classes.Secret(path) && !secrets {
		return fmt.Errorf("%s: %s is a secret; --show-secrets shows it", t.Name, pathname.Quote(path))
	}
	e, b, err := o.Show(c.Context, n, path)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", t.Name, err)
	case e == nil:
		return fmt.Errorf("%s: %s was not there in generation %d", t.Name, pathname.Quote(path), n)
	case e.Kind == dirfd.KindDir:
		return fmt.Errorf("%s: %s was a directory in generation %d", t.Name, pathname.Quote(path), n)
	case e.Kind == dirfd.KindSymlink:
		b = append(b, '\n')
	}
	_, err = s.out.Write(b)
	return err
}

func (s *session) showGeneration(
	c *cli.Context, t *config.Target, o *overlay.Overlay, g overlay.Generation, secrets bool,
) error {
	if s.json {
		return s.print(struct {
			Version int    `json:"version"`
			Target  string `json:"target"`
			generation
		}{1, t.Name, newGeneration(g, nil)})
	}
	if _, err := fmt.Fprintf(s.out, "#%s\n", logLine(g, changesBelow(g, nil))); err != nil {
		return err
	}
	for _, ch := range changesBelow(g, nil) {
		if err := s.showChange(c, t, o, ch, secrets); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) showChange(
	c *cli.Context, t *config.Target, o *overlay.Overlay, ch overlay.GenerationChange, secrets bool,
) error {
	m := merge.Change{Target: t.Name, Path: ch.Path, Secret: !secrets && t.Classes.Secret(ch.Path)}
	if ch.Note != "" {
		m.Notes = []string{ch.Note}
	}
	read := func(e *tree.Entry, _ string) ([]byte, error) { return o.Content(c.Context, e) }
	var err error
	if m.Old, err = side(ch.Old, "before", m.Secret, read); err != nil {
		m.Old.Omitted = "no longer kept"
	}
	if m.New, err = side(ch.New, "after", m.Secret, read); err != nil {
		m.New.Omitted = "no longer kept"
	}
	return merge.Write(s.out, m, 3)
}
