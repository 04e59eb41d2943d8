package merge

import (
	"context"
	"fmt"
	"slices"

	"cfgd/config"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// PriorBase is cfg as it was when it last was on the base that it returns to. What belonged to that base is
// restored. What was changed since is merged into it, by the same three-way merge in the other direction.
type PriorBase struct {
	then *store.Manifest // the last generation on that base
	// the generation after it, which the merge with another base made; later changes differ from it
	leaving *store.Manifest

	generation func(n int) (*store.Manifest, error)
}

// PriorBaseOf finds the generations that belong to a base. It returns nil if cfg was never on it, or they are
// no longer kept.
func PriorBaseOf(s *store.Store, baseID string) *PriorBase {
	if baseID == s.Manifest.BaseID {
		return nil
	}
	for _, n := range slices.Backward(s.Manifest.Merges) {
		then, err := s.Generation(n - 1)
		if err != nil || then.BaseID != baseID {
			continue // pruned or damaged: the base is merged like a new one
		}
		leaving, err := s.Generation(n)
		if err != nil {
			continue
		}
		return &PriorBase{then, leaving, s.Generation}
	}
	return nil
}

// state is what a generation has of a path: an override, a removal, or neither, which means the default.
type state struct {
	override *store.Override
	removal  *tree.Removal
}

func stateOf(m *store.Manifest, path string) state {
	o, _ := m.Override(path)
	r, _ := m.Removal(path)
	return state{o, r}
}

func (s state) isDefault() bool { return s.override == nil && s.removal == nil }

func (w *Merger) sameState(a, b state) bool {
	if a.override == nil || b.override == nil {
		return (a.override == nil) == (b.override == nil) && (a.removal == nil) == (b.removal == nil)
	}
	return w.same(&a.override.Entry, &b.override.Entry)
}

// mergedAway reports whether an override was dropped by a merge since, and not by a person.
func (p *PriorBase) mergedAway(path string, until *store.Manifest) bool {
	after := until
	for n := until.Generation - 1; n >= p.leaving.Generation; n-- {
		m, err := p.generation(n)
		if err != nil {
			return false
		}
		if !stateOf(m, path).isDefault() {
			return after.From != ""
		}
		after = m
	}
	return true // dropped by the merge that left the base
}

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
		u.conflict != nil && u.conflict.Taken == config.ConflictTheirs && w.isThen(u.conflict.Theirs, theirs):
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

func (w *Merger) isThen(e, theirs *tree.Entry) bool {
	return e != nil && theirs != nil && w.same(e, theirs)
}
