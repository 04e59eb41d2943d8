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
	c, _ := w.Cfg.ConflictAt(path)
	v := w.versions(Versions{Old: now.override.Default, Mine: &now.override.Entry, Theirs: def}, c)
	if leaving.override != nil { // what was saved, and no default
		v.Old, v.Names.Old = &leaving.override.Entry, generationName(w.Prior.leaving)
	} else if leaving.removal != nil {
		v.Old = nil
	}
	switch {
	case then.override != nil:
		v.Theirs, v.Names.Theirs = &then.override.Entry, generationName(w.Prior.then)
	case then.removal != nil:
		v.Theirs = nil
	}
	theirs := v.Theirs
	as := &store.Override{Entry: now.override.Entry, Default: def}
	u, err := w.mergeVersions(ctx, path, v, as, w.Policy)
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

// generationName is what markers call a version that an earlier generation had.
func generationName(m *store.Manifest) string {
	return fmt.Sprintf("generation %d, on %s", m.Generation, m.BaseID)
}

func (w *Merger) sameState(a, b state) bool {
	if a.override == nil || b.override == nil {
		return (a.override == nil) == (b.override == nil) && (a.removal == nil) == (b.removal == nil)
	}
	return w.same(&a.override.Entry, &b.override.Entry)
}
