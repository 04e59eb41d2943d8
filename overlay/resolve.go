package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// ErrNoConflict says that a path has no conflict to resolve.
var ErrNoConflict = errors.New("no conflict")

// Choice says how a conflict is resolved.
type Choice struct {
	Take    config.OnConflict // mine or theirs; "" means live's version, or cfg's if live is not populated
	Content []byte            // if not nil, this content, whatever Take says
}

// Conflicts lists the conflicts that nobody has resolved.
func (v *View) Conflicts() []store.Conflict {
	if v.Current == nil {
		return nil
	}
	return v.Current.Conflicts
}

// Resolve settles conflicts in live and cfg as one generation. Each path must have a conflict.
func (o *Overlay) Resolve(ctx context.Context, paths []string, how Choice) (*Restored, error) {
	words := string(how.Take)
	if how.Take == "" || how.Content != nil {
		words = "edited"
	}
	if words != "edited" || how.Content != nil {
		if err := o.saveFirst(ctx, paths, fmt.Sprintf("before %s was resolved", listed(paths))); err != nil {
			return nil, err
		}
	}
	return o.rewrite(ctx, paths, func(a *edit) error {
		for _, path := range paths {
			if err := a.resolve(path, how); err != nil {
				return err
			}
		}
		a.next.Message = fmt.Sprintf("resolved %s: %s", listed(paths), words)
		return nil
	})
}

// saveFirst saves unsaved changes of live before they are replaced, so that they can be restored.
func (o *Overlay) saveFirst(ctx context.Context, paths []string, message string) error {
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

// Pin makes paths overrides that stay even if they equal base. With off it ends that.
func (o *Overlay) Pin(ctx context.Context, paths []string, off bool) (*Restored, error) {
	return o.rewrite(ctx, nil, func(a *edit) error {
		word := "pinned"
		if off {
			word = "unpinned"
		}
		a.next.Message = word + " " + listed(paths)
		for _, path := range paths {
			if err := a.pin(path, off); err != nil {
				return err
			}
		}
		return nil
	})
}

// ConflictText returns both versions of a conflict with markers between them. The taken version is as it is
// now, because it may have been edited since. It is an error if they are not text.
func (o *Overlay) ConflictText(ctx context.Context, path string) (text []byte, err error) {
	err = o.opened(ctx, true, func(s *store.Store, v *View) error {
		a := &edit{o: o, s: s, v: v, next: s.Manifest}
		text, err = a.text(path)
		return err
	})
	return text, err
}

func (a *edit) text(path string) ([]byte, error) {
	c, ok := a.next.ConflictAt(path)
	if !ok {
		return nil, fmt.Errorf("%s: %w", pathname.Quote(path), ErrNoConflict)
	}
	now, err := a.present(path)
	if err != nil {
		return nil, err
	}
	if c.Text == nil || now == nil || now.Kind != dirfd.KindFile {
		return nil, fmt.Errorf("%s: %w", pathname.Quote(path), merge.ErrNoText)
	}
	if now.SameContent(c.TakenEntry()) {
		return a.bytes(c.Text)
	}
	mine, theirs := now, c.Theirs
	if c.Taken == config.ConflictTheirs {
		mine, theirs = c.Mine, now
	}
	old, m, t, err := merge.Versions{Old: c.Old, Mine: mine, Theirs: theirs}.Read(maxMerged, a.bytes)
	if err != nil {
		return nil, err
	}
	merged, err := merge.Contents(path, old, m, t, merge.NamesOf(c.From, c.To))
	if err != nil {
		return nil, err
	}
	return merged.Content, nil
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

// Reject turns the last merge of a path into a conflict, and returns the merged content. It is used if a
// checker that needs all of etc in place refuses that content.
func (o *Overlay) Reject(ctx context.Context, path, why string) (merged []byte, err error) {
	_, err = o.rewrite(ctx, []string{path}, func(a *edit) error {
		a.next.Message = fmt.Sprintf("rejected the merge of %s", pathname.Quote(path))
		merged, err = a.reject(path, why)
		return err
	})
	return merged, err
}

// reject takes one of the two merged versions again: that of the generation before, or the default.
func (a *edit) reject(path, why string) ([]byte, error) {
	c, err := a.conflictOf(path, why)
	if err != nil {
		return nil, err
	}
	merged, err := a.s.Content(c.Text)
	if err != nil {
		return nil, err
	}
	i, _ := slices.BinarySearchFunc(a.next.Conflicts, path,
		func(c store.Conflict, p string) int { return pathname.Compare(c.Path, p) })
	a.next.Conflicts = slices.Insert(a.next.Conflicts, i, *c)
	if err := a.set(path, c.TakenEntry()); err != nil {
		return nil, err
	}
	if o, ok := a.next.Override(path); ok {
		o.Default = c.Old // still to be resolved
	}
	return merged, nil
}

// conflictOf returns the conflict that stands for the last merge of a path. Its text is the merged one.
func (a *edit) conflictOf(path, why string) (*store.Conflict, error) {
	m := a.s.Manifest
	now, ok := m.Override(path)
	if !ok || len(m.Merges) == 0 {
		return nil, fmt.Errorf("%s: no merge is known that it came of", pathname.Quote(path))
	}
	n := m.Merges[len(m.Merges)-1]
	then, err := a.s.Generation(n - 1)
	if err != nil {
		return nil, err
	}
	mine, ok := then.Override(path)
	theirs, err := a.v.Base.Entry(path)
	if err != nil || !ok || theirs == nil {
		return nil, errors.Join(err, fmt.Errorf("%s: its two versions are not known", pathname.Quote(path)))
	}
	return &store.Conflict{
		Path:   path,
		From:   then.BaseID,
		To:     m.BaseID,
		Taken:  a.o.policy(),
		Why:    why,
		Old:    mine.Default,
		Mine:   &mine.Entry,
		Theirs: theirs,
		Text:   &now.Entry,
	}, nil
}

// edit is a new manifest in the making, with the contents that cfg does not have yet.
type edit struct {
	o     *Overlay
	s     *store.Store
	v     *View
	next  *store.Manifest
	fresh map[tree.Digest][]byte
}

// rewrite edits the manifest and makes cfg follow it, and live below the paths. Live comes first: after a
// crash between the two, the next save brings live's state to cfg.
func (o *Overlay) rewrite(
	ctx context.Context, paths []string, change func(*edit) error,
) (done *Restored, err error) {
	err = o.atWork(ctx, func(s *store.Store, v *View) error {
		done, err = o.edit(ctx, s, v, paths, change)
		return err
	})
	return done, err
}

func (o *Overlay) edit(
	ctx context.Context, s *store.Store, v *View, paths []string, change func(*edit) error,
) (*Restored, error) {
	if s.ReadOnly {
		return nil, fmt.Errorf("%s: cfg %s: %w", o.Target.Name, o.Target.Cfg, ErrReadOnly)
	}
	next := *s.Manifest
	next.Overrides, next.Removals, next.Conflicts, next.Pins = slices.Clone(next.Overrides), slices.Clone(
		next.Removals), slices.Clone(
		next.Conflicts,
	), slices.Clone(next.Pins)
	next.From, next.Time, next.BaseID = "", o.now().UTC(), s.Manifest.StandsOn(v.Base.ID)
	a := &edit{o: o, s: s, v: v, next: &next, fresh: map[tree.Digest][]byte{}}
	if err := change(a); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Target.Name, err)
	}
	done := &Restored{}
	if v.NotPopulated == nil && len(paths) > 0 {
		var err error
		if done.Changes, err = a.live(ctx, paths); err != nil {
			return nil, err
		}
	}
	if err := s.Rewrite(ctx, &next, a.open); err != nil {
		return done, fmt.Errorf("%s: %w", o.Target.Name, err)
	}
	done.Generation = s.Manifest.Generation
	return done, nil
}

// live makes the paths in live what the new manifest says.
func (a *edit) live(ctx context.Context, paths []string) ([]tree.Change, error) {
	want, err := a.s.Wanted(a.next, store.WithManifest(a.s.Base.Tree, a.s.Plain, a.s.Manifest))
	if err != nil {
		return nil, err
	}
	r := &restorer{want: want, read: a.open, touched: map[string]bool{}}
	r.choose(a.v, paths)
	live, err := a.o.OpenLive()
	if err != nil {
		return nil, err
	}
	defer live.Close()
	return r.changes, r.run(ctx, live)
}

// open reads the content of an entry of the new manifest or of base.
func (a *edit) open(e *tree.Entry) (io.ReadCloser, error) {
	if b, ok := a.fresh[e.Digest]; ok {
		return tree.ReaderOf(b), nil
	}
	b, err := a.o.savedOrLive(a.s, wouldSave{live: a.v.Live, base: a.v.Base}, e)
	return tree.ReaderOf(b), err
}

// set makes the path what the entry says: an override, nothing if it equals the default, a removal for nil.
func (a *edit) set(path string, e *tree.Entry) error {
	def, err := a.v.Base.Entry(path)
	if err != nil {
		return err
	}
	n := a.next
	n.Overrides = slices.DeleteFunc(n.Overrides, func(o store.Override) bool { return o.Path == path })
	n.Removals = slices.DeleteFunc(n.Removals, func(r tree.Removal) bool { return r.Path == path })
	xattrs := e != nil && e.Kind == dirfd.KindFile && !a.v.Base.Tree.NoXattrs && !a.s.Plain.NoXattrs
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

func (a *edit) resolve(path string, how Choice) error {
	c, ok := a.next.ConflictAt(path)
	if !ok {
		return fmt.Errorf("%s: %w; cfgd resolve --list shows them", pathname.Quote(path), ErrNoConflict)
	}
	want, err := a.chosen(c, how)
	if err != nil {
		return err
	}
	if c.Mine != nil && c.Mine.Kind == dirfd.KindDir && (want == nil || want.Kind != dirfd.KindDir) {
		a.dropBelow(path)
	}
	a.next.Conflicts = slices.DeleteFunc(a.next.Conflicts,
		func(x store.Conflict) bool { return x.Path == path })
	return a.set(path, want)
}

// dropBelow drops the overrides below a directory that goes.
func (a *edit) dropBelow(path string) {
	a.next.Overrides = slices.DeleteFunc(a.next.Overrides,
		func(o store.Override) bool { return pathname.Within(o.Path, path) })
}

// chosen returns the entry for a choice.
func (a *edit) chosen(c *store.Conflict, how Choice) (*tree.Entry, error) {
	now, err := a.present(c.Path)
	switch {
	case err != nil:
		return nil, err
	case how.Content != nil:
		like := now
		if like == nil || like.Kind != dirfd.KindFile {
			like = c.Mine
		}
		if like == nil || like.Kind != dirfd.KindFile {
			return nil, fmt.Errorf("%s is no file: take one of the two with --mine or --theirs",
				pathname.Quote(c.Path))
		}
		e := *like
		e.Size, e.Digest, e.MTime = int64(len(how.Content)), tree.SumOf(how.Content), a.o.now().UnixNano()
		e.ClearStamp()
		a.fresh[e.Digest] = how.Content
		return &e, nil
	case how.Take == "" || how.Take == c.Taken:
		return now, nil // with the edits made since
	case how.Take == config.ConflictMine:
		return c.Mine, nil
	}
	return c.Theirs, nil
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

func (a *edit) pin(path string, off bool) error {
	i, there := slices.BinarySearchFunc(a.next.Pins, path, pathname.Compare)
	switch {
	case off && !there:
		return fmt.Errorf("%s is not pinned", pathname.Quote(path))
	case off:
		a.next.Pins = slices.Delete(a.next.Pins, i, i+1)
	case !a.v.SavedTree().Has(path):
		return fmt.Errorf("%s is neither a default nor saved: there is nothing to pin", pathname.Quote(path))
	case !there:
		a.next.Pins = slices.Insert(a.next.Pins, i, path)
	}
	return nil
}

// Rollback makes generation n the saved and the live state, as a new generation. If n was made against
// another base, it is merged with the present base first. Unsaved changes are saved before, so that they can
// be restored too.
func (o *Overlay) Rollback(ctx context.Context, n int) (*Restored, *merge.Result, error) {
	if err := o.saveFirst(ctx, nil, fmt.Sprintf("before the rollback to generation %d", n)); err != nil {
		return nil, nil, err
	}
	var merged *merge.Result
	done, err := o.rewrite(ctx, []string{""}, func(a *edit) error {
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
	next.From, next.Time, next.Held = "", a.o.now().UTC(), nil
	now := a.s.Manifest
	var merged *merge.Result
	if then.BaseID != "" && then.BaseID != a.v.Base.ID {
		var err error
		if merged, err = a.o.merger(a.s, then).Run(ctx); err != nil {
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
