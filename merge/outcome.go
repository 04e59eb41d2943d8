package merge

import (
	"fmt"
	"slices"

	"cfgd/internal/dirfd"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Verdict is the result of a merge for one override or removal, in the words of --json.
type Verdict string

// The verdicts.
const (
	VerdictKept     Verdict = "kept"     // the default did not change
	VerdictMerged   Verdict = "merged"   // both changed, and were merged
	VerdictEqual    Verdict = "equal"    // equals the new default: the override goes, unless it is pinned
	VerdictConflict Verdict = "conflict" // both changed, differently
	VerdictGone     Verdict = "gone"     // the default is gone, the override stays
	VerdictRemoved  Verdict = "removed"  // the default changed, the removal stays
	VerdictBoth     Verdict = "both"     // both added it, differently: a conflict too
)

// Outcome is what a merge does with one path.
type Outcome struct {
	Path    string
	Verdict Verdict
	Notes   []string // what a reader should know, without secrets; empty if there is nothing to tell

	Override *store.Override // what cfg holds afterwards, nil for nothing
	removal  *tree.Removal
	conflict *store.Conflict
}

// Clash reports whether the outcome is a conflict.
func (u *Outcome) Clash() bool { return u.Verdict == VerdictConflict || u.Verdict == VerdictBoth }

func (u *Outcome) note(format string, args ...any) {
	u.Notes = append(u.Notes, fmt.Sprintf(format, args...))
}

// Result is what a merge makes of a generation of cfg on another base. It is a value; computing it writes
// nothing.
type Result struct {
	From, To   string // base ids
	Generation int    // the generation that was merged
	// RevertsTo is the last generation on the new base, to which the merge reverts; 0 if cfg was never on it.
	RevertsTo int
	Outcomes  []Outcome
	Commands  []string // programs that make databases of merged files

	Next *store.Manifest
	Made map[tree.Digest][]byte // contents that the merge made
}

// Conflicts counts the outcomes that are conflicts.
func (m *Result) Conflicts() int {
	n := 0
	for i := range m.Outcomes {
		if m.Outcomes[i].conflict != nil {
			n++
		}
	}
	return n
}

// Merged lists the files whose contents were merged.
func (m *Result) Merged() []string {
	var paths []string
	for i := range m.Outcomes {
		u := &m.Outcomes[i]
		if u.Verdict == VerdictMerged && u.Override != nil && u.Override.Kind == dirfd.KindFile {
			paths = append(paths, u.Path)
		}
	}
	return paths
}

// at returns the outcome of a path, nil if there is none.
func (m *Result) at(path string) *Outcome {
	i := slices.IndexFunc(m.Outcomes, func(u Outcome) bool { return u.Path == path })
	if i < 0 {
		return nil
	}
	return &m.Outcomes[i]
}
