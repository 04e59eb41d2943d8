package merge

import (
	"context"
	"fmt"

	"cfgd/config"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// fromPrior decides about a path when cfg returns to a base.
func (w *Merger) fromPrior(ctx context.Context, path string, def *tree.Entry) (*Outcome, error) {
	then, leaving, now := stateOf(w.Prior.then, path), stateOf(w.Prior.leaving, path), stateOf(w.Cfg, path)
	switch {
	case w.sameState(now, leaving), now.isDefault() && w.Prior.mergedAway(path, w.Cfg):
		return w.revert(path, then, now), nil
	case now.isDefault():
		return w.released(path, then), nil
	case now.removal != nil:
		if def == nil {
			return nil, nil
		}
		u := &Outcome{
			Path:    path,
			Verdict: VerdictRemoved,
			removal: &tree.Removal{Path: path, MTime: now.removal.MTime, Default: def},
		}
		u.note("removed since; it stays removed")
		return u, nil
	}
	return w.mergeSince(ctx, path, def, then, leaving, now)
}

// revert restores what belonged to the base.
func (w *Merger) revert(path string, then, now state) *Outcome {
	u := &Outcome{Path: path, Verdict: VerdictKept, Override: then.override, removal: then.removal}
	if c, ok := w.Prior.then.ConflictAt(path); ok {
		u.conflict = c
		u.Verdict = VerdictConflict
		u.note("not resolved when this base was left: %s", c.Why)
		return u
	}
	switch {
	case w.sameState(then, now):
		if then.isDefault() {
			return nil
		}
	case then.isDefault():
		u.Verdict = VerdictEqual
	default:
		u.Verdict = VerdictMerged
		u.note("as it was on %s (generation %d)", w.Base.ID, w.Prior.then.Generation)
	}
	return u
}

// released keeps the default for a path whose override somebody dropped since.
func (w *Merger) released(path string, then state) *Outcome {
	if then.isDefault() {
		return nil
	}
	u := &Outcome{Path: path, Verdict: VerdictEqual}
	u.note("put back to the default since")
	return u
}

// mergeSince merges what was changed since the base was left with what belonged to it.
func (w *Merger) mergeSince(
	ctx context.Context, path string, def *tree.Entry, then, leaving, now state,
) (*Outcome, error) {
	old, theirs := now.override.Default, def
	if leaving.override != nil {
		old = &leaving.override.Entry
	} else if leaving.removal != nil {
		old = nil
	}
	switch {
	case then.override != nil:
		theirs = &then.override.Entry
	case then.removal != nil:
		theirs = nil
	}
	u, err := w.mergeVersions(ctx, path, Versions{old, &now.override.Entry, theirs},
		&store.Override{Entry: now.override.Entry, Default: def}, w.Policy)
	if err != nil {
		return nil, err
	}
	switch {
	case u.Verdict == VerdictEqual,
		theirs != nil && u.conflict != nil && u.conflict.Taken == config.ConflictTheirs &&
			w.same(u.conflict.Theirs, theirs):
		u.Override, u.removal = then.override, then.removal
	case u.conflict == nil && u.Override != nil:
		u.Override = &store.Override{Entry: u.Override.Entry, Default: def}
		if def != nil && w.same(&u.Override.Entry, def) {
			w.equal(u, &u.Override.Entry, def)
		}
	}
	if u.Verdict == VerdictMerged {
		u.Notes = append(u.Notes,
			fmt.Sprintf("with what was changed since generation %d", w.Prior.then.Generation))
	}
	return u, nil
}

func (w *Merger) sameState(a, b state) bool {
	if a.override == nil || b.override == nil {
		return (a.override == nil) == (b.override == nil) && (a.removal == nil) == (b.removal == nil)
	}
	return w.same(&a.override.Entry, &b.override.Entry)
}
