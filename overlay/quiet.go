package overlay

import (
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
	"context"
)

// left is what the last save left as it was, so that a look can tell that there is nothing more to save.
type left struct {
	result Result // without its view
	free   uint64
	paths  map[string]leftover
}

// leftover is a change that is not saved: by its class, or because cfg was changed by hand as well.
type leftover struct {
	what  tree.ChangeKind
	stamp tree.Stamp // zero for what is gone
}

func leftoverOf(c tree.Change) leftover {
	l := leftover{what: c.What}
	if c.New != nil {
		l.stamp = c.New.Stamp()
	}
	return l
}

// remember keeps what a save left. What only waits to be still, or was not asked for, is not left; nor is what could not be read,
// for nothing but another try tells when it can be.
func (o *Overlay) remember(r *Result, so SaveOptions) {
	o.left = nil
	if o.MountCfg == nil || len(r.Unsettled) > 0 || len(so.Paths) > 0 {
		return
	}
	keep := &left{result: Result{Generation: r.Generation, Kept: r.Kept, Conflicts: r.Conflicts, Pending: r.Pending}, free: r.View.Free, paths: map[string]leftover{}}
	for _, c := range r.View.Unsaved {
		if c.New != nil && c.New.Unread != "" && c.New.Unread != tree.TooLarge && c.New.Unread != tree.TooDeep {
			return
		}
		if !r.View.hidden(c.Path) {
			keep.paths[c.Path] = leftoverOf(c)
		}
	}
	o.left = keep
}

// sameLeft reports whether just that is unsaved which the last save left: neither more nor less.
func (o *Overlay) sameLeft(v *View) bool {
	n := 0
	for _, c := range v.Unsaved {
		if v.hidden(c.Path) {
			continue
		}
		if was, ok := o.left.paths[c.Path]; !ok || was != leftoverOf(c) {
			return false
		}
		n++
	}
	return n == len(o.left.paths)
}

// Quiet looks at live without opening cfg, with what is remembered of the store. It returns what Save would where there is nothing
// to save that the last save did not leave, and nil whenever that is not certain. Where cfg is mounted on demand, it spares an idle
// machine the mounts.
func (o *Overlay) Quiet(ctx context.Context, lo LookOptions) *Result {
	if o.MountCfg == nil || o.store == nil || o.live == nil || o.left == nil {
		return nil
	}
	base, err := o.base(ctx)
	if err != nil || !o.sameBase(base) {
		return nil
	}
	s := *o.store
	v := &View{Time: o.now(), Base: base, Plain: s.Plain, Current: s.Manifest, Free: o.left.free, ReadOnly: s.ReadOnly, class: o.classOf(&s), marks: s.Ignored}
	v.compared = o.compare(base, &s)
	v.Stored = v.compared.stored
	if err := o.lookLive(ctx, v, lo); err != nil || v.NotPopulated != nil {
		return nil
	}
	if !o.sameLeft(v) {
		return nil
	}
	r := o.left.result
	r.View = v
	return &r
}

// sameBase reports whether the remembered store was opened on this base, or on an earlier scan of it that found the same.
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
func (o *Overlay) Forget() { o.live, o.store, o.left, o.compared = nil, nil, nil, nil }
