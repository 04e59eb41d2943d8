package store

import (
	"errors"
	"fmt"
	"slices"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// ErrHeld says that a save was held, because it would drop most of what there is.
var ErrHeld = errors.New("held")

// fewest is the number of paths that must go before the guard counts shares. Who removes one file of two
// means it.
const fewest = 3

// Guard holds a plan that would drop most of the overrides or remove most of the defaults. A live tree that
// is unmounted, half built or damaged looks like that.
func Guard(base, live *tree.Tree, old *Manifest, p *Plan) error {
	overrides, dropped := 0, 0
	for i := range old.Overrides {
		if old.Overrides[i].Kind != dirfd.KindDir {
			overrides++
		}
	}
	for _, path := range p.Drops {
		if o, ok := old.Override(path); ok && o.Kind != dirfd.KindDir {
			dropped++
		}
	}
	if dropped >= fewest && 2*dropped > overrides {
		return fmt.Errorf("%w: it would drop %d of %d overrides", ErrHeld, dropped, overrides)
	}
	if defaults, removed := defaultsGone(base, old, p.Next); removed >= fewest && 2*removed > defaults {
		return fmt.Errorf("%w: it would remove %d of %d defaults", ErrHeld, removed, defaults)
	}
	if len(live.Entries) == 0 && len(p.Changes) > 0 {
		return fmt.Errorf("%w: the live tree is empty", ErrHeld)
	}
	return nil
}

// defaultsGone counts the defaults that the old manifest leaves in the saved tree, and how many of them the
// new one removes.
func defaultsGone(base *tree.Tree, old, next *Manifest) (defaults, removed int) {
	if !slices.ContainsFunc(
		next.Removals,
		func(r tree.Removal) bool { _, was := old.Removal(r.Path); return !was },
	) {
		return 0, 0
	}
	before := tree.Saved(base, &tree.Tree{}, old.Removals)
	after := tree.Saved(base, &tree.Tree{}, next.Removals)
	for i := range before.Entries {
		if before.Entries[i].Kind == dirfd.KindDir {
			continue
		}
		defaults++
		if !after.Has(before.Entries[i].Path) {
			removed++
		}
	}
	return defaults, removed
}
