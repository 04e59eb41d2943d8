package overlay

import (
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
	"maps"
)

// compared is what was computed from three trees and a manifest. Trees are values: as long as a look finds the same ones, and an
// idle machine's looks do, all of it still holds.
type compared struct {
	base, plain *tree.Tree
	manifest    *store.Manifest

	dressed *tree.Tree // plain, with what only the manifest can hold
	tree    *tree.Tree // the saved tree, while somebody is at work: it is as large as base, and not kept
	stored  []tree.Change

	scanned, lent *tree.Tree // a live tree, and that with what it can't hold

	live           *tree.Tree
	local, unsaved []tree.Change

	nothing *nothing
}

// nothing is that there was nothing to save.
type nothing struct {
	result  Result // without its view
	times   bool   // times that moved alone would have been saved
	ignored map[string]bool
}

// compare compares base and cfg, or takes what is known of them.
func (o *Overlay) compare(base *store.Base, s *store.Store) *compared {
	if c := o.compared; c != nil && c.base == base.Tree && c.plain == s.Plain && c.manifest == s.Manifest {
		return c
	}
	c := &compared{base: base.Tree, plain: s.Plain, manifest: s.Manifest, dressed: store.WithManifest(base.Tree, s.Plain, s.Manifest)}
	c.stored = lasting(tree.Delta(c.base, c.saved()))
	o.compared = c
	return c
}

// saved is the saved tree, made where it is not there.
func (c *compared) saved() *tree.Tree {
	if c.tree == nil {
		c.tree = tree.Saved(c.base, c.dressed, c.manifest.Removals)
	}
	return c.tree
}

// rest ends the work: what is large and easily made again goes.
func (o *Overlay) rest() {
	if o.compared != nil {
		o.compared.tree = nil
	}
}

// with compares live as well.
func (c *compared) with(live *tree.Tree) {
	if c.live == live {
		return
	}
	c.live, c.local, c.unsaved, c.nothing = live, lasting(tree.Delta(c.base, live)), lasting(tree.Delta(c.saved(), live)), nil
}

// lasting gives changes entries of their own: one that points into a tree keeps all of that tree in memory.
func lasting(changes []tree.Change) []tree.Change {
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

// keepNothing remembers a save that found nothing to do, if it was about everything.
func (c *compared) keepNothing(r *Result, so SaveOptions, s *store.Store) {
	if c.live != r.View.Live || len(so.Paths) > 0 || so.Force || len(r.Unsettled) > 0 {
		return
	}
	c.nothing = &nothing{result: *r, times: so.Times, ignored: s.Ignored}
	c.nothing.result.View = nil
}

// idle returns what a save of the same trees found, where that was nothing to do; nil where it has to be planned.
func (c *compared) idle(v *View, so SaveOptions, s *store.Store) *Result {
	n := c.nothing
	if n == nil || c.live != v.Live || c.manifest != s.Manifest || len(so.Paths) > 0 || so.Force || so.Times && !n.times || !maps.Equal(n.ignored, s.Ignored) {
		return nil
	}
	r := n.result
	r.View = v
	return &r
}
