package store

import (
	"context"

	"cfgd/internal/dirfd"
)

// Hiding lists the overrides that hide a changed default: the one in base is not the one they were made
// against.
func (s *Store) Hiding() ([]string, error) {
	if !s.Outdated() {
		return nil, nil
	}
	var out []string
	for i := range s.Manifest.Overrides {
		m := &s.Manifest.Overrides[i]
		now, err := s.Base.Entry(m.Path)
		if err != nil {
			return nil, err
		}
		if m.Kind == dirfd.KindDir && now != nil && now.Kind == dirfd.KindDir {
			continue
		}
		if _, differs := Compare(m.Default, now, false); differs {
			out = append(out, m.Path)
		}
	}
	return out, nil
}

// TakeHeld records that live has taken all of cfg.
func (s *Store) TakeHeld(ctx context.Context) error {
	if len(s.Manifest.Held) == 0 || s.ReadOnly {
		return nil
	}
	m := *s.Manifest
	m.Held = nil
	return s.Install(ctx, nil, &m)
}
