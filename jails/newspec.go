package jails

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cfgd/config"
	"cfgd/prototype"
)

// NewSpec describes a jail or prototype of that name, defined in the form of the machine's others.
func NewSpec(m *config.Model, name string) *Spec {
	return &Spec{
		Name: name, Hostname: strings.ReplaceAll(name, "_", "-"), Form: m.JailForm(),
		Listed: len(m.JailList) > 0, Embedded: m.Root != "",
	}
}

// ErrUnknownSnapshot reports that a prototype has no snapshot of that name.
var ErrUnknownSnapshot = errors.New("has no snapshot")

// PutOn puts the new jail on a snapshot of a prototype; "" is the newest one.
func (s *Spec) PutOn(
	ctx context.Context, p *config.Prototype, snaps prototype.Snapshots, snapshot string,
) error {
	all, err := snaps.List(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", p.Name, err)
	case len(all) == 0:
		return fmt.Errorf("%s has no snapshot: cfgd proto snapshot takes one", p.Name)
	}
	s.Prototype, s.Mark, s.Snapshot = p, snaps.Mark(), cmp.Or(snapshot, all[len(all)-1].Name)
	if z, ok := snaps.(prototype.ZFS); ok {
		s.Dataset = z.Dataset
	}
	if !slices.ContainsFunc(all, func(x prototype.Snapshot) bool { return x.Name == s.Snapshot }) {
		return fmt.Errorf("%s %w %q; cfgd proto list lists them", p.Name, ErrUnknownSnapshot, s.Snapshot)
	}
	return nil
}
