package overlay

import (
	"maps"

	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// diffCache holds what the last calls found, so that an idle machine neither reads nor compares anything
// twice. Trees are values: what was computed from them stays valid while a scan returns the same trees.
type diffCache struct {
	store   *store.Store    // the last opening; its scan and manifest are reused
	live    *tree.Tree      // the last scan of live
	ignored map[string]bool // the paths that NanoBSD ignored in that scan
	diffs   *differences
	last    *lastSave
}

// compare returns the differences between base and cfg, from the cache if it is still valid.
func (c *diffCache) compare(base *store.Base, s *store.Store) *differences {
	if d := c.diffs; d == nil || d.base != base.Tree || d.plain != s.Plain || d.manifest != s.Manifest {
		c.diffs = newDifferences(base.Tree, s.Plain, s.Manifest)
	}
	return c.diffs
}

// rest drops the saved tree at the end of a call, because it is large and easily rebuilt.
func (c *diffCache) rest() {
	if c.diffs != nil {
		c.diffs.tree = nil
	}
}

// sameBase reports whether the last store was opened on this base or on an earlier scan of it that found the
// same.
func (c *diffCache) sameBase(base *store.Base) bool {
	was := c.store.Base
	if was != nil && was.Tree == base.Tree && was.ID == base.ID {
		return true
	}
	if was == nil || was.ID != base.ID || len(tree.Delta(was.Tree, base.Tree)) > 0 {
		return false
	}
	c.store.Base = base
	return true
}

// lastSave is the result of the last save, if it was of everything, and what it left unsaved.
type lastSave struct {
	result Result // without its View
	free   uint64
	// paths are the changes that the save left out. It is nil if it could not read something: then only
	// another save can tell whether there is more to save.
	paths map[string]unsavedChange

	nothing bool // there was nothing to do
	diffs   *differences
	live    *tree.Tree
	ignored map[string]bool
	times   bool // it would have saved times that changed alone
}

// unsavedChange is a change that the last save left out, because of its class or because cfg was changed by
// hand too.
type unsavedChange struct {
	kind  tree.ChangeKind
	stamp tree.Stamp // zero if the path is gone
}

func unsavedChangeOf(c tree.Change) unsavedChange {
	l := unsavedChange{kind: c.Kind}
	if c.New != nil {
		l.stamp = c.New.Stamp()
	}
	return l
}

// remember keeps the result of a save. It keeps nothing if the save left out what is not yet still or was
// given paths. nothing says that there was nothing to do.
func (c *diffCache) remember(r *Result, so SaveOptions, nothing bool) {
	c.last = nil
	if len(r.Unsettled) > 0 || len(so.Paths) > 0 {
		return
	}
	v := r.View
	c.last = &lastSave{
		result:  Result{Generation: r.Generation, Kept: r.Kept, Conflicts: r.Conflicts, Pending: r.Pending},
		free:    v.Free,
		paths:   v.unsavedChanges(),
		nothing: nothing && !so.Force,
		diffs:   v.diffs,
		live:    v.Live,
		ignored: v.ignored,
		times:   so.Times,
	}
}

// unsavedChanges returns the unsaved changes that are shown, nil if something could not be read.
func (v *View) unsavedChanges() map[string]unsavedChange {
	paths := map[string]unsavedChange{}
	for _, c := range v.Unsaved {
		if c.New != nil && c.New.Unread != "" && c.New.Unread != tree.TooLarge &&
			c.New.Unread != tree.TooDeep {
			return nil
		}
		if !v.neverShown(c.Path) {
			paths[c.Path] = unsavedChangeOf(c)
		}
	}
	return paths
}

// sameUnsaved reports whether a View has the same unsaved changes as there were after the last save.
func (l *lastSave) sameUnsaved(v *View) bool {
	n := 0
	for _, c := range v.Unsaved {
		if v.neverShown(c.Path) {
			continue
		}
		if was, ok := l.paths[c.Path]; !ok || was != unsavedChangeOf(c) {
			return false
		}
		n++
	}
	return n == len(l.paths)
}

// unchanged returns the result of the last save, if it was of the same trees and had nothing to do. It
// returns nil if the save must be planned.
func (c *diffCache) unchanged(v *View, so SaveOptions) *Result {
	l := c.last
	if l == nil || !l.nothing || l.diffs != v.diffs || l.live != v.Live || len(so.Paths) > 0 || so.Force ||
		so.Times && !l.times || !maps.Equal(l.ignored, v.ignored) {
		return nil
	}
	return l.resultFor(v)
}

// resultFor returns the result with a new View.
func (l *lastSave) resultFor(v *View) *Result {
	r := l.result
	r.View = v
	return &r
}
