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
	Paths   []string        // and all below them; nil is everything
	Force   bool            // save what the guard holds, and over what was changed in cfg by hand
	DryRun  bool            // compute and change nothing
	Message string          // kept with the generation
	Times   bool            // save times that moved alone
	Dirty   map[string]bool // directories of live to look at; nil is all
	Rehash  bool
	// Still, if not nil, says whether a changed entry has been still for long enough; what has not is left for later.
	Still func(tree.Change) bool
}

// Result is what a save did, or with DryRun would do.
type Result struct {
	View       *View
	Generation int // the current generation after it
	Saved      []tree.Change
	Released   []string     // overrides that went because live equals base again
	Times      int          // overrides of which the time alone was saved
	Kept       []store.Kept // what is not saved by its class or nature
	Conflicts  []string     // changed in cfg by hand and in live: left alone
	Pending    []string     // changed in cfg by hand, and not in live, which takes them at the next populate: left alone
	Unsettled  []string     // not still: left for the next save
}

// ErrReadOnly says that cfg cannot be written.
var ErrReadOnly = errors.New("read-only")

// Save writes the unsaved changes of live through to cfg as one generation, and returns when they are on stable storage.
// ErrNotPopulated, ErrHeld, ErrReadOnly, ErrNoSpace and ErrLocked say why nothing was saved.
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

// notPopulated says why there is no live tree to save, nil where there is one, before anything else is opened: the cfg and the
// base of a jail that is down need not be there either.
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

// stored is what can be told of a target that is down: what its store holds, nil where that cannot be reached now.
func (o *Overlay) stored(ctx context.Context) *Result {
	v, err := o.look(ctx, LookOptions{})
	if err != nil {
		return nil
	}
	return &Result{View: v, Generation: v.Current.Generation}
}

// maxTries bounds how often a save is planned anew because files moved on while they were copied.
const maxTries = 20

// save plans and commits, leaving out what is not still.
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
	if r := v.compared.idle(v, so, s); r != nil && len(exclude) == 0 {
		return r, nil
	}
	for range maxTries {
		r, p := o.plan(s, v, so, exclude)
		if p.Empty() && len(p.Times) == 0 {
			o.remember(r, so)
			if len(p.Next.Held) == len(s.Manifest.Held) {
				v.compared.keepNothing(r, so, s)
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

func (o *Overlay) plan(s *store.Store, v *View, so SaveOptions, exclude map[string]bool) (*Result, *store.Plan) {
	saved := v.SavedTree()
	w := &store.Planner{Base: v.Base.Tree, Saved: saved, Live: v.Live.WithSavedXattrs(saved), Plain: v.plain(),
		Old: s.Manifest, Class: v.class, Only: store.OnlyBelow(so.Paths), Exclude: exclude, Force: so.Force, Times: so.Times,
		Taken: s.TakenBefore(v.Base.Tree)}
	p := w.Plan()
	w.KeepUnlisted(v.Live)
	p.Next.Time, p.Next.BaseID, p.Next.Message = o.now().UTC(), s.Manifest.StandsOn(v.Base.ID), so.Message
	r := &Result{View: v, Generation: s.Manifest.Generation, Saved: p.Changes, Kept: w.Kept, Conflicts: w.Conflict, Pending: w.Pending}
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
		return fmt.Errorf("%s: save %w; if that is meant, cfgd save --force %s", o.Target.Name, err, o.Target.Name)
	}
	return nil
}

func (o *Overlay) commit(ctx context.Context, s *store.Store, live *dirfd.Dir, v *View, p *store.Plan, so SaveOptions) error {
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

// after finishes a save that was committed: history within its bounds, the view as it is now.
func (o *Overlay) after(r *Result, s *store.Store, v *View, p *store.Plan, err error) (*Result, error) {
	if err != nil {
		return r, err
	}
	r.Generation = s.Manifest.Generation
	ctx := context.Background() // what is saved is saved: pruning is not what a cancelled caller waits for
	if err := s.Prune(ctx, func() bool { return true }); err != nil {
		v.Notices = append(v.Notices, fmt.Sprintf("drop old generations: %v", err))
	}
	if err := s.ScanPlain(ctx, s.Plain); err != nil {
		return r, err
	}
	v.Plain, v.Current = s.Plain, s.Manifest
	v.compared = o.compare(v.Base, s)
	v.compared.with(v.Live)
	v.Stored, v.Unsaved = v.compared.stored, v.compared.unsaved
	return r, nil
}

// refreshHeld forgets held paths that live has taken, where nothing else is to be saved.
func (o *Overlay) refreshHeld(ctx context.Context, s *store.Store, p *store.Plan, so SaveOptions) error {
	if so.DryRun || s.ReadOnly || len(p.Next.Held) == len(s.Manifest.Held) {
		return nil
	}
	m := *s.Manifest
	m.Held = p.Next.Held
	return s.Install(ctx, nil, &m)
}
