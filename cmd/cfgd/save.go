package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/overlay"
	"cfgd/watcher/control"
)

func (s *session) saveCommand() *cli.Command {
	return &cli.Command{
		Name: "save", ArgsUsage: "[TARGET [PATH…]]",
		Usage: "write unsaved changes to cfg now",
		Description: "" +
			"Prints one letter and one path for each saved change: A added, M modified, D deleted, T " +
			"of another type, P other permissions, R put back to its default and released. If it ends " +
			"with 0, everything that it printed is on stable storage.\n\n" +
			"A save is held if it would drop most of the overrides or most of the defaults. A path is " +
			"held if somebody changed it in cfg by hand, and it is changed in live too. --force saves " +
			"both.",
		Flags: []cli.Flag{
			&cli.BoolFlag{
				Name: "dry-run", Aliases: []string{"n"}, Usage: "print what would be saved, and save nothing",
			},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "save also what is held"},
			&cli.StringFlag{
				Name: "message", Aliases: []string{"m"}, Usage: "keep this `TEXT` with the generation",
			},
		},
		Action: s.save,
	}
}

// saved is the JSON of what a save did to one target.
type saved struct {
	Name       string   `json:"name"`
	Generation int      `json:"generation"`
	Changes    []listed `json:"changes"`
	Conflicts  []listed `json:"conflicts"`
}

// listed is a path and what was done with it.
type listed struct {
	pathname.JSON
	Change string `json:"change,omitempty"`
	letter string
	path   string
}

func (s *session) save(c *cli.Context) error {
	var names []string
	if c.NArg() > 0 {
		names = []string{c.Args().First()}
	}
	only, err := paths(c.Args().Tail())
	if err != nil {
		return err
	}
	targets, excluded := s.targets(names)
	if len(targets) == 0 && excluded != nil {
		return excluded
	}
	so := overlay.SaveOptions{
		Paths: only, Force: c.Bool("force"), Message: c.String("message"), DryRun: c.Bool("dry-run"),
		Times: true,
	}
	var mu sync.Mutex // guards done
	done := map[string]saved{}
	err = s.each(targets, excluded, func(t *config.Target) error {
		r, err := s.saveTarget(c.Context, t, so, len(names) > 0)
		if err != nil {
			return err
		}
		mu.Lock()
		done[t.Name] = r
		mu.Unlock()
		if len(r.Conflicts) > 0 {
			return conflicts(t.Name, r.Conflicts)
		}
		return s.unsavable(c.Context, t, only)
	})
	var list []saved
	for _, t := range targets {
		if r, ok := done[t.Name]; ok {
			list = append(list, r)
		}
	}
	if perr := s.printSaved(list, so.DryRun); perr != nil {
		return perr
	}
	return err
}

func conflicts(target string, paths []listed) error {
	var names []string
	for _, p := range paths {
		names = append(names, pathname.Quote(p.path))
	}
	return fmt.Errorf("%s: changed in cfg by hand and in live: left as they are; cfgd diff --unsaved %s "+
		"shows them, cfgd save --force %s PATH keeps live's, cfgd restore %s PATH takes cfg's",
		strings.Join(names, ", "), target, target, target)
}

// unsavable tells which of the named paths do not exist, and which are never saved. Without it the save would
// look successful.
func (s *session) unsavable(ctx context.Context, t *config.Target, only []string) error {
	if len(only) == 0 {
		return nil
	}
	r, err := s.overlay(t).Save(ctx, overlay.SaveOptions{Paths: only, DryRun: true})
	if err != nil {
		return err
	}
	why := map[string]string{}
	for _, k := range r.Kept {
		why[k.Path] = string(k.Reason)
	}
	for _, p := range only {
		class, reason := t.Classes.Of(p)
		switch {
		case why[p] != "":
			err = errors.Join(err, fmt.Errorf("%s is not saved: %s", pathname.Quote(p), why[p]))
		case class == config.Volatile || class == config.Ignore:
			err = errors.Join(err, fmt.Errorf("%s is not saved: class %s: %s", pathname.Quote(p), class,
				reason))
		case !known(r.View, p):
			err = errors.Join(err, usagef("%s: neither in base nor in cfg nor in live", pathname.Quote(p)))
		}
	}
	return err
}

// saver saves through the daemon, or directly if there is none.
func (s *session) saver() control.Saver { return control.Saver{Client: s.client(), Overlay: s.overlay} }

// saveTarget saves a target. A jail that is down is a failure only if the command line names it.
func (s *session) saveTarget(
	ctx context.Context, t *config.Target, so overlay.SaveOptions, named bool,
) (saved, error) {
	r, err := s.saver().Save(ctx, t, so)
	s.notices(t.Name, r.Notices)
	out := saved{Name: t.Name, Generation: r.Generation, Changes: []listed{}, Conflicts: []listed{}}
	for _, c := range r.Changes {
		out.Changes = append(out.Changes, newListed(c.Letter, c.Path))
	}
	for _, path := range r.Conflicts {
		out.Conflicts = append(out.Conflicts, newListed("", path))
	}
	return out, s.unlessDown(err, named)
}

// unlessDown drops the error that a jail is down, unless the command line names the jail.
func (s *session) unlessDown(err error, named bool) error {
	if errors.Is(err, overlay.ErrNotPopulated) && !errors.Is(err, overlay.ErrEarlier) && !named {
		return nil
	}
	return err
}

// notices prints what was found and repaired in a store.
func (s *session) notices(target string, words []string) {
	for _, w := range words {
		s.warn(target, w)
	}
}

var changeWords = map[string]string{"A": "added", "M": "modified", "D": "deleted", "T": "type", "P": "mode",
	"R": "released",
}

func newListed(letter, path string) listed {
	return listed{pathname.FromPath(path), changeWords[letter], letter, path}
}

func (s *session) printSaved(list []saved, dry bool) error {
	if s.json {
		return s.print(struct {
			Version int     `json:"version"`
			DryRun  bool    `json:"dryRun"`
			Targets []saved `json:"targets"`
		}{1, dry, append([]saved{}, list...)})
	}
	for _, r := range list {
		for _, c := range r.Changes {
			if _, err := fmt.Fprintf(s.out, "%s %s %s\n", r.Name, c.letter,
				pathname.Quote(c.path)); err != nil {
				return err
			}
		}
		words := fmt.Sprintf("saved as generation %d", r.Generation)
		switch {
		case len(r.Changes) == 0:
			continue
		case dry:
			words = "not saved: --dry-run"
		}
		if _, err := fmt.Fprintf(s.out, "%s %s\n", r.Name, words); err != nil {
			return err
		}
	}
	return nil
}
