package merge

import (
	"slices"

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
