package control

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"cfgd/config"
	"cfgd/overlay"
	"cfgd/overlay/store"
)

// Status is what is known of a target, in the form of the command line's JSON.
type Status struct {
	Name       string `json:"name"`
	Base       string `json:"base"`
	NextBase   string `json:"nextBase,omitempty"` // the base of the next start, if it differs
	Generation int    `json:"generation"`
	Populated  bool   `json:"populated"`
	Watched    bool   `json:"watched"`
	// when the last full scan began that found everything saved on stable storage; null if none did
	SavedAsOf *time.Time `json:"savedAsOf"`
	Local     int        `json:"local"`
	Unsaved   int        `json:"unsaved"`
	// changed by hand both in cfg and in live, or left by a merge
	Conflicts  int `json:"conflicts"`
	Unresolved int `json:"unresolved,omitempty"` // of these, left by a merge
	// the base that cfg was made against, if it is another one and was not merged
	Unmerged string `json:"unmerged,omitempty"`
	// changed by hand in cfg; the next start takes them into live
	Pending int `json:"pending,omitempty"`
	// kqueue on FreeBSD, fsnotify on Linux, or scan with its period
	Watch   string `json:"watch,omitempty"`
	Problem string `json:"problem,omitempty"` // why the target is not saved, in words
	// the only problem is that the jail does not run
	Down bool `json:"down,omitempty"`
	Held bool `json:"held,omitempty"` // a save was held until save --force
	// paths that are reported and not saved by their class
	NotSaved int    `json:"notSaved,omitempty"`
	Free     uint64 `json:"room"` // bytes left in cfg's filesystem
}

// Describe returns the status of a target from the result of a save, or of a dry run, that was done
// without a daemon.
func Describe(t *config.Target, r *overlay.Result, err error) Status {
	s := Status{Name: t.Name, Base: t.BaseID}
	s.Fill(r, err, true)
	return s
}

// Fill updates a status from the result of a scan. whole means that the scan was a full one. If err
// leaves a value unknown, the value stays as it was.
func (s *Status) Fill(r *overlay.Result, err error, whole bool) {
	s.Problem, s.Held, s.Down = problem(err), errors.Is(err, store.ErrHeld), down(err)
	if errors.Is(err, overlay.ErrNotPopulated) {
		s.Populated, s.Unsaved = false, 0
	}
	if r == nil || r.View == nil {
		return
	}
	v := r.View
	s.Base, s.Generation, s.Free = v.Base.ID, r.Generation, v.Free
	s.Populated = v.NotPopulated == nil
	s.Unresolved, s.Unmerged = len(v.Conflicts()), v.Unmerged()
	s.Conflicts, s.Pending = len(r.Conflicts)+s.Unresolved, len(r.Pending)
	s.NotSaved = len(leftOut(r)) - len(r.Pending)
	if !s.Populated {
		s.Local, s.Unsaved = len(v.Visible(v.Stored)), 0
		return
	}
	s.Local, s.Unsaved = len(v.Visible(v.Local)), unsaved(r)
	if err == nil && whole && s.Unsaved == 0 && len(r.Unsettled) == 0 {
		at := v.Time.UTC()
		s.SavedAsOf = &at
	}
}

// down reports whether the only problem is that there is no live tree. A tree of an earlier start is
// another problem: somebody has to decide.
func down(err error) bool {
	return errors.Is(err, overlay.ErrNotPopulated) && !errors.Is(err, overlay.ErrEarlier)
}

// unsaved counts the paths that a restart would lose, derived files too. It leaves out what is not saved
// by class or size, and what the restart is meant to bring.
func unsaved(r *overlay.Result) int {
	left, n := leftOut(r), 0
	for _, c := range r.View.Visible(r.View.Unsaved) {
		if !left[c.Path] {
			n++
		}
	}
	for _, c := range r.View.Unsaved {
		if !left[c.Path] && r.View.Class(c.Path) == config.Derived {
			n++
		}
	}
	return n
}

func leftOut(r *overlay.Result) map[string]bool {
	left := map[string]bool{}
	for _, k := range r.Kept {
		if k.Class == config.Report {
			left[k.Path] = true
		}
	}
	for _, p := range r.Pending {
		left[p] = true
	}
	return left
}

// problem returns an error in the words of status: what it is, and what to do.
func problem(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, fs.ErrNotExist) && !errors.Is(err, overlay.ErrNotPopulated):
		return err.Error() + " (is it mounted?)"
	}
	return err.Error()
}

// Notes returns the lines that status prints below its table, except the problem. Each says what is wrong
// and what to do.
func (s Status) Notes() []string {
	var out []string
	if s.NextBase != "" {
		out = append(out, fmt.Sprintf("stands on %s; the next start takes %s", s.Base, s.NextBase))
	}
	if s.Unmerged != "" {
		out = append(out,
			fmt.Sprintf("cfg was made against %s and is not merged with %s: what changed between them is "+
				"hidden by the saved files", s.Unmerged, s.Base))
	}
	if n := s.Conflicts - s.Unresolved; n > 0 {
		out = append(out,
			fmt.Sprintf("changed in cfg by hand and in live, and left as they are: %d; cfgd diff --unsaved "+
				"%s shows them", n, s.Name))
	}
	if s.Unresolved > 0 {
		out = append(out, fmt.Sprintf("conflicts that a merge left: %d; cfgd resolve --list %s lists them",
			s.Unresolved, s.Name))
	}
	if s.Pending > 0 {
		out = append(out,
			fmt.Sprintf("changed in cfg by hand: %d; the next start takes them, and cfgd restore %s PATH now",
				s.Pending, s.Name))
	}
	if s.NotSaved > 0 {
		out = append(out,
			fmt.Sprintf("not saved by their class or size: %d; cfgd diff --unsaved --name-status %s lists "+
				"them", s.NotSaved, s.Name))
	}
	return out
}
