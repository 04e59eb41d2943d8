package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/jails"
	"cfgd/merge"
)

func switchCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "switch", ArgsUsage: "NAME…|ALL SNAPSHOT",
		Usage: "put jails on another snapshot of their prototype",
		Description: "" +
			"Changes the snapshot's name in all of the jail's fstabs, in those lines and nowhere else, and " +
			"saves the fstabs to the host's cfg. Refuses, before it changes anything, if the jail also " +
			"mounts a snapshot by what cfgd does not edit: a mount parameter of jail.conf, or an fstab of " +
			"several jails. The switch takes effect when the jail starts. With " +
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
		Action: s.action(runSwitch),
	}
}

func jailRollbackCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "rollback", ArgsUsage: "NAME",
		Usage: "put a jail back on the snapshot that it had before",
		Description: "" +
			"Does the same as a switch to that snapshot. The overrides that belonged to it come back, " +
			"with the changes made since.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "plan", Usage: "show what would be done, and do nothing"},
			&cli.BoolFlag{Name: "restart", Usage: "restart the jail, and check that it came up"},
			allFlag(),
		},
		Action: s.action(runJailRollback),
	}
}

func runSwitch(s *session, c *cli.Context) error {
	if c.Int("parallel") < 1 {
		return usagef("--parallel %d: at least one jail at a time", c.Int("parallel"))
	}
	names := c.Args().Slice()
	to := names[len(names)-1]
	if to == "" || strings.ContainsAny(to, "/@ \t\n") || to == "." || to == ".." {
		return usagef("%q: not a snapshot's name", to)
	}
	m, err := s.machine()
	if err != nil {
		return err
	}
	targets, err := m.jails(names[:len(names)-1])
	if err != nil {
		return err
	}
	return switchJails(s, c, targets, to, names[0] == everyJail)
}

func runJailRollback(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	targets, err := m.jails(c.Args().Slice())
	if err != nil {
		return err
	}
	t := targets[0]
	before, err := m.overlay(t).History().Before(c.Context)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	_, name, ok := strings.Cut(before, "@")
	if !ok {
		return fmt.Errorf("%s: no snapshot before this one is known: cfgd log %s shows the merges; name "+
			"one with cfgd jail switch", t.Name, t.Name)
	}
	return switchJails(s, c, targets, name, false)
}

// switchJails switches jails, or prints with --plan what it would do. If all is set, it leaves out the jails
// that are on the snapshot already.
func switchJails(s *session, c *cli.Context, targets []*config.Target, to string, all bool) error {
	if !c.Bool("plan") {
		if err := recoverSwitches(c.Context, s); err != nil {
			return err
		}
	}
	w := s.loaded.switcher()
	plans, err := w.PlanAll(c.Context, targets, to, c.Bool("restart"), all)
	switch {
	case err != nil:
		return err
	case c.Bool("plan"):
		return reportPlans(s, c, w, plans)
	case len(plans) == 0:
		return s.printf("all jails are on that snapshot already\n")
	}
	var mu sync.Mutex // guards what is printed
	errs := w.DoAll(c.Context, plans, jails.Rollout{
		Parallel: c.Int("parallel"), KeepGoing: c.Bool("keep-going"),
		Done: func(p *jails.Switch) error {
			mu.Lock()
			defer mu.Unlock()
			return s.printf("%s %s\n", p.Target.Name, switchedText(p))
		},
	})
	targets = nil
	for i, p := range plans {
		targets = append(targets, p.Target)
		if errors.Is(errs[i], jails.ErrNotStarted) {
			s.warn(p.Target.Name, "not switched: one before it failed (--keep-going goes on)")
			errs[i] = nil
		}
	}
	return s.sum(targets, errs, c.Context.Err())
}

func switchedText(p *jails.Switch) string {
	words := fmt.Sprintf("switched from %s to %s", strings.Join(p.From, " and "), p.To)
	switch {
	case p.Restart:
		return words + ", restarted, and it is up"
	case p.Already():
		return "is on " + p.To + " already"
	}
	return words + "; it takes effect at the next start: service jail restart " + p.Target.Name
}

// recoverSwitches finishes or undoes switches that were interrupted.
func recoverSwitches(ctx context.Context, s *session) error {
	all, err := s.loaded.switcher().Recover(ctx)
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
		if _, err := s.reload(); err != nil {
			return err
		}
	}
	return errors.Join(err, failed)
}

// switchPlan is the JSON of a switch's plan.
type switchPlan struct {
	mergePlan
	Snapshot string `json:"snapshot"`
	fstabDiff
	More  []fstabDiff `json:"more,omitempty"` // of a jail with several fstabs, the others
	Runs  []string    `json:"runs"`
	merge *merge.Result
}

// fstabDiff is the change of one fstab.
type fstabDiff struct {
	Fstab string `json:"fstab"`
	Diff  string `json:"diff"`
}

func newSwitchPlan(w *jails.Switcher, p *jails.Switch) (switchPlan, error) {
	var diffs []fstabDiff
	for _, e := range p.Edits {
		d, err := merge.Unified(e.Old, e.New, 0)
		if err != nil {
			return switchPlan{}, err
		}
		diffs = append(diffs, fstabDiff{e.File, string(d)})
	}
	plan := switchPlan{
		newMergePlan(p.Target.Name, p.Merge), p.To, diffs[0], diffs[1:], []string{}, p.Merge,
	}
	if p.Restart {
		for _, cmd := range w.Jails.Plan(p.Target) {
			plan.Runs = append(plan.Runs, cmd.String())
		}
	}
	return plan, nil
}

// reportPlans prints what the switches would do. A conflict is a difference.
func reportPlans(s *session, c *cli.Context, w *jails.Switcher, plans []*jails.Switch) error {
	out := []switchPlan{}
	conflicts := 0
	for _, p := range plans {
		plan, err := newSwitchPlan(w, p)
		if err != nil {
			return err
		}
		out = append(out, plan)
		conflicts += plan.Conflicts
	}
	if err := s.print(struct {
		Version  int          `json:"version"`
		Switches []switchPlan `json:"switches"`
	}{1, out}, func(b *strings.Builder) {
		for _, plan := range out {
			printSwitch(b, plan, c.Bool("all"))
		}
	}); err != nil {
		return err
	}
	if conflicts > 0 {
		return errDiffer
	}
	return nil
}

func printSwitch(b *strings.Builder, plan switchPlan, all bool) {
	for _, d := range append([]fstabDiff{plan.fstabDiff}, plan.More...) {
		fmt.Fprintf(b, "%s %s\n%s", plan.Target, d.Fstab, d.Diff)
	}
	printMerge(b, plan.Target, plan.merge, all)
	for _, cmd := range plan.Runs {
		fmt.Fprintf(b, "  runs  %s\n", cmd)
	}
}
