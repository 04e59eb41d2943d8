package overlay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// SaveOptions say what a save is about.
type SaveOptions struct {
	Paths   []string        // and all below them; nil means everything
	Force   bool            // save what the guard holds, and overwrite what was changed in cfg by hand
	DryRun  bool            // compute only, and change nothing
	Message string          // kept with the generation
	Times   bool            // save times that changed alone
	Dirty   map[string]bool // directories of live to read; nil means all
	Rehash  bool
	// Still, if not nil, says whether a changed entry has not changed for long enough. Others are left for
	// later.
	Still func(tree.Change) bool
}

// Result is what a save did, or what it would do with DryRun.
type Result struct {
	View       *View
	Generation int // the current generation after the save
	Saved      []tree.Change
	Released   []string     // overrides dropped because live equals base again
	Times      int          // number of overrides of which only the time was saved
	Kept       []store.Kept // what is not saved because of its class or kind
	Conflicts  []string     // changed by hand in cfg, and in live too: left alone
	Pending    []string     // changed by hand in cfg alone: left alone until the next populate takes them
	Unsettled  []string     // not still: left for the next save
}

// ErrReadOnly says that cfg cannot be written.
var ErrReadOnly = errors.New("read-only")

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
	if why := o.notPopulated(); why != nil {
		return o.stored(ctx), why
	}
	base, err := o.base(ctx)
	if err != nil {
		return nil, err
	}
	s, err := o.openAny(ctx, base, so.DryRun, !so.Force)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	defer o.rest()
	v, err := o.view(ctx, base, s, LookOptions{Dirty: so.Dirty, Rehash: so.Rehash})
	if err != nil {
		return nil, err
	}
	if v.NotPopulated != nil {
		return &Result{View: v, Generation: s.Manifest.Generation}, v.NotPopulated
	}
	return o.save(ctx, s, v, so)
}

// notPopulated says why there is no live tree to save, nil if there is one. It is asked before anything else
// is opened, because cfg and base of a jail that is down may be missing too.
func (o *Overlay) notPopulated() error {
	live, err := o.OpenLive()
	if err != nil {
		if absent(err) {
			return fmt.Errorf("%w: %w", ErrNotPopulated, err)
		}
		return err
	}
	defer live.Close()
	_, err = o.populated(live)
	return err
}

// stored returns what is known of a target that is down: what its store holds, nil if that can't be read now.
func (o *Overlay) stored(ctx context.Context) *Result {
	v, err := o.look(ctx, LookOptions{})
	if err != nil {
		return nil
	}
	return &Result{View: v, Generation: v.Current.Generation}
}

// maxTries bounds how often a save is planned again because files changed while they were copied.
const maxTries = 20

// save plans and commits, without what is not still.
func (o *Overlay) save(ctx context.Context, s *store.Store, v *View, so SaveOptions) (*Result, error) {
	live, err := o.OpenLive()
	if err != nil {
		return nil, err
	}
	defer live.Close()
	exclude := map[string]bool{}
	for _, c := range v.Unsaved {
		if c.New != nil && c.New.Unread == tree.MovedOn || so.Still != nil && !so.Still(c) {
			exclude[c.Path] = true
		}
	}
	if r := v.diffs.unchanged(v, so, s); r != nil && len(exclude) == 0 {
		return r, nil
	}
	for range maxTries {
		r, p := o.plan(s, v, so, exclude)
		if p.Empty() && len(p.Times) == 0 {
			o.remember(r, so)
			if len(p.Next.Held) == len(s.Manifest.Held) {
				v.diffs.keepNoChange(r, so, s)
			}
			return r, o.refreshHeld(ctx, s, p, so)
		}
		if so.DryRun {
			return r, o.guard(v, s, p, so)
		}
		err := o.commit(ctx, s, live, v, p, so)
		var u *store.UnsettledError
		if !errors.As(err, &u) {
			if r, err = o.after(r, s, v, p, err); err == nil {
				o.remember(r, so)
			}
			return r, err
		}
		for _, path := range u.Paths {
			exclude[path] = true
		}
	}
	return nil, fmt.Errorf("%s: the tree changes faster than it can be saved", o.Target.Name)
}

func (o *Overlay) plan(
	s *store.Store, v *View, so SaveOptions, exclude map[string]bool,
) (*Result, *store.Plan) {
	saved := v.SavedTree()
	w := &store.Planner{
		Base:    v.Base.Tree,
		Saved:   saved,
		Live:    v.Live.WithSavedXattrs(saved),
		Plain:   v.plain(),
		Old:     s.Manifest,
		Class:   v.class,
		Only:    store.OnlyBelow(so.Paths),
		Exclude: exclude,
		Force:   so.Force,
		Times:   so.Times,
		Taken:   s.TakenBefore(v.Base.Tree),
	}
	p := w.Plan()
	w.KeepUnlisted(v.Live)
	p.Next.Time, p.Next.BaseID, p.Next.Message = o.now().UTC(), s.Manifest.StandsOn(v.Base.ID), so.Message
	r := &Result{
		View:       v,
		Generation: s.Manifest.Generation,
		Saved:      p.Changes,
		Kept:       w.Kept,
		Conflicts:  w.Conflict,
		Pending:    w.Pending,
	}
	r.Unsettled = slices.SortedFunc(maps.Keys(exclude), pathname.Compare)
	for _, path := range p.Drops {
		if e, ok := v.Live.Get(path); ok && e != nil {
			r.Released = append(r.Released, path)
		}
	}
	r.Times = len(p.Times)
	return r, p
}

func (o *Overlay) guard(v *View, s *store.Store, p *store.Plan, so SaveOptions) error {
	if so.Force {
		return nil
	}
	if err := store.Guard(v.Base.Tree, v.Live, s.Manifest, p); err != nil {
		return fmt.Errorf("%s: save %w; if that is meant, cfgd save --force %s", o.Target.Name, err,
			o.Target.Name)
	}
	return nil
}

func (o *Overlay) commit(
	ctx context.Context, s *store.Store, live *dirfd.Dir, v *View, p *store.Plan, so SaveOptions,
) error {
	if err := o.guard(v, s, p, so); err != nil {
		return err
	}
	if s.ReadOnly {
		return fmt.Errorf("%s: cfg %s: %w", o.Target.Name, o.Target.Cfg, ErrReadOnly)
	}
	if err := s.Save(ctx, live, p); err != nil {
		return fmt.Errorf("%s: %w", o.Target.Name, err)
	}
	return nil
}

// after finishes a committed save: it prunes history and takes a new view.
func (o *Overlay) after(r *Result, s *store.Store, v *View, p *store.Plan, err error) (*Result, error) {
	if err != nil {
		return r, err
	}
	r.Generation = s.Manifest.Generation
	ctx := context.Background() // the save is done: a cancelled caller still gets its result
	if err := s.Prune(ctx, func() bool { return true }); err != nil {
		v.Notices = append(v.Notices, fmt.Sprintf("drop old generations: %v", err))
	}
	if err := s.ScanPlain(ctx, s.Plain); err != nil {
		return r, err
	}
	v.Plain, v.Current = s.Plain, s.Manifest
	v.diffs = o.compare(v.Base, s)
	v.diffs.with(v.Live)
	v.Stored, v.Unsaved = v.diffs.stored, v.diffs.unsaved
	return r, nil
}

// refreshHeld drops held paths that live has taken, if there is nothing else to save.
func (o *Overlay) refreshHeld(ctx context.Context, s *store.Store, p *store.Plan, so SaveOptions) error {
	if so.DryRun || s.ReadOnly || len(p.Next.Held) == len(s.Manifest.Held) {
		return nil
	}
	m := *s.Manifest
	m.Held = p.Next.Held
	return s.Install(ctx, nil, &m)
}
