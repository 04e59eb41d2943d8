package overlay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/store"
)

// Save writes the unsaved changes of live to cfg as one generation, and returns when they are on stable
// storage. ErrNotPopulated, ErrHeld, ErrReadOnly, ErrNoSpace and flock.ErrHeld say why nothing was saved.
func (o *Overlay) Save(ctx context.Context, so SaveOptions) (*Result, error) {
	if !so.DryRun {
		unlock, err := o.lock(ctx)
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	// Asked before anything else is opened, because cfg and base of a jail that is down may be missing too.
	if why := o.notPopulated(); why != nil {
		if v, err := o.Look(ctx, LookOptions{}); err == nil {
			return &Result{View: v, Generation: v.Current.Generation}, why
		}
		return nil, why
	}
	w, err := o.open(ctx, access{readOnly: so.DryRun, known: !so.Force},
		LookOptions{Dirty: so.Dirty, Rehash: so.Rehash})
	if err != nil {
		return nil, err
	}
	defer w.close()
	if w.v.NotPopulated != nil {
		return &Result{View: w.v, Generation: w.s.Manifest.Generation}, w.v.NotPopulated
	}
	return w.save(ctx, so)
}

// Unchanged scans live without opening cfg and compares it with the remembered store. If nothing is unsaved
// except what the last save left out, it returns what Save would return. It returns nil whenever that is not
// certain. If cfg is mounted on demand, this saves an idle machine the mounts.
func (o *Overlay) Unchanged(ctx context.Context, lo LookOptions) *Result {
	c := &o.cache
	if o.MountCfg == nil || c.store == nil || c.live == nil || c.last == nil || c.last.paths == nil {
		return nil
	}
	base, err := o.base(ctx)
	if err != nil || !c.sameBase(base) {
		return nil
	}
	v := o.newView(base, c.store)
	v.Free = c.last.free
	if err := o.lookLive(ctx, v, lo); err != nil || v.NotPopulated != nil || !c.last.sameUnsaved(v) {
		return nil
	}
	return c.last.resultFor(v)
}

// Unsavable tells which of the paths do not exist, and which are never saved. A save of such a path has
// nothing to do, and would look successful.
func (o *Overlay) Unsavable(ctx context.Context, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	r, err := o.Save(ctx, SaveOptions{Paths: paths, DryRun: true})
	if err != nil {
		return err
	}
	why := map[string]string{}
	for _, k := range r.Kept {
		why[k.Path] = string(k.Reason)
	}
	for _, p := range paths {
		class, reason := o.Target.Classes.Of(p)
		name := pathname.Quote(p)
		switch {
		case why[p] != "":
			err = errors.Join(err, fmt.Errorf("%s is not saved: %s", name, why[p]))
		case class == config.Volatile || class == config.Ignore:
			err = errors.Join(err, fmt.Errorf("%s is not saved: class %s: %s", name, class, reason))
		case !r.View.Has(p):
			err = errors.Join(err, fmt.Errorf("%s: %w", name, ErrUnknownPath))
		}
	}
	return err
}

// ErrUnknownPath reports a path that is in none of a target's three trees.
var ErrUnknownPath = errors.New("neither in base nor in cfg nor in live")

// maxTries bounds how often a save is planned again because files changed while they were copied.
const maxTries = 20

// save plans and commits, without what is not still.
func (w *opened) save(ctx context.Context, so SaveOptions) (*Result, error) {
	live, err := w.o.OpenLive()
	if err != nil {
		return nil, err
	}
	defer live.Close()
	exclude, asItIs := map[string]bool{}, map[string]bool{}
	for _, c := range w.v.Unsaved {
		switch so.ready(c) {
		case Unsettled:
			exclude[c.Path] = true
		case Overdue:
			asItIs[c.Path] = true
		}
	}
	cache := &w.o.cache
	if r := cache.unchanged(w.v, so); r != nil && len(exclude) == 0 {
		return r, nil
	}
	for range maxTries {
		r, p := w.plan(so, exclude, asItIs)
		if p.Empty() && len(p.Times) == 0 {
			cache.remember(r, so, len(p.Next.HandEdits) == len(w.s.Manifest.HandEdits))
			return r, w.dropTaken(ctx, p, so)
		}
		if so.DryRun {
			return r, w.guard(p, so)
		}
		err := w.commit(ctx, live, p, so)
		var u *store.UnsettledError
		if !errors.As(err, &u) {
			if err == nil {
				err = w.refresh(ctx, r)
			}
			if err == nil {
				cache.remember(r, so, false)
			}
			return r, err
		}
		for _, path := range u.Paths {
			exclude[path] = true
		}
	}
	return nil, fmt.Errorf("%s: the tree changes faster than it can be saved", w.o.Target.Name)
}

// plan plans a save without the paths of exclude, and says what it will do. The files of asItIs are saved
// even if they change meanwhile.
func (w *opened) plan(so SaveOptions, exclude, asItIs map[string]bool) (*Result, *store.Plan) {
	v, m := w.v, w.s.Manifest
	pl := store.Planner{
		Base:       v.Base.Tree,
		Saved:      v.SavedTree(),
		Live:       v.Live.WithSavedXattrs(v.SavedTree()).AsRead(asItIs),
		Plain:      v.diffs.completed,
		Old:        m,
		Class:      v.class,
		Only:       store.OnlyBelow(so.Paths),
		Exclude:    exclude,
		AsItIs:     asItIs,
		MaxFile:    w.o.Target.MaxFile,
		Force:      so.Force,
		Times:      so.Times,
		BeforeEdit: w.s.BeforeHandEdit(v.Base.Tree),
	}
	p := pl.Plan()
	p.Next.Time, p.Next.BaseID, p.Next.Message = w.o.now().UTC(), m.StandsOn(v.Base.ID), so.Message
	r := &Result{
		View:       v,
		Generation: m.Generation,
		Saved:      p.Changes,
		Times:      len(p.Times),
		Kept:       append(p.Kept, pl.Unlisted(v.Live)...),
		Conflicts:  p.Conflicts,
		Pending:    p.Pending,
		Unsettled:  slices.SortedFunc(maps.Keys(exclude), pathname.Compare),
	}
	for _, path := range p.Drops {
		if v.Live.Has(path) {
			r.Released = append(r.Released, path)
		}
	}
	return r, p
}

// guard holds a save that would drop most of what there is.
func (w *opened) guard(p *store.Plan, so SaveOptions) error {
	if so.Force {
		return nil
	}
	if err := store.Guard(w.v.Base.Tree, w.v.Live, w.s.Manifest, p); err != nil {
		return fmt.Errorf("%s: save %w; if that is meant, cfgd save --force %s", w.o.Target.Name, err,
			w.o.Target.Name)
	}
	return nil
}

func (w *opened) commit(ctx context.Context, live *dirfd.Dir, p *store.Plan, so SaveOptions) error {
	if err := w.guard(p, so); err != nil {
		return err
	}
	if w.s.ReadOnly {
		return fmt.Errorf("%s: cfg %s: %w", w.o.Target.Name, w.o.Target.Cfg, ErrReadOnly)
	}
	if err := w.s.Save(ctx, live, p); err != nil {
		return fmt.Errorf("%s: %w", w.o.Target.Name, err)
	}
	return nil
}

// refresh prunes history after a commit and makes the View show it. The save is done: a cancelled caller
// still gets its result.
func (w *opened) refresh(ctx context.Context, r *Result) error {
	ctx = context.WithoutCancel(ctx)
	s, v := w.s, w.v
	r.Generation = s.Manifest.Generation
	if err := s.Prune(ctx, func() bool { return true }); err != nil {
		v.Notices = append(v.Notices, fmt.Sprintf("drop old generations: %v", err))
	}
	if err := s.ScanPlain(ctx, s.Plain); err != nil {
		return err
	}
	v.Plain, v.Current = s.Plain, s.Manifest
	v.diffs = w.o.cache.compare(v.Base, s)
	v.diffs.with(v.Live)
	v.Stored, v.Unsaved = v.diffs.stored, v.diffs.unsaved
	return nil
}

// dropTaken drops the hand edits that live has taken, if there is nothing else to save.
func (w *opened) dropTaken(ctx context.Context, p *store.Plan, so SaveOptions) error {
	m := *w.s.Manifest
	if so.DryRun || w.s.ReadOnly || len(p.Next.HandEdits) == len(m.HandEdits) {
		return nil
	}
	m.HandEdits = p.Next.HandEdits
	return w.s.Install(ctx, nil, &m)
}
