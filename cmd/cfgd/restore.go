package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"cfgd/internal/pathname"
	"cfgd/overlay"
)

func (s *session) restoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", ArgsUsage: "TARGET PATH…",
		Usage: "put paths of live back",
		Description: "" +
			"Puts a path back to what is saved, to the default of base, or to what generation N had. " +
			"A path that is put back to the default releases its override. A directory means " +
			"everything below it, and / the whole tree. What comes from base or from a generation is " +
			"saved as a new generation.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "`STATE`: saved, base, or a number", Value: "saved"},
			&cli.StringFlag{
				Name: "message", Aliases: []string{"m"}, Usage: "keep this `TEXT` with the generation",
			},
		},
		Action: s.restore,
	}
}

func (s *session) restore(c *cli.Context) error {
	if err := counted(c, 2, -1); err != nil {
		return err
	}
	from, err := overlay.ParseFrom(c.String("from"))
	if err != nil {
		return usageError{err}
	}
	only, err := paths(c.Args().Tail())
	if err != nil {
		return err
	}
	t, err := s.target(c.Args().First())
	if err != nil {
		return err
	}
	message := c.String("message")
	if message == "" {
		message = "restore --from " + c.String("from")
	}
	r, err := s.overlay(t).Restore(c.Context, from, only, message)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	return s.printRestored(t.Name, r, from != overlay.From{})
}

// printRestored prints what was put back. If it was saved, it prints the new generation too.
func (s *session) printRestored(target string, r *overlay.Restored, saved bool) error {
	released := map[string]bool{}
	for _, p := range r.Released {
		released[p] = true
	}
	for _, k := range r.Left {
		s.warn(target, fmt.Sprintf("%s is not all put back: %s", pathname.Quote(k.Path), k.Reason))
	}
	if s.json {
		list := []listed{}
		for _, c := range r.Changes {
			list = append(list, newListed(c.What.Letter(), c.Path))
		}
		return s.print(struct {
			Version    int      `json:"version"`
			Target     string   `json:"target"`
			Generation int      `json:"generation"`
			Changes    []listed `json:"changes"`
		}{1, target, r.Generation, list})
	}
	for _, c := range r.Changes {
		note := ""
		if released[c.Path] {
			note = " (override released)"
		}
		if _, err := fmt.Fprintf(s.out, "%s %s %s%s\n", target, c.What.Letter(), pathname.Quote(c.Path),
			note); err != nil {
			return err
		}
	}
	if len(r.Changes) == 0 {
		_, err := fmt.Fprintf(s.out, "%s nothing to put back\n", target)
		return err
	}
	if saved {
		_, err := fmt.Fprintf(s.out, "%s saved as generation %d\n", target, r.Generation)
		return err
	}
	return nil
}
