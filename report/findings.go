package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"cfgd/internal/pathname"
)

// Severity tells how bad a finding is.
type Severity string

// The severities: Problem is what would be lost or does not work, Notable is what somebody should look at.
const (
	Problem Severity = "problem"
	Notable Severity = "notable"
)

// Finding is one thing that needs attention.
type Finding struct {
	Severity Severity  `json:"severity"`
	Kind     string    `json:"kind"`
	Target   string    `json:"target,omitempty"` // "" for the machine
	Words    string    `json:"words"`
	Paths    []string  `json:"paths,omitempty"`
	Settle   string    `json:"settle"` // the command that settles it
	Since    time.Time `json:"since"`  // when a report first told of it
}

// key identifies a finding. The paths are not in it, so that Since stays the same while they change.
func (f *Finding) key() string { return f.Kind + "\x00" + f.Target }

// detail has everything that distinguishes a finding from the same finding of yesterday.
func (f *Finding) detail() string {
	return f.key() + "\x00" + f.Words + "\x00" + strings.Join(f.Paths, "\x00")
}

// Target is what is known about a target.
type Target struct {
	Name       string
	Populated  bool
	Trouble    string // why it can't be saved
	Held       bool
	Unsaved    []string
	Since      time.Time // up to when everything is saved; zero if that is not known
	Conflicts  []string  // changed by hand in cfg and in live
	Unresolved []string  // left by a merge
	Unmerged   string    // the base that cfg was made against, if it was not merged with the base of live
	Base       string
	Next       string // the base that the next start takes, if it is another one
	Newer      string // the name of a newer snapshot of its prototype
	NotSaved   []string
	Room       uint64 // bytes
	Saves      []Save // since the last report
}

// Save is a path that a generation changed, and when.
type Save struct {
	Path string
	Time time.Time
}

// Archive is a rescue archive of a target.
type Archive struct{ Target, Name string }

// Facts is what is known about the machine.
type Facts struct {
	Host    string
	Now     time.Time
	Targets []Target
	Daemon  string // why no daemon answers; "" if one does
	Rescue  []Archive
	Journal []string // jails of which a switch was interrupted
	Failed  []string // what could not be read, in words
	Trial   string   // the slice whose system is on trial
	Dead    []string // slices whose systems the loader could not start
	// NextBoot is the slice that boots next, if it cannot boot.
	NextBoot *NextBoot
}

// NextBoot is a slice that boots next and cannot boot.
type NextBoot struct{ Slice, Why, Settle string }

// The limits from which something is told.
const (
	churns  = 12        // saves of one path between two reports: once in two hours
	littleR = 128 << 10 // bytes of room in cfg
	paths   = 10        // named in one finding
)

// Findings computes the findings, in the order of the targets, the worst first.
func (f *Facts) Findings() []Finding {
	var all []Finding
	add := func(s Severity, kind, target, settle string, paths []string, format string, args ...any) {
		all = append(all, Finding{
			Severity: s, Kind: kind, Target: target, Words: fmt.Sprintf(format, args...), Paths: paths,
			Settle: settle,
		})
	}
	if f.Daemon != "" {
		add(Problem, "daemon", "", "service cfgd start", nil, "the daemon does not answer: %s", f.Daemon)
	}
	if f.Trial != "" {
		add(Problem, "trial", "", "cfgd nano confirm", nil,
			"the system on %s is on trial: unless it is confirmed the machine goes back to the one before",
			f.Trial)
	}
	if x := f.NextBoot; x != nil {
		add(Problem, "next boot", "", x.Settle, nil, "%s boots next, and cannot boot: %s", x.Slice, x.Why)
	}
	for _, name := range f.Dead {
		add(Problem, "slice", "", "cfgd nano status", nil,
			"the system on %s did not boot: the machine runs the other one", name)
	}
	for _, words := range f.Failed {
		add(Problem, "failed", "", "cfgd check", nil, "%s", words)
	}
	for _, r := range f.Rescue {
		add(Problem, "rescue", r.Target, "cfgd rescue restore "+r.Target+" "+r.Name, nil,
			"what a stop could not save is in %s", r.Name)
	}
	for _, j := range f.Journal {
		add(Problem, "switch", j, "cfgd jail switch --plan "+j+" SNAPSHOT", nil,
			"a switch to another snapshot was interrupted: the next one finishes or undoes it")
	}
	for i := range f.Targets {
		f.Targets[i].findings(add)
	}
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Target, b.Target),
			-strings.Compare(string(a.Severity), string(b.Severity)))
	})
	return all
}

func (t *Target) findings(
	add func(s Severity, kind, target, settle string, paths []string, format string, args ...any),
) {
	if t.Trouble != "" {
		settle := "cfgd status " + t.Name
		if t.Held {
			settle = "cfgd save --force " + t.Name
		}
		add(Problem, "trouble", t.Name, settle, nil, "%s", t.Trouble)
	}
	if len(t.Unsaved) > 0 {
		add(Problem, "unsaved", t.Name, "cfgd save "+t.Name, t.Unsaved, "a restart would lose %s",
			counted(len(t.Unsaved), "change"))
	}
	if len(t.Unresolved) > 0 {
		add(Notable, "unresolved", t.Name, "cfgd resolve --list "+t.Name, t.Unresolved, "a merge left %s",
			counted(len(t.Unresolved), "conflict"))
	}
	if len(t.Conflicts) > 0 {
		add(Notable, "conflict", t.Name, "cfgd diff --unsaved "+t.Name, t.Conflicts,
			"changed in cfg by hand and in live: %s", counted(len(t.Conflicts), "path"))
	}
	if t.Unmerged != "" {
		add(Notable, "unmerged", t.Name, "cfgd plan "+t.Name+" "+t.Base, nil,
			"its overrides were made against %s and are not merged with %s: they hide what changed",
			t.Unmerged, t.Base)
	}
	if t.Next != "" {
		add(Notable, "next", t.Name, "service jail restart "+t.Name, nil,
			"stands on %s; the next start takes %s", t.Base, t.Next)
	}
	if t.Newer != "" {
		add(Notable, "newer", t.Name, "cfgd jail switch --plan "+t.Name+" "+t.Newer, nil,
			"its prototype has snapshot %s; it is on %s", t.Newer, t.Base)
	}
	if len(t.NotSaved) > 0 {
		add(Notable, "notsaved", t.Name, "cfgd diff --unsaved --name-status "+t.Name, t.NotSaved,
			"not saved by their class or size: %s", counted(len(t.NotSaved), "path"))
	}
	if t.Populated && t.Room > 0 && t.Room < littleR {
		add(Problem, "room", t.Name, "cfgd log "+t.Name, nil,
			"%d KiB are left in cfg: saves are refused before it is full", t.Room>>10)
	}
	for _, p := range churning(t.Saves) {
		add(Notable, "churn "+p, t.Name,
			fmt.Sprintf("in cfgd.toml: [[path]] match = %q, class = \"volatile\"", p), nil,
			"%s is saved again and again", pathname.Quote(p))
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// times counts how often each path was saved.
func times(saves []Save) map[string]int {
	n := map[string]int{}
	for _, s := range saves {
		n[s.Path]++
	}
	return n
}

func churning(saves []Save) []string {
	var all []string
	for p, n := range times(saves) {
		if n >= churns {
			all = append(all, p)
		}
	}
	slices.Sort(all)
	return all
}
