package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/pathname"
	sysrun "cfgd/internal/run"
	"cfgd/jailhooks"
	"cfgd/jails"
	"cfgd/nano"
	"cfgd/prototype"
	"cfgd/report"
	"cfgd/watcher/control"
)

func reportCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "report", ArgsUsage: "[TARGET…]",
		Usage: "tell what needs attention: unsaved changes, conflicts, faults",
		Description: "" +
			"Prints each finding with the command that settles it, and what was saved since the last " +
			"report. If nothing changed since the last report, prints one line. If there are no " +
			"findings, prints nothing, but for one line once a week. Meant for periodic(8) and " +
			"cron(8). Exit status 1 if there are findings.",
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "mail", Usage: "send the report to `ADDR` by sendmail(8), if it is not empty",
			},
			&cli.BoolFlag{Name: "always", Usage: "tell all findings, new or not"},
			&cli.StringFlag{Name: "textfile", Usage: "write numbers to `FILE` for node_exporter"},
		},
		Action: s.action(runReport),
	}
}

func runReport(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	targets, excluded := m.choose(c.Args().Slice())
	if len(targets) == 0 && excluded != nil {
		return excluded
	}
	file := m.Path("/var/db/cfgd/report.json")
	state, err := report.ReadState(file)
	if err != nil {
		s.warn("", err.Error())
	}
	found := m.saver().Statuses(c.Context, targets)
	s.warnOf(targets, found)
	facts := collectFacts(c.Context, m, targets, found.List, state.Last)
	onDisk, err := unsettled(c.Context, s, m)
	if err != nil {
		facts.Failed = append(facts.Failed, err.Error())
	}
	facts.Trial, facts.Dead = onDisk.Trial, onDisk.Failed
	if x := onDisk.Broken; x != nil {
		facts.NextBoot = &report.NextBoot{Slice: x.Slice, Why: pathname.Plain(x.Why), Settle: x.Settle}
	}
	slices.Sort(facts.Failed)
	if excluded != nil {
		facts.Failed = append(facts.Failed, excluded.Error())
	}
	r := state.Compose(facts, c.Bool("always"))
	if err := deliverReport(s, c, facts, r); err != nil {
		return err
	}
	if c.NArg() == 0 { // a report of some targets does not know the others
		if err := r.After.Write(file); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	if len(r.Findings) > 0 {
		return errDiffer
	}
	return nil
}

// deliverReport prints or mails a report, and writes the text file of metrics.
func deliverReport(s *session, c *cli.Context, facts *report.Facts, r report.Report) error {
	if file := c.String("textfile"); file != "" {
		if err := report.Textfile(file, facts, r.Findings); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	to := c.String("mail")
	if s.json || to == "" {
		if err := s.print(struct {
			Version  int              `json:"version"`
			Host     string           `json:"host"`
			Findings []report.Finding `json:"findings"`
		}{1, facts.Host, append([]report.Finding{}, r.Findings...)},
			func(b *strings.Builder) { b.WriteString(r.Text) }); err != nil || to == "" {
			return err
		}
	}
	message, err := report.Message(to, facts.Host, facts.Now, r.Findings, r.Text)
	if err != nil {
		return usageError{err}
	}
	if r.Text == "" {
		return nil
	}
	if err := report.Send(c.Context, sysrun.System{}, message); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// collectFacts asks everything that a report may tell, but for the disk.
func collectFacts(
	ctx context.Context, m *machine, targets []*config.Target, statuses []control.Status, last time.Time,
) *report.Facts {
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	f := &report.Facts{Host: host, Now: time.Now(), Targets: make([]report.Target, len(targets))}
	archives, _ := jailhooks.Archives(m.Path(rescueDir))
	for _, a := range archives {
		f.Rescue = append(f.Rescue, report.Archive{Target: a.Target, Name: a.Name})
	}
	f.Journal, _ = jails.Interrupted(m.Model)
	asking, cancel := context.WithTimeout(ctx, control.Patience)
	_, err = m.client().Status(asking, false)
	cancel()
	switch {
	case errors.Is(err, control.ErrNoDaemon):
		f.Daemon = "none is running"
	case err != nil:
		f.Daemon = err.Error()
	}
	newest := newestSnapshots(ctx, m)
	errs := eachTarget(targets, func(i int, t *config.Target) (err error) {
		f.Targets[i], err = report.TargetOf(ctx, m.overlay(t), statuses[i], last)
		snap, _ := config.ParseSnapshot(t.Base)
		if p := m.PrototypeOf(t.Base); p != nil && prototype.Newer(newest[p], snap.Name) {
			f.Targets[i].Newer = pathname.Plain(newest[p])
		}
		return err
	})
	for i, err := range errs {
		if err != nil {
			f.Failed = append(f.Failed, fmt.Sprintf("%s: %v", targets[i].Name, err))
		}
	}
	return f
}

// unsettled returns what has to be settled on the disk of a NanoBSD host.
func unsettled(ctx context.Context, s *session, m *machine) (nano.Unsettled, error) {
	trials, err := hostTrials(ctx, m, s.warnMachine)
	if trials == nil || err != nil {
		return nano.Unsettled{}, err
	}
	return trials.Disk.Unsettled(ctx, trials)
}

// newestSnapshots returns the newest snapshot of each prototype. A prototype that can't be asked has none.
func newestSnapshots(ctx context.Context, m *machine) map[*config.Prototype]string {
	found := map[*config.Prototype]string{}
	for _, p := range m.Prototypes {
		snaps, err := m.snapshots(p)
		if err != nil {
			continue
		}
		list, err := snaps.List(ctx)
		if err != nil {
			continue
		}
		var names []string
		for _, x := range list {
			names = append(names, x.Name)
		}
		found[p] = prototype.Newest(names)
	}
	return found
}
