package overlay

import (
	"context"

	"cfgd/internal/dirfd"
)

// hiding lists the overrides whose default is not the one that they were made against.
func (s *Store) hiding() ([]string, error) {
	if !s.outdated() {
		return nil, nil
	}
	var out []string
	for i := range s.Manifest.Overrides {
		m := &s.Manifest.Overrides[i]
		now, err := s.base.entry(m.Path)
		if err != nil {
			return nil, err
		}
		if m.Kind == dirfd.KindDir && now != nil && now.Kind == dirfd.KindDir {
			continue
		}
		if _, differs := compare2(m.Default, now, false); differs {
			out = append(out, m.Path)
		}
	}
	return out, nil
}

// takeHeld says that live has taken all of cfg.
func (s *Store) takeHeld(ctx context.Context) error {
	if len(s.Manifest.Held) == 0 || s.ReadOnly {
		return nil
	}
	m := *s.Manifest
	m.Held = nil
	return s.install(ctx, nil, &m)
}
