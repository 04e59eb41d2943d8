package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	sysrun "cfgd/internal/run"
	"cfgd/jails"
	"cfgd/merge"
	"cfgd/overlay"
)

// everyJail is the word for all targets that are jails.
const everyJail = "ALL"

func (s *session) switchCommand() *cli.Command {
	return &cli.Command{
		Name: "switch", ArgsUsage: "NAME…|ALL SNAPSHOT",
		Usage: "put jails on another snapshot of their prototype",
		Description: "" +
			"Changes the snapshot's name in the jail's fstab, in those lines and nowhere else, and " +
			"saves the fstab to the host's cfg. The switch takes effect when the jail starts. With " +
			"--restart, a running jail is restarted now; if it does not come up well, it goes back by " +
			"itself.\n\n" +
			"All jails are planned before the first one is changed. ALL leaves out the jails that are " +
			"on the snapshot already. A switch that was interrupted is finished or undone first.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "plan", Usage: "show the edits, the merges and the commands; do nothing"},
			&cli.BoolFlag{Name: "restart", Usage: "restart the jail, and check that it came up"},
			&cli.BoolFlag{Name: "keep-going", Usage: "go on with the next jail if one fails"},
			&cli.IntFlag{Name: "parallel", Usage: "switch `N` jails at the same time", Value: 1},
			allFlag(),
		},
		Action: s.jailSwitch,
	}
}

func (s *session) jailRollbackCommand() *cli.Command {
	return &cli.Command{
		Name: "rollback", ArgsUsage: "NAME",
		Usage: "put a jail back on the snapshot before",
		Description: "" +
			"Does the same as a switch to that snapshot. The overrides that belonged to it come back, " +
			"with the changes made since.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "plan", Usage: "show what would be done, and do nothing"},
			&cli.BoolFlag{Name: "restart", Usage: "restart the jail, and check that it came up"},
			allFlag(),
		},
		Action: s.jailRollback,
	}
}

func (s *session) jailSwitch(c *cli.Context) error {
	if err := counted(c, 2, -1); err != nil {
		return err
	}
	if c.Int("parallel") < 1 {
		return usagef("--parallel %d: at least one jail at a time", c.Int("parallel"))
	}
	names := c.Args().Slice()
	to := names[len(names)-1]
	if to == "" || strings.ContainsAny(to, "/@ \t\n") || to == "." || to == ".." {
		return usagef("%q: not a snapshot's name", to)
	}
	targets, err := s.jailsNamed(names[:len(names)-1])
	if err != nil {
		return err
	}
	return s.switchAll(c, targets, to, names[0] == everyJail)
}

// jailsNamed returns the named targets, which must be jails.
func (s *session) jailsNamed(names []string) ([]*config.Target, error) {
	if len(names) == 1 && names[0] == everyJail {
		all, err := s.targets(nil)
		if err != nil {
			return nil, err
		}
		var targets []*config.Target
		for _, t := range all {
			if !t.Host() {
				targets = append(targets, t)
			}
		}
		return targets, nil
	}
	var targets []*config.Target
	for _, n := range names {
		t, err := s.target(n)
		switch {
		case err != nil:
			return nil, err
		case t.Host():
			return nil, usagef("the host is no jail: cfgd nano switches its images")
		}
		targets = append(targets, t)
	}
	return targets, nil
}

func (s *session) jailRollback(c *cli.Context) error {
	if err := counted(c, 1, 1); err != nil {
		return err
	}
	targets, err := s.jailsNamed(c.Args().Slice())
	if err != nil {
		return err
	}
	t := targets[0]
	before, err := s.overlay(t).Before(c.Context)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	_, name, ok := strings.Cut(before, "@")
	if !ok {
		return fmt.Errorf("%s: no snapshot before this one is known: cfgd log %s shows the merges; name "+
			"one with cfgd jail switch", t.Name, t.Name)
	}
	return s.switchAll(c, targets, name, false)
}

func (s *session) switcher() *jails.Switcher {
	return &jails.Switcher{Model: s.loaded, Reload: s.load, Jails: s.jails(), Now: time.Now,
		SaveHost: s.hostSaver(),
		Overlay: func(m *config.Model, t *config.Target) *overlay.Overlay {
			o := s.overlay(t)
			o.Tools = s.tools(t, true)
			return o
		}}
}

func (s *session) jails() jails.Jails {
	if s.loaded.Root != "" {
		return jails.Embedded{Hooks: s.hooks}
	}
	return jails.Service{Run: sysrun.System{Limit: 5 * time.Minute}}
}

// hostSaver returns the function that saves a file of the host's /etc; nil if the host is no target.
func (s *session) hostSaver() func(context.Context, string) error {
	host := s.loaded.Target(config.HostName)
	if host == nil {
		return nil
	}
	return s.saver().Files(host)
}

// switchAll plans every jail first, and then switches them.
func (s *session) switchAll(c *cli.Context, targets []*config.Target, to string, all bool) error {
	if !c.Bool("plan") {
		if err := s.recoverSwitches(c.Context); err != nil {
			return err
		}
	}
	w := s.switcher()
	var plans []*jails.Switch
	conflicts := false
	for _, t := range targets {
		p, err := w.Plan(c.Context, t, to, c.Bool("restart"))
		if err != nil {
			return fmt.Errorf("%s: %w; nothing was switched", t.Name, err)
		}
		if p.Already() && all {
			continue
		}
		conflicts = conflicts || p.Merge.Conflicts() > 0
		plans = append(plans, p)
	}
	if c.Bool("plan") {
		if err := s.printSwitches(c, w, plans); err != nil {
			return err
		}
		if conflicts {
			return errDiffer
		}
		return nil
	}
	return s.doSwitches(c, w, plans)
}

// doSwitches carries out plans, --parallel of them at the same time. After a failure it starts no other one,
// unless --keep-going is set.
func (s *session) doSwitches(c *cli.Context, w *jails.Switcher, plans []*jails.Switch) error {
	if len(plans) == 0 {
		_, err := fmt.Fprintln(s.out, "all jails are on that snapshot already")
		return err
	}
	var mu sync.Mutex // guards errs, next and failed, and what is printed
	errs := make([]error, len(plans))
	next, failed := 0, false
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(plans) || failed && !c.Bool("keep-going") || c.Context.Err() != nil {
			return 0, false
		}
		next++
		return next - 1, true
	}
	var wg sync.WaitGroup
	for range min(max(c.Int("parallel"), 1), len(plans)) {
		wg.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				err := w.Do(c.Context, plans[i])
				mu.Lock()
				if err == nil {
					err = s.printSwitched(plans[i])
				}
				errs[i], failed = err, failed || err != nil
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	var targets []*config.Target
	for i, p := range plans {
		targets = append(targets, p.Target)
		if i >= next {
			s.warn(p.Target.Name, "not switched: one before it failed (--keep-going goes on)")
		}
	}
	return s.sum(targets, errs, c.Context.Err())
}

func (s *session) printSwitched(p *jails.Switch) error {
	words := fmt.Sprintf("switched from %s to %s", strings.Join(p.From, " and "), p.To)
	switch {
	case p.Restart:
		words += ", restarted, and it is up"
	case p.Already():
		words = "is on " + p.To + " already"
	default:
		words += "; it takes effect at the next start: service jail restart " + p.Target.Name
	}
	_, err := fmt.Fprintf(s.out, "%s %s\n", p.Target.Name, words)
	return err
}

// recoverSwitches finishes or undoes switches that were interrupted.
func (s *session) recoverSwitches(ctx context.Context) error {
	all, err := s.switcher().Recover(ctx)
	var failed error
	for _, r := range all {
		switch {
		case r.Err != nil:
			failed = errors.Join(failed,
				fmt.Errorf("%s: an earlier switch to %s was interrupted: %w", r.Jail, r.To, r.Err))
		case r.Finished:
			s.warn(r.Jail, fmt.Sprintf("an earlier switch to %s was interrupted: finished now", r.To))
		default:
			s.warn(r.Jail, fmt.Sprintf("an earlier switch to %s was interrupted before it changed "+
				"anything: dropped", r.To))
		}
	}
	if len(all) > 0 { // fstabs may have changed
		s.loaded = nil
		if _, err := s.model(); err != nil {
			return err
		}
	}
	return errors.Join(err, failed)
}

// switchPlan is the JSON of a switch's plan.
type switchPlan struct {
	planned
	Snapshot string   `json:"snapshot"`
	Fstab    string   `json:"fstab"`
	Diff     string   `json:"diff"`
	Runs     []string `json:"runs"`
}

func (s *session) printSwitches(c *cli.Context, w *jails.Switcher, plans []*jails.Switch) error {
	out := []switchPlan{}
	for _, p := range plans {
		d, err := merge.Unified(p.Old, p.New, 0)
		if err != nil {
			return err
		}
		plan := switchPlan{newPlanned(p.Target.Name, p.Merge), p.To, p.Target.Fstab, string(d), []string{}}
		if p.Restart {
			for _, cmd := range w.Jails.Plan(p.Target) {
				plan.Runs = append(plan.Runs, cmd.String())
			}
		}
		out = append(out, plan)
		if s.json {
			continue
		}
		if err := s.printSwitch(c, p, plan); err != nil {
			return err
		}
	}
	if !s.json {
		return nil
	}
	return s.print(struct {
		Version  int          `json:"version"`
		Switches []switchPlan `json:"switches"`
	}{1, out})
}

func (s *session) printSwitch(c *cli.Context, p *jails.Switch, plan switchPlan) error {
	if _, err := fmt.Fprintf(s.out, "%s %s\n%s", p.Target.Name, p.Target.Fstab, plan.Diff); err != nil {
		return err
	}
	if err := s.printMerge(p.Target.Name, p.Merge, c.Bool("all")); err != nil {
		return err
	}
	for _, cmd := range plan.Runs {
		if _, err := fmt.Fprintf(s.out, "  runs  %s\n", cmd); err != nil {
			return err
		}
	}
	return nil
}
