package merge

import (
	"fmt"
	"slices"

	"cfgd/config"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// PriorBase is cfg as it was when it last stood on the base that it returns to: what belongs to that base comes back, with what was
// changed since brought along, by the same three-way merge the other way round.
type PriorBase struct {
	then *store.Manifest // the last generation on that base
	left *store.Manifest // the one after it, which the merge with another base made: what was changed since differs from it

	generation func(n int) (*store.Manifest, error)
}

// PriorBaseOf finds the generations that belong to a base; nil where cfg was never on it, or where that is no longer kept.
func PriorBaseOf(s *store.Store, baseID string) *PriorBase {
	if baseID == s.Manifest.BaseID {
		return nil
	}
	for _, n := range slices.Backward(s.Manifest.Merges) {
		then, err := s.Generation(n - 1)
		if err != nil || then.BaseID != baseID {
			continue // dropped or damaged: it is merged like a base that is new
		}
		left, err := s.Generation(n)
		if err != nil {
			continue
		}
		return &PriorBase{then, left, s.Generation}
	}
	return nil
}

// state is what a generation has of a path: an override, a removal, or nothing, which is the default.
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

// mergedAway reports whether it was a merge that dropped an override since, and nobody's wish.
func (p *PriorBase) mergedAway(path string, until *store.Manifest) bool {
	after := until
	for n := until.Generation - 1; n >= p.left.Generation; n-- {
		m, err := p.generation(n)
		if err != nil {
			return false
		}
		if !stateOf(m, path).isDefault() {
			return after.From != ""
		}
		after = m
	}
	return true // the merge that left the base did it
}

// paired decides about a path of a base that cfg was on before.
func (w *Merger) paired(path string, def *tree.Entry) (*Outcome, error) {
	then, left, now := stateOf(w.Prior.then, path), stateOf(w.Prior.left, path), stateOf(w.Old, path)
	switch {
	case w.sameState(now, left), now.isDefault() && w.Prior.mergedAway(path, w.Old):
		return w.revert(path, then, now), nil
	case now.isDefault():
		return w.released(path, then), nil
	case now.removal != nil:
		if def == nil {
			return nil, nil
		}
		u := &Outcome{Path: path, Verdict: VerdictRemoved, removal: &tree.Removal{Path: path, MTime: now.removal.MTime, Default: def}}
		u.note("removed since; it stays removed")
		return u, nil
	}
	return w.since(path, def, then, left, now)
}

// revert brings back what belonged to the base.
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

// released leaves the default to a path of which somebody dropped the override since.
func (w *Merger) released(path string, then state) *Outcome {
	if then.isDefault() {
		return nil
	}
	u := &Outcome{Path: path, Verdict: VerdictEqual}
	u.note("put back to the default since")
	return u
}

// since merges what was changed since the base was left with what belongs to it.
func (w *Merger) since(path string, def *tree.Entry, then, left, now state) (*Outcome, error) {
	old, theirs := now.override.Default, def
	if left.override != nil {
		old = &left.override.Entry
	} else if left.removal != nil {
		old = nil
	}
	switch {
	case then.override != nil:
		theirs = &then.override.Entry
	case then.removal != nil:
		theirs = nil
	}
	u, err := w.three(path, Versions{old, &now.override.Entry, theirs}, &store.Override{Entry: now.override.Entry, Default: def}, w.Policy)
	if err != nil {
		return nil, err
	}
	switch {
	case u.Verdict == VerdictEqual, u.conflict != nil && u.conflict.Taken == config.ConflictTheirs && w.isThen(u.conflict.Theirs, theirs):
		u.Override, u.removal = then.override, then.removal
	case u.conflict == nil && u.Override != nil:
		u.Override = &store.Override{Entry: u.Override.Entry, Default: def}
		if def != nil && w.same(&u.Override.Entry, def) {
			w.equal(u, &u.Override.Entry, def)
		}
	}
	if u.Verdict == VerdictMerged {
		u.Notes = append(u.Notes, fmt.Sprintf("with what was changed since generation %d", w.Prior.then.Generation))
	}
	return u, nil
}

func (w *Merger) isThen(e, theirs *tree.Entry) bool {
	return e != nil && theirs != nil && w.same(e, theirs)
}
