package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/overlay"
	"cfgd/watcher/control"
)

func saveCommand(s *session) *cli.Command {
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
		Action: s.action(runSave),
	}
}

// savedTarget is the JSON of what a save did to one target.
type savedTarget struct {
	Name       string         `json:"name"`
	Generation int            `json:"generation"`
	Changes    []listedChange `json:"changes"`
	Conflicts  []listedChange `json:"conflicts"`
}

// newSavedTarget turns a result of a save into its JSON.
func newSavedTarget(t *config.Target, r control.Saved) savedTarget {
	out := savedTarget{
		Name: t.Name, Generation: r.Generation, Changes: []listedChange{}, Conflicts: []listedChange{},
	}
	for _, c := range r.Changes {
		out.Changes = append(out.Changes, newListedChange(c.Letter, c.Path))
	}
	for _, path := range r.Conflicts {
		out.Conflicts = append(out.Conflicts, newListedChange("", path))
	}
	return out
}

func runSave(s *session, c *cli.Context) error {
	only, err := pathArgs(c.Args().Tail())
	if err != nil {
		return err
	}
	m, err := s.machine()
	if err != nil {
		return err
	}
	targets, excluded := m.choose(c.Args().Slice()[:min(c.NArg(), 1)])
	if len(targets) == 0 && excluded != nil {
		return excluded
	}
	so := overlay.SaveOptions{
		Paths: only, Force: c.Bool("force"), Message: c.String("message"), DryRun: c.Bool("dry-run"),
		Times: true,
	}
	results := make([]*savedTarget, len(targets))
	errs := eachTarget(targets, func(i int, t *config.Target) (err error) {
		results[i], err = saveTarget(c.Context, s, m, t, so, c.NArg() > 0)
		return err
	})
	failed := s.sum(targets, errs, excluded)
	list := []savedTarget{}
	for _, r := range results {
		if r != nil {
			list = append(list, *r)
		}
	}
	if err := s.print(struct {
		Version int           `json:"version"`
		DryRun  bool          `json:"dryRun"`
		Targets []savedTarget `json:"targets"`
	}{1, so.DryRun, list}, func(b *strings.Builder) { printSaved(b, list, so.DryRun) }); err != nil {
		return err
	}
	return failed
}

// saveTarget saves one target. A jail that is down is a failure only if the command line names it. There
// may be a result beside an error: the rest is saved.
func saveTarget(
	ctx context.Context, s *session, m *machine, t *config.Target, so overlay.SaveOptions, named bool,
) (*savedTarget, error) {
	r, err := m.saver().Save(ctx, t, so)
	s.warn(t.Name, r.Notices...)
	if err != nil && (named || !onlyDown(err)) {
		return nil, err
	}
	done := newSavedTarget(t, r)
	if len(r.Conflicts) > 0 {
		return &done, conflictError(t.Name, r.Conflicts)
	}
	return &done, unsavable(ctx, m.overlay(t), so.Paths)
}

func conflictError(target string, paths []string) error {
	var names []string
	for _, p := range paths {
		names = append(names, pathname.Quote(p))
	}
	return fmt.Errorf("%s: changed in cfg by hand and in live: left as they are; cfgd diff --unsaved %s "+
		"shows them, cfgd save --force %s PATH keeps live's, cfgd restore %s PATH takes cfg's",
		strings.Join(names, ", "), target, target, target)
}

// unsavable is Overlay.Unsavable. A path that is nowhere is an error of the command line.
func unsavable(ctx context.Context, o *overlay.Overlay, only []string) error {
	err := o.Unsavable(ctx, only)
	if errors.Is(err, overlay.ErrUnknownPath) {
		return usageError{err}
	}
	return err
}

// onlyDown reports whether the only reason that nothing was saved is that the jail is down.
func onlyDown(err error) bool {
	return errors.Is(err, overlay.ErrNotPopulated) && !errors.Is(err, overlay.ErrEarlier)
}

// saveBefore saves a jail that another command is about to work on. One that is down has nothing to save.
func saveBefore(ctx context.Context, s *session, m *machine, t *config.Target) error {
	r, err := m.saver().Save(ctx, t, overlay.SaveOptions{})
	s.warn(t.Name, r.Notices...)
	if onlyDown(err) {
		return nil
	}
	return err
}

func printSaved(b *strings.Builder, list []savedTarget, dry bool) {
	for _, r := range list {
		printChanges(b, r.Name, r.Changes)
		switch {
		case len(r.Changes) == 0:
		case dry:
			fmt.Fprintf(b, "%s not saved: --dry-run\n", r.Name)
		default:
			fmt.Fprintf(b, "%s saved as generation %d\n", r.Name, r.Generation)
		}
	}
}
