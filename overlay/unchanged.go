package overlay

import (
	"context"

	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// lastResult is what the last save left unsaved, so that Quiet can tell that there is nothing more to save.
type lastResult struct {
	result Result // without its View
	free   uint64
	paths  map[string]unsavedChange
}

// unsavedChange is a change that the last save left out, because of its class or because cfg was changed by
// hand too.
type unsavedChange struct {
	what  tree.ChangeKind
	stamp tree.Stamp // zero if the path is gone
}

func unsavedChangeOf(c tree.Change) unsavedChange {
	l := unsavedChange{what: c.What}
	if c.New != nil {
		l.stamp = c.New.Stamp()
	}
	return l
}

// remember keeps the result of a save for Quiet. It keeps nothing if the save left out what is not yet still,
// was given paths, or could not read something: then only another save can tell.
func (o *Overlay) remember(r *Result, so SaveOptions) {
	o.last = nil
	if o.MountCfg == nil || len(r.Unsettled) > 0 || len(so.Paths) > 0 {
		return
	}
	keep := &lastResult{
		result: Result{Generation: r.Generation, Kept: r.Kept, Conflicts: r.Conflicts, Pending: r.Pending},
		free:   r.View.Free,
		paths:  map[string]unsavedChange{},
	}
	for _, c := range r.View.Unsaved {
		if c.New != nil && c.New.Unread != "" && c.New.Unread != tree.TooLarge &&
			c.New.Unread != tree.TooDeep {
			return
		}
		if !r.View.hidden(c.Path) {
			keep.paths[c.Path] = unsavedChangeOf(c)
		}
	}
	o.last = keep
}

// sameUnsaved reports whether the same changes are unsaved as after the last save.
func (o *Overlay) sameUnsaved(v *View) bool {
	n := 0
	for _, c := range v.Unsaved {
		if v.hidden(c.Path) {
			continue
		}
		if was, ok := o.last.paths[c.Path]; !ok || was != unsavedChangeOf(c) {
			return false
		}
		n++
	}
	return n == len(o.last.paths)
}

// Quiet scans live without opening cfg and compares it with the remembered store. If nothing is unsaved
// except what the last save left out, it returns what Save would return. It returns nil whenever that is not
// certain. If cfg is mounted on demand, this saves an idle machine the mounts.
func (o *Overlay) Quiet(ctx context.Context, lo LookOptions) *Result {
	if o.MountCfg == nil || o.store == nil || o.live == nil || o.last == nil {
		return nil
	}
	base, err := o.base(ctx)
	if err != nil || !o.sameBase(base) {
		return nil
	}
	s := *o.store
	v := &View{
		Time:         o.now(),
		Base:         base,
		Plain:        s.Plain,
		Current:      s.Manifest,
		Free:         o.last.free,
		ReadOnly:     s.ReadOnly,
		class:        o.classOf(&s),
		ignoredPaths: s.Ignored,
	}
	v.diffs = o.compare(base, &s)
	v.Stored = v.diffs.stored
	if err := o.lookLive(ctx, v, lo); err != nil || v.NotPopulated != nil {
		return nil
	}
	if !o.sameUnsaved(v) {
		return nil
	}
	r := o.last.result
	r.View = v
	return &r
}

// sameBase reports whether the remembered store was opened on this base or on an earlier scan of it that
// found the same.
func (o *Overlay) sameBase(base *store.Base) bool {
	was := o.store.Base
	if was != nil && was.Tree == base.Tree && was.ID == base.ID {
		return true
	}
	if was == nil || was.ID != base.ID || len(tree.Delta(was.Tree, base.Tree)) > 0 {
		return false
	}
	o.store.Base = base
	return true
}

// Forget drops what is remembered of live and cfg, so that the next look reads everything.
func (o *Overlay) Forget() { o.live, o.store, o.last, o.diffs = nil, nil, nil, nil }
