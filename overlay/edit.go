package overlay

import (
	"context"
	"fmt"
	"io"
	"slices"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// edit is a new manifest in the making, with the contents that cfg does not have yet.
type edit struct {
	*opened
	next  *store.Manifest
	fresh map[tree.Digest][]byte
}

func (w *opened) edit() *edit {
	next := w.s.Manifest.Clone()
	next.From, next.Time, next.BaseID = "", w.o.now().UTC(), next.StandsOn(w.v.Base.ID)
	return &edit{opened: w, next: next, fresh: map[tree.Digest][]byte{}}
}

// rewrite edits the manifest and makes cfg follow it, and live below the paths. What is made of the files
// that change is made anew in the same generation. Live comes first: after a crash between the two, the next
// save brings live's state to cfg.
func rewrite(
	ctx context.Context, o *Overlay, paths []string, change func(*edit) error,
) (done *Restored, err error) {
	err = o.atWork(ctx, func(w *opened) error {
		if w.s.ReadOnly {
			return fmt.Errorf("%s: cfg %s: %w", o.Target.Name, o.Target.Cfg, ErrReadOnly)
		}
		a := w.edit()
		if err := change(a); err != nil {
			return fmt.Errorf("%s: %w", o.Target.Name, err)
		}
		notices, made, err := a.remake(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", o.Target.Name, err)
		}
		if done, err = a.carryOut(ctx, append(slices.Clone(paths), made...)); done != nil {
			done.Notices = notices
		}
		return err
	})
	return done, err
}

// carryOut makes live, below the paths, and then cfg what the new manifest says.
func (a *edit) carryOut(ctx context.Context, paths []string) (*Restored, error) {
	done := &Restored{}
	if a.v.NotPopulated == nil && len(paths) > 0 {
		want, err := a.s.Wanted(a.next, a.v.diffs.completed)
		if err != nil {
			return nil, err
		}
		r := newRestorer(want, a.open)
		r.choose(a.v, paths)
		if err := a.putBack(ctx, r); err != nil {
			return nil, err
		}
		done.Changes = r.changes
	}
	if err := a.s.Rewrite(ctx, a.next, a.open); err != nil {
		return done, fmt.Errorf("%s: %w", a.o.Target.Name, err)
	}
	done.Generation = a.s.Manifest.Generation
	return done, nil
}

// open reads the content of an entry of the new manifest or of base.
func (a *edit) open(e *tree.Entry) (io.ReadCloser, error) {
	if b, ok := a.fresh[e.Digest]; ok {
		return tree.ReaderOf(b), nil
	}
	c := contentSources{base: a.s.Base} // at a start nobody has looked at live
	if a.v != nil {
		c = a.sources()
	}
	b, err := c.read(a.s, e)
	return tree.ReaderOf(b), err
}

// bytes returns the content of an entry.
func (a *edit) bytes(e *tree.Entry) ([]byte, error) {
	r, err := a.open(e)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, e.Size+1))
}

// set makes the path what the entry says: an override, nothing if it equals the default, a removal for nil.
func (a *edit) set(path string, e *tree.Entry) error {
	def, err := a.s.Base.Entry(path)
	if err != nil {
		return err
	}
	n := a.next
	n.Overrides = slices.DeleteFunc(n.Overrides, func(o store.Override) bool { return o.Path == path })
	n.Removals = slices.DeleteFunc(n.Removals, func(r tree.Removal) bool { return r.Path == path })
	xattrs := e != nil && e.Kind == dirfd.KindFile && !a.s.Base.Tree.NoXattrs && !a.s.Plain.NoXattrs
	switch {
	case e == nil && def == nil:
	case e == nil:
		n.Removals = tree.CompactRemovals(
			append(n.Removals, tree.Removal{Path: path, MTime: a.o.now().UnixNano(), Default: def}))
	case def != nil && store.Same(def, e, xattrs) && !n.Pinned(path):
	default:
		x := *e
		x.Path = path
		x.ClearStamp()
		n.Overrides = append(n.Overrides, store.Override{Entry: x, Default: def})
		slices.SortFunc(n.Overrides,
			func(x, y store.Override) int { return pathname.Compare(x.Path, y.Path) })
	}
	return nil
}

// present returns what live has, or what is saved if live is not populated.
func (a *edit) present(path string) (*tree.Entry, error) {
	tree := a.v.Live
	if a.v.NotPopulated != nil {
		tree = a.v.SavedTree()
	}
	e, ok := tree.Get(path)
	switch {
	case !ok:
		return nil, nil
	case e.Unread != "" || e.Kind.Special():
		return nil, fmt.Errorf("%s cannot be saved: a %s, %s", pathname.Quote(path), e.Kind, e.Unread)
	}
	return e, nil
}

// Rollback makes generation n the saved and the live state, as a new generation. If n was made against
// another base, it is merged with the present base first. Unsaved changes are saved before, so that they can
// be restored too.
func (o *Overlay) Rollback(ctx context.Context, n int) (*Restored, *merge.Result, error) {
	if err := saveFirst(ctx, o, nil, fmt.Sprintf("before the rollback to generation %d", n)); err != nil {
		return nil, nil, err
	}
	var merged *merge.Result
	done, err := rewrite(ctx, o, []string{""}, func(a *edit) error {
		then, err := a.s.Generation(n)
		if err != nil {
			return fmt.Errorf("generation %d is not kept: cfgd log %s lists those that are: %w", n,
				o.Target.Name, err)
		}
		merged, err = a.revertTo(ctx, then)
		a.next.Message = fmt.Sprintf("rolled back to generation %d", n)
		return err
	})
	return done, merged, err
}

// revertTo makes the new manifest equal to an earlier generation, merged if that had another base.
func (a *edit) revertTo(ctx context.Context, then *store.Manifest) (*merge.Result, error) {
	next := *then
	next.From, next.Time, next.HandEdits = "", a.o.now().UTC(), nil
	now := a.s.Manifest
	var merged *merge.Result
	if then.BaseID != "" && then.BaseID != a.v.Base.ID {
		var err error
		if merged, err = mergerOf(a.o, a.s, then).Run(ctx); err != nil {
			return nil, err
		}
		a.fresh, next = merged.Made, *merged.Next
	}
	next.BaseID, next.Merges = a.v.Base.ID, now.Merges
	if now.BaseID != next.BaseID { // cfg was not merged with this base yet
		next.From, next.Merges = now.BaseID, now.WithMerge()
	}
	*a.next = next
	return merged, nil
}

// saveFirst saves unsaved changes of live before they are replaced, so that they can be restored.
func saveFirst(ctx context.Context, o *Overlay, paths []string, message string) error {
	if o.notPopulated() != nil {
		return nil
	}
	r, err := o.Save(ctx, SaveOptions{Paths: paths, Message: message})
	if err != nil {
		return err
	}
	if left := append(append([]string(nil), r.Conflicts...), r.Unsettled...); len(left) > 0 {
		return fmt.Errorf("%s: %s could not be saved before: settle that first (cfgd status %s)",
			o.Target.Name, listed(left), o.Target.Name)
	}
	return nil
}

// listed returns the first few paths in words.
func listed(paths []string) string {
	if len(paths) > 3 {
		return fmt.Sprintf("%s and %d more", pathname.Quote(paths[0]), len(paths)-1)
	}
	text := ""
	for i, p := range paths {
		if i > 0 {
			text += ", "
		}
		text += pathname.Quote(p)
	}
	return text
}
