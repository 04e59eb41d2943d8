package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/hostfile"
	"cfgd/internal/pathname"
	sysrun "cfgd/internal/run"
	"cfgd/jails"
	"cfgd/overlay"
	"cfgd/prototype"
	"cfgd/report"
	"cfgd/watcher/control"
)

func (s *session) reportCommand() *cli.Command {
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
		Action: s.report,
	}
}

func (s *session) report(c *cli.Context) error {
	targets, excluded := s.targets(c.Args().Slice())
	if len(targets) == 0 && excluded != nil {
		return excluded
	}
	file := s.loaded.Path("/var/db/cfgd/report.json")
	state, err := report.ReadState(file)
	if err != nil {
		s.warn("", err.Error())
	}
	facts := s.facts(c.Context, targets, state.Last)
	if excluded != nil {
		facts.Failed = append(facts.Failed, excluded.Error())
	}
	all, text, after := state.Compose(facts, c.Bool("always"))
	if err := s.tell(c, facts, all, text); err != nil {
		return err
	}
	if c.NArg() == 0 { // a report of some targets does not know the others
		if err := after.Write(file); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	if len(all) > 0 {
		return errDiffer
	}
	return nil
}

// tell prints or mails a report, and writes the text file of metrics.
func (s *session) tell(c *cli.Context, facts *report.Facts, all []report.Finding, text string) error {
	if file := c.String("textfile"); file != "" {
		if err := report.Textfile(file, facts, all); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	if s.json {
		if err := s.print(struct {
			Version  int              `json:"version"`
			Host     string           `json:"host"`
			Findings []report.Finding `json:"findings"`
		}{1, facts.Host, append([]report.Finding{}, all...)}); err != nil {
			return err
		}
	}
	to := c.String("mail")
	switch {
	case to != "":
		message, err := report.Message(to, facts.Host, facts.Now, all, text)
		if err != nil {
			return usageError{err}
		}
		if text == "" {
			return nil
		}
		if err := report.Send(c.Context, sysrun.System{}, message); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	case !s.json:
		_, err := fmt.Fprint(s.out, text)
		return err
	}
	return nil
}

// facts collects everything that a report may tell.
func (s *session) facts(ctx context.Context, targets []*config.Target, last time.Time) *report.Facts {
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	f := &report.Facts{Host: host, Now: time.Now(), Rescue: s.archives(), Journal: s.interrupted()}
	asking, cancel := context.WithTimeout(ctx, patience)
	_, err = s.client().Status(asking, false)
	cancel()
	if err != nil && !errors.Is(err, control.ErrNoDaemon) {
		f.Daemon = err.Error()
	} else if err != nil {
		f.Daemon = "none is running"
	}
	f.Trial, f.Dead, err = s.systems(ctx)
	if err != nil {
		f.Failed = append(f.Failed, err.Error())
	}
	list := s.statuses(ctx, targets)
	newest := s.newest(ctx)
	f.Targets = make([]report.Target, len(targets))
	var mu sync.Mutex                                       // guards f.Failed
	_ = s.each(targets, nil, func(t *config.Target) error { // there is no error: a fault is a finding
		i := slices.Index(targets, t)
		x, err := s.targetFacts(ctx, t, list[i], last)
		if err != nil {
			mu.Lock()
			f.Failed = append(f.Failed, fmt.Sprintf("%s: %v", t.Name, err))
			mu.Unlock()
		}
		x.Newer = newer(t, newest)
		f.Targets[i] = x
		return nil
	})
	slices.Sort(f.Failed)
	return f
}

func (s *session) targetFacts(
	ctx context.Context, t *config.Target, st control.Status, last time.Time,
) (report.Target, error) {
	x := report.Target{
		Name: t.Name, Populated: st.Populated, Held: st.Held, Unmerged: st.Unmerged, Base: st.Base,
		Next: st.NextBase, Room: st.Free,
	}
	if !st.Down {
		x.Trouble = st.Problem
	}
	if st.SavedAsOf != nil && st.Unsaved == 0 {
		x.Since = *st.SavedAsOf
	}
	o := s.overlay(t)
	r, err := o.Save(ctx, overlay.SaveOptions{DryRun: true})
	if err != nil && x.Trouble == "" && (!errors.Is(err, overlay.ErrNotPopulated) ||
		errors.Is(err, overlay.ErrEarlier)) {
		return x, err
	}
	if r != nil && r.View != nil {
		unsavedFacts(&x, r)
	}
	generations, err := o.Log(ctx)
	if err != nil {
		return x, nil // there is no cfg yet, or it was reported above
	}
	for _, g := range generations {
		if g.Damaged != nil || !g.Time.After(last) || last.IsZero() {
			continue
		}
		x.Since = later(x.Since, g.Time)
		for _, ch := range g.Changes {
			x.Saves = append(x.Saves, report.Save{Path: ch.Path, Time: g.Time})
		}
	}
	return x, nil
}

// unsavedFacts adds what a save would do: the paths that it would save, and those that it would not.
func unsavedFacts(x *report.Target, r *overlay.Result) {
	excluded := map[string]bool{}
	for _, k := range r.Kept {
		if k.Class == config.Report { // anything else that is kept back could not be read, and is unsaved
			excluded[k.Path] = true
			x.NotSaved = append(x.NotSaved, k.Path)
		}
	}
	for _, p := range r.Pending {
		excluded[p] = true
	}
	for _, ch := range r.View.Visible(r.View.Unsaved) {
		if !excluded[ch.Path] && r.View.NotPopulated == nil {
			x.Unsaved = append(x.Unsaved, ch.Path)
		}
	}
	x.Conflicts = r.Conflicts
	for _, cf := range r.View.Conflicts() {
		x.Unresolved = append(x.Unresolved, cf.Path)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// archives returns the names of the rescue archives.
func (s *session) archives() []string {
	names, _ := hostfile.Names(s.loaded.Path(rescueDir), ".tar")
	return names
}

// interrupted returns the jails for which a switch left a journal.
func (s *session) interrupted() []string {
	names, _ := jails.Interrupted(s.loaded)
	return names
}

// newest returns the newest snapshot of each prototype. A prototype that can't be asked has none.
func (s *session) newest(ctx context.Context) map[*config.Prototype]string {
	found := map[*config.Prototype]string{}
	for _, p := range s.loaded.Prototypes {
		snaps, err := s.snapshots(p)
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
		found[p] = newestNumbered(names)
	}
	return found
}

// newer returns the newest snapshot of a jail's prototype if it is newer than the jail's, else "".
func newer(t *config.Target, newest map[*config.Prototype]string) string {
	snap, ok := config.ParseSnapshot(t.Base)
	if !ok || !(prototype.Snapshot{Name: snap.Name}).Numbered() {
		return ""
	}
	for p, name := range newest {
		if p.Has(snap) && name != "" && (len(name) > len(snap.Name) ||
			len(name) == len(snap.Name) && name > snap.Name) {
			return pathname.Plain(name)
		}
	}
	return ""
}
