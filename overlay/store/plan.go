package store

import (
	"errors"
	"fmt"
	"slices"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Plan says what a save would do. It is a value, computed without side effects.
type Plan struct {
	Changes []tree.Change // what becomes saved: the difference between live and the saved tree
	Drops   []string      // overrides that go, because they were released or deleted in live
	Times   []string      // overrides of which only the time changed

	Kept      []Kept   // what is not saved because of its class or kind
	Conflicts []string // changed by hand in cfg, and in live too
	Pending   []string // changed by hand in cfg alone

	Next *Manifest

	Puts []tree.Entry // entries of live to copy into cfg
	old  []string

	asItIs  map[string]bool // of Puts, those that may change while they are copied
	maxFile int64

	Steps []Step // all but puts, whose steps are known when they are staged: see assemble
}

// Empty reports whether there is nothing to save. Times alone count only if the save asked for them.
func (p *Plan) Empty() bool {
	return len(p.Changes) == 0 && len(p.Drops) == 0 && len(p.Puts) == 0
}

// Kept is a path that a save leaves as it is, with the reason.
type Kept struct {
	Path string
	// report if the class or a size leaves the path out; the path's own class if it could not be read
	Class  config.Class
	Reason tree.Reason
}

// OnlyBelow returns the filter for path arguments. A directory means all below it.
func OnlyBelow(paths []string) func(string) bool {
	if len(paths) == 0 {
		return func(string) bool { return true }
	}
	return func(p string) bool {
		for _, dir := range paths {
			if pathname.Within(p, dir) {
				return true
			}
		}
		return false
	}
}

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
