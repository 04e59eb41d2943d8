package report

import (
	"context"
	"errors"
	"time"

	"cfgd/config"
	"cfgd/overlay"
	"cfgd/watcher/control"
)

// TargetOf collects the facts of a target: from its status, from what a save would do now, and from the
// generations since the last report. It changes nothing. An error is a fact of its own, for Facts.Failed.
func TargetOf(ctx context.Context, o *overlay.Overlay, st control.Status, last time.Time) (Target, error) {
	x := Target{
		Name: st.Name, Populated: st.Populated, Held: st.Held, Unmerged: st.Unmerged, Base: st.Base,
		Next: st.NextBase, Room: st.Free,
	}
	if !st.Down {
		x.Trouble = st.Problem
	}
	if st.SavedAsOf != nil && st.Unsaved == 0 {
		x.Since = *st.SavedAsOf
	}
	r, err := o.Save(ctx, overlay.SaveOptions{DryRun: true})
	if err != nil && x.Trouble == "" && (!errors.Is(err, overlay.ErrNotPopulated) ||
		errors.Is(err, overlay.ErrEarlier)) {
		return x, err
	}
	if r != nil && r.View != nil {
		x.addUnsaved(r)
	}
	if log, err := o.History().Log(ctx); err == nil { // else there is no cfg yet, or it was reported above
		x.addSaves(log, last)
	}
	return x, nil
}

// addUnsaved adds what a save would do: the paths that it would save, and those that it would not.
func (t *Target) addUnsaved(r *overlay.Result) {
	excluded := map[string]bool{}
	for _, k := range r.Kept {
		if k.Class == config.Report { // anything else that is kept back could not be read, and is unsaved
			excluded[k.Path] = true
			t.NotSaved = append(t.NotSaved, k.Path)
		}
	}
	for _, p := range r.Pending {
		excluded[p] = true
	}
	for _, ch := range r.View.Visible(r.View.Unsaved) {
		if !excluded[ch.Path] && r.View.NotPopulated == nil {
			t.Unsaved = append(t.Unsaved, ch.Path)
		}
	}
	t.Conflicts = r.Conflicts
	for _, cf := range r.View.Conflicts() {
		t.Unresolved = append(t.Unresolved, cf.Path)
	}
}

// addSaves adds what was saved after last, unless that is zero.
func (t *Target) addSaves(log []overlay.LogEntry, last time.Time) {
	for _, g := range log {
		if g.Damaged != nil || !g.Time.After(last) || last.IsZero() {
			continue
		}
		if g.Time.After(t.Since) {
			t.Since = g.Time
		}
		for _, ch := range g.Changes {
			t.Saves = append(t.Saves, Save{Path: ch.Path, Time: g.Time})
		}
	}
}
