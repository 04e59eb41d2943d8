package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/internal/pathname"
	"cfgd/overlay"
)

func restoreCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "restore", ArgsUsage: "TARGET PATH…",
		Usage: "put paths back to what is saved, or to the default",
		Description: "" +
			"Puts a path back to what is saved, to the default of base, or to what generation N had. " +
			"A path that is put back to the default releases its override. A directory means " +
			"everything below it, and / the whole tree. What comes from base or from a generation is " +
			"saved as a new generation. What is made of a path, such as passwd and pwd.db of " +
			"master.passwd, is made anew, or a warning gives the command.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "`STATE`: saved, base, or a number", Value: "saved"},
			&cli.StringFlag{
				Name: "message", Aliases: []string{"m"}, Usage: "keep this `TEXT` with the generation",
			},
		},
		Action: s.action(runRestore),
	}
}

func runRestore(s *session, c *cli.Context) error {
	from, err := overlay.ParseFrom(c.String("from"))
	if err != nil {
		return usageError{err}
	}
	only, err := pathArgs(c.Args().Tail())
	if err != nil {
		return err
	}
	o, err := s.overlay(c.Args().First())
	if err != nil {
		return err
	}
	message := c.String("message")
	if message == "" {
		message = "restore --from " + c.String("from")
	}
	r, err := o.Restore(c.Context, from, only, message)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Target.Name, err)
	}
	return reportRestored(s, o.Target.Name, r, from != overlay.From{})
}

// reportRestored prints what was put back. If it was saved, it prints the new generation too.
func reportRestored(s *session, target string, r *overlay.Restored, saved bool) error {
	for _, k := range r.Left {
		s.warn(target, fmt.Sprintf("%s is not all put back: %s", pathname.Quote(k.Path), k.Reason))
	}
	s.warn(target, r.Notices...)
	done := written{1, target, r.Generation, []listedChange{}}
	for _, c := range r.Changes {
		done.Changes = append(done.Changes, newListedChange(c.Kind.Letter(), c.Path))
	}
	return s.print(done, func(b *strings.Builder) { printRestored(b, done, r.Released, saved) })
}

func printRestored(b *strings.Builder, done written, released []string, saved bool) {
	for _, c := range done.Changes {
		note := ""
		if slices.Contains(released, c.path) {
			note = " (override released)"
		}
		fmt.Fprintf(b, "%s %s %s%s\n", done.Target, c.letter, pathname.Quote(c.path), note)
	}
	switch {
	case len(done.Changes) == 0:
		fmt.Fprintf(b, "%s nothing to put back\n", done.Target)
	case saved:
		fmt.Fprintf(b, "%s saved as generation %d\n", done.Target, done.Generation)
	}
}
