package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay"
)

func planCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "plan", ArgsUsage: "TARGET BASE",
		Usage: "show how saved files would merge with other defaults",
		Description: "" +
			"BASE is a snapshot of the prototype by its name (2) or by its id (proto/etc@2), or a " +
			"directory. Unsaved changes count as saved. Nothing is written. Exit status 1 if there " +
			"are conflicts.\n\n" +
			"Prints one line for each override and each removal whose default is another one on BASE. " +
			"Merged: both changes are brought together. Equal: the override equals the new default, " +
			"and is released. Gone: there is no default any more, and the override stays. Removed: " +
			"the removal stays. Conflict: both changed, and differently. Both: each added the path, " +
			"and differently.",
		Flags:  []cli.Flag{allFlag()},
		Action: s.action(runPlan),
	}
}

func allFlag() cli.Flag {
	return &cli.BoolFlag{Name: "all", Usage: "list also the paths whose default is the same"}
}

func runPlan(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	t, err := m.find(c.Args().First())
	if err != nil {
		return err
	}
	base, err := overlay.BaseNamed(t, c.Args().Get(1))
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", t.Name, err)}
	}
	return planOn(s, c, m.planning(t), base)
}

// planOn prints the result of a merge with a base.
func planOn(s *session, c *cli.Context, o *overlay.Overlay, base overlay.BaseRef) error {
	r, err := o.PlanMerge(c.Context, base)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Target.Name, err)
	}
	if err := s.print(newMergePlan(o.Target.Name, r), func(b *strings.Builder) {
		printMerge(b, o.Target.Name, r, c.Bool("all"))
	}); err != nil {
		return err
	}
	if r.Conflicts() > 0 {
		return errDiffer
	}
	return nil
}

// listedOutcome is the JSON of what a merge does with one path.
type listedOutcome struct {
	pathname.JSON
	Outcome string   `json:"outcome"`
	Notes   []string `json:"notes,omitempty"`
}

// mergePlan is the JSON of a merge.
type mergePlan struct {
	Version   int             `json:"version"`
	Target    string          `json:"target"`
	From      string          `json:"from"`
	To        string          `json:"to"`
	Outcomes  []listedOutcome `json:"outcomes"`
	Conflicts int             `json:"conflicts"`
	Commands  []string        `json:"commands,omitempty"`
}

func newMergePlan(target string, m *merge.Result) mergePlan {
	p := mergePlan{1, target, m.From, m.To, []listedOutcome{}, m.Conflicts(), m.Commands}
	for _, u := range m.Outcomes {
		p.Outcomes = append(p.Outcomes, listedOutcome{pathname.FromPath(u.Path), string(u.Verdict), u.Notes})
	}
	return p
}

// printMerge prints a merge; if all is set, the paths too whose default is the same.
func printMerge(b *strings.Builder, target string, m *merge.Result, all bool) {
	fmt.Fprintf(b, "%s %s\n", target, mergeLine(m))
	w := newTable()
	for _, u := range m.Outcomes {
		if all || u.Verdict != merge.VerdictKept || len(u.Notes) > 0 {
			w.row("  "+string(u.Verdict), pathname.Quote(u.Path), pathname.Plain(strings.Join(u.Notes, "; ")))
		}
	}
	for _, c := range m.Commands {
		w.row("  runs", c)
	}
	w.print(b)
}

// mergeLine summarizes a merge.
func mergeLine(m *merge.Result) string {
	count := map[merge.Verdict]int{}
	for _, u := range m.Outcomes {
		count[u.Verdict]++
	}
	if len(m.Outcomes) == 0 {
		return fmt.Sprintf("to %s: no overrides", pathname.Plain(m.To))
	}
	line := fmt.Sprintf("from %s to %s:", pathname.Plain(m.From), pathname.Plain(m.To))
	sep := " "
	for _, v := range []merge.Verdict{merge.VerdictKept, merge.VerdictMerged, merge.VerdictEqual,
		merge.VerdictGone, merge.VerdictRemoved, merge.VerdictConflict, merge.VerdictBoth} {
		if count[v] > 0 {
			line += fmt.Sprintf("%s%d %s", sep, count[v], v)
			sep = ", "
		}
	}
	if m.RevertsTo > 0 {
		line += fmt.Sprintf("; what belonged to %s comes back from generation %d", pathname.Plain(m.To),
			m.RevertsTo)
	}
	return line
}
