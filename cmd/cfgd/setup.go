package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/setup"
)

func setupCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:  "setup",
		Usage: "add what rc.conf, jail.conf and fstab lack for cfgd",
		Description: "" +
			"Without --yes, only shows the lines: hooks of jails, a second exec_prestart0 that was " +
			"meant as exec_poststop0, noauto for /cfg, jail_list, cfgd_enable. What it writes is " +
			"saved to the host's cfg and recorded, and --remove takes out exactly that. Exit status 1 " +
			"if there is something to do.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Usage: "do it"},
			&cli.BoolFlag{Name: "remove", Usage: "take out what setup added"},
		},
		Action: s.action(runSetup),
	}
}

func runSetup(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	k := &setup.Setup{Model: m.Model, Reload: s.load}
	if c.Bool("remove") {
		return runSetupRemove(s, c, m, k)
	}
	steps := m.Missing()
	if len(steps) == 0 {
		return s.printf("nothing is missing\n")
	}
	if err := s.printf("%s", stepsText(steps)); err != nil {
		return err
	}
	if !c.Bool("yes") {
		if err := s.printf("nothing was done: cfgd setup --yes does it\n"); err != nil {
			return err
		}
		return errDiffer
	}
	files, err := k.Do(c.Context, steps)
	if err != nil {
		return fmt.Errorf("setup: %w; nothing was changed", err)
	}
	if err := saveFiles(c.Context, m.hostSaver(), files); err != nil {
		return err
	}
	return s.printf("done: %d edits; cfgd setup --remove takes them out; start the daemon with service "+
		"cfgd start\n", len(steps))
}

func stepsText(steps []config.Step) string {
	var b strings.Builder
	for _, st := range steps {
		where, sign := st.File, "+"
		if st.Line > 0 {
			where = fmt.Sprintf("%s:%d", st.File, st.Line)
		}
		if st.Old != "" {
			sign = pathname.Plain(st.Old) + " -> "
		}
		fmt.Fprintf(&b, "%s: %s\n  %s%s\n", where, pathname.Plain(st.Why), sign,
			pathname.Plain(strings.TrimSpace(st.New)))
	}
	return b.String()
}

func runSetupRemove(s *session, c *cli.Context, m *machine, k *setup.Setup) error {
	files, left, err := k.Remove(c.Context)
	if err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	for _, d := range left {
		s.warn("", fmt.Sprintf("%s: %q was changed since, and is left", d.File, d.New))
	}
	if len(files) == 0 {
		return s.printf("setup added nothing: nothing to take out\n")
	}
	if err := saveFiles(c.Context, m.hostSaver(), files); err != nil {
		return err
	}
	return s.printf("taken out of %s\n", strings.Join(files, ", "))
}

// saveFiles saves files of the host's etc to its cfg. save is nil if the host is no target.
func saveFiles(ctx context.Context, save func(context.Context, string) error, files []string) error {
	if save == nil {
		return nil
	}
	var errs []error
	for _, f := range files {
		if rel, ok := strings.CutPrefix(filepath.Clean(f), "/etc/"); ok {
			errs = append(errs, save(ctx, rel))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("written, and not saved to the host's cfg: %w", err)
	}
	return nil
}
