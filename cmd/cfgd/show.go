package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay"
	"cfgd/overlay/tree"
)

func showCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "show", ArgsUsage: "TARGET N [PATH]",
		Usage: "show what generation N changed, or a file as it was then",
		Description: "" +
			"Without PATH, prints the changes as cfgd diff does. With PATH, prints the content of " +
			"that file, or where that symbolic link points, in generation N.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "show-secrets", Usage: "show the contents of secrets too"}},
		Action: s.action(runShow),
	}
}

func runShow(s *session, c *cli.Context) error {
	n, err := strconv.Atoi(c.Args().Get(1))
	if err != nil || n < 1 {
		return usagef("%s: not the number of a generation; cfgd log %s lists them", c.Args().Get(1),
			c.Args().First())
	}
	only, err := pathArgs(c.Args().Slice()[2:])
	if err != nil {
		return err
	}
	o, err := s.overlay(c.Args().First())
	if err != nil {
		return err
	}
	secrets := c.Bool("show-secrets")
	if len(only) == 1 {
		return showFile(c.Context, s.out, o, n, only[0], secrets)
	}
	all, err := o.History().Log(c.Context)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Target.Name, err)
	}
	i := slices.IndexFunc(all, func(g overlay.LogEntry) bool { return g.Generation == n })
	if i < 0 {
		return fmt.Errorf("%s: generation %d is not kept; cfgd log %s lists those that are", o.Target.Name,
			n, o.Target.Name)
	}
	if s.json {
		return s.print(struct {
			Version int    `json:"version"`
			Target  string `json:"target"`
			listedGeneration
		}{1, o.Target.Name, newListedGeneration(all[i], nil)}, nil)
	}
	return showGeneration(c.Context, s.out, o, all[i], secrets)
}

func showFile(
	ctx context.Context, w io.Writer, o *overlay.Overlay, n int, path string, secrets bool,
) error {
	t := o.Target
	if t.Classes.Secret(path) && !secrets {
		return fmt.Errorf("%s: %s is a secret; --show-secrets shows it", t.Name, pathname.Quote(path))
	}
	e, b, err := o.History().Show(ctx, n, path)
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
	_, err = w.Write(b)
	return err
}

// showGeneration prints the changes of a generation. They may be long, and are written at once.
func showGeneration(
	ctx context.Context, w io.Writer, o *overlay.Overlay, g overlay.LogEntry, secrets bool,
) error {
	changes := changesBelow(g, nil)
	if _, err := fmt.Fprintf(w, "#%s\n", logLine(g, changes)); err != nil {
		return err
	}
	for _, ch := range changes {
		if err := merge.Write(w, generationChange(ctx, o, ch, secrets), 3); err != nil {
			return err
		}
	}
	return nil
}

// generationChange returns a change with both contents, as merge.Write prints it.
func generationChange(
	ctx context.Context, o *overlay.Overlay, ch overlay.GenerationChange, secrets bool,
) merge.Change {
	t := o.Target
	m := merge.Change{Target: t.Name, Path: ch.Path, Secret: !secrets && t.Classes.Secret(ch.Path)}
	if ch.Note != "" {
		m.Notes = []string{ch.Note}
	}
	read := func(e *tree.Entry, _ string) ([]byte, error) { return o.History().Content(ctx, e) }
	var err error
	if m.Old, err = merge.SideOf(ch.Old, "before", m.Secret, read); err != nil {
		m.Old.Omitted = "no longer kept"
	}
	if m.New, err = merge.SideOf(ch.New, "after", m.Secret, read); err != nil {
		m.New.Omitted = "no longer kept"
	}
	return m
}
