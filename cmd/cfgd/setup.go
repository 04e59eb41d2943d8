package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/internal/pathname"
	"cfgd/setup"
)

func (s *session) setupCommand() *cli.Command {
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
		Action: s.setup,
	}
}

func (s *session) setup(c *cli.Context) error {
	if err := counted(c, 0, 0); err != nil {
		return err
	}
	if _, err := s.model(); err != nil {
		return err
	}
	k := &setup.Setup{Model: s.loaded, Reload: s.load}
	if c.Bool("remove") {
		return s.setupRemove(c, k)
	}
	steps := k.Plan()
	if len(steps) == 0 {
		_, err := fmt.Fprintln(s.out, "nothing is missing")
		return err
	}
	for _, st := range steps {
		if err := s.printStep(st); err != nil {
			return err
		}
	}
	if !c.Bool("yes") {
		if _, err := fmt.Fprintln(s.out, "nothing was done: cfgd setup --yes does it"); err != nil {
			return err
		}
		return errDiffer
	}
	files, err := k.Do(c.Context, steps)
	if err != nil {
		return fmt.Errorf("setup: %w; nothing was changed", err)
	}
	if err := s.saveFiles(c, files); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "done: %d edits; cfgd setup --remove takes them out; start the daemon "+
		"with service cfgd start\n", len(steps))
	return err
}

func (s *session) printStep(st setup.Step) error {
	where, sign := st.File, "+"
	if st.Line > 0 {
		where = fmt.Sprintf("%s:%d", st.File, st.Line)
	}
	if st.Old != "" {
		sign = pathname.Plain(st.Old) + " -> "
	}
	_, err := fmt.Fprintf(s.out, "%s: %s\n  %s%s\n", where, pathname.Plain(st.Why), sign,
		pathname.Plain(strings.TrimSpace(st.New)))
	return err
}

func (s *session) setupRemove(c *cli.Context, k *setup.Setup) error {
	files, left, err := k.Remove(c.Context)
	if err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	for _, d := range left {
		s.warn("", fmt.Sprintf("%s: %q was changed since, and is left", d.File, d.New))
	}
	if len(files) == 0 {
		_, err := fmt.Fprintln(s.out, "setup added nothing: nothing to take out")
		return err
	}
	if err := s.saveFiles(c, files); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "taken out of %s\n", strings.Join(files, ", "))
	return err
}

// saveFiles saves files of the host's etc to its cfg, if the host is a target.
func (s *session) saveFiles(c *cli.Context, files []string) error {
	save := s.hostSaver()
	if save == nil {
		return nil
	}
	var errs []error
	for _, f := range files {
		if rel, ok := strings.CutPrefix(filepath.Clean(f), "/etc/"); ok {
			errs = append(errs, save(c.Context, rel))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("written, and not saved to the host's cfg: %w", err)
	}
	return nil
}
