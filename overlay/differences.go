package overlay

import (
	"maps"

	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// diffCache holds the differences computed from three trees and a manifest. Trees are values. The cache is
// valid while a look returns the same trees, as it does on an idle machine.
type diffCache struct {
	base, plain *tree.Tree
	manifest    *store.Manifest

	withManifestAttrs *tree.Tree // plain, with what only the manifest can hold
	tree              *tree.Tree // the saved tree; dropped between calls, because it is as large as base
	stored            []tree.Change

	scanned, completed *tree.Tree // a scan of live, and that scan with what live can't hold

	live           *tree.Tree
	local, unsaved []tree.Change

	noChange *noChange
}

// noChange is the result of a save that had nothing to do.
type noChange struct {
	result  Result // without its View
	times   bool   // the save would have saved times that changed alone
	ignored map[string]bool
}

// compare returns the differences between base and cfg, from the cache if it is still valid.
func (o *Overlay) compare(base *store.Base, s *store.Store) *diffCache {
	if c := o.diffs; c != nil && c.base == base.Tree && c.plain == s.Plain && c.manifest == s.Manifest {
		return c
	}
	c := &diffCache{
		base:              base.Tree,
		plain:             s.Plain,
		manifest:          s.Manifest,
		withManifestAttrs: store.WithManifest(base.Tree, s.Plain, s.Manifest),
	}
	c.stored = clone(tree.Delta(c.base, c.saved()))
	o.diffs = c
	return c
}

// saved returns the saved tree, and builds it if necessary.
func (c *diffCache) saved() *tree.Tree {
	if c.tree == nil {
		c.tree = tree.Saved(c.base, c.withManifestAttrs, c.manifest.Removals)
	}
	return c.tree
}

// rest drops the saved tree at the end of a call, because it is large and easily rebuilt.
func (o *Overlay) rest() {
	if o.diffs != nil {
		o.diffs.tree = nil
	}
}

// with adds the differences of live.
func (c *diffCache) with(live *tree.Tree) {
	if c.live == live {
		return
	}
	c.live, c.noChange = live, nil
	c.local, c.unsaved = clone(tree.Delta(c.base, live)), clone(tree.Delta(c.saved(), live))
}

// clone gives changes their own copies of entries. An entry that points into a tree would keep all of that
// tree in memory.
func clone(changes []tree.Change) []tree.Change {
	own := func(e *tree.Entry) *tree.Entry {
		if e == nil {
			return nil
		}
		c := *e
		return &c
	}
	for i := range changes {
		changes[i].Old, changes[i].New = own(changes[i].Old), own(changes[i].New)
	}
	return changes
}

// keepNoChange remembers a save of everything that had nothing to do.
func (c *diffCache) keepNoChange(r *Result, so SaveOptions, s *store.Store) {
	if c.live != r.View.Live || len(so.Paths) > 0 || so.Force || len(r.Unsettled) > 0 {
		return
	}
	c.noChange = &noChange{result: *r, times: so.Times, ignored: s.Ignored}
	c.noChange.result.View = nil
}

// unchanged returns the result of an earlier save of the same trees that had nothing to do. It returns nil if
// the save must be planned.
func (c *diffCache) unchanged(v *View, so SaveOptions, s *store.Store) *Result {
	n := c.noChange
	if n == nil || c.live != v.Live || c.manifest != s.Manifest || len(so.Paths) > 0 || so.Force ||
		so.Times && !n.times ||
		!maps.Equal(n.ignored, s.Ignored) {
		return nil
	}
	r := n.result
	r.View = v
	return &r
}

// withRefused returns a scan of live completed with what live can't hold. The same scan gives the same tree.
func (c *diffCache) withRefused(t *tree.Tree, refused []tree.Refused) *tree.Tree {
	if len(refused) == 0 && !t.NoXattrs {
		return t
	}
	if c.scanned != t {
		c.scanned, c.completed = t, t.WithRefused(refused, c.saved())
	}
	return c.completed
}
