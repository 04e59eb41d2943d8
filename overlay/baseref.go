package overlay

import (
	"fmt"
	"path"
	"strings"

	"cfgd/config"
)

// BaseNamed finds a base of a target by the name of a snapshot of its prototype, by a base id, or by a
// path. It does not check that the base exists.
func BaseNamed(t *config.Target, name string) (BaseRef, error) {
	if path.IsAbs(name) {
		snap, ok := config.ParseSnapshot(name)
		if !ok {
			return BaseRef{Path: path.Clean(name)}, nil
		}
		return BaseRef{Path: snap.String(), ID: snap.ID()}, nil
	}
	snap, ok := config.ParseSnapshot(t.Base)
	if !ok {
		return BaseRef{}, fmt.Errorf("base %s is no snapshot, so %s names no other of it: give a directory",
			t.Base, name)
	}
	if _, after, ok := strings.Cut(name, "@"); ok {
		if id := snap.At(after).ID(); id != name {
			return BaseRef{}, fmt.Errorf("%s is a base of another tree; the target's are as %s", name,
				snap.ID())
		}
		name = after
	}
	if name == "" || strings.Contains(name, "/") || name == "." || name == ".." {
		return BaseRef{}, fmt.Errorf("%q: not a snapshot's name", name)
	}
	snap = snap.At(name)
	return BaseRef{Path: snap.String(), ID: snap.ID()}, nil
}
