package overlay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/internal/dirfd"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// LookOptions say how much Look reads.
type LookOptions struct {
	Dirty  map[string]bool // directories of live to read; nil means all
	Rehash bool            // read all contents of live again
	// Lock takes the target's lock and writes: it finishes an interrupted save, and adopts what was changed
	// in cfg by hand.
	Lock bool
}

// Look scans base, cfg and live and compares them. If there is no live tree, that is not an error: it sets
// View.NotPopulated.
func (o *Overlay) Look(ctx context.Context, lo LookOptions) (*View, error) {
	if lo.Lock {
		unlock, err := o.lock(ctx)
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	w, err := o.open(ctx, access{readOnly: !lo.Lock, known: lo.Lock}, lo)
	if err != nil {
		return nil, err
	}
	defer w.close()
	return w.v, nil
}

// opened is a target at work: its store is open, and its three trees were looked at.
type opened struct {
	o *Overlay
	s *store.Store
	v *View
}

// open opens the store and looks at the three trees. The caller closes it.
func (o *Overlay) open(ctx context.Context, how access, lo LookOptions) (*opened, error) {
	base, err := o.base(ctx)
	if err != nil {
		return nil, err
	}
	s, err := o.openStore(ctx, base, how)
	if err != nil {
		return nil, err
	}
	w := &opened{o: o, s: s}
	if err := w.look(ctx, base, lo); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *opened) close() {
	w.o.cache.rest()
	w.s.Close()
}

// atWork runs f under the target's lock, with the store open for writing.
func (o *Overlay) atWork(ctx context.Context, f func(*opened) error) error {
	unlock, err := o.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	w, err := o.open(ctx, toWrite, LookOptions{})
	if err != nil {
		return err
	}
	defer w.close()
	return f(w)
}

// look makes the View of the open store, base and live.
func (w *opened) look(ctx context.Context, base *store.Base, lo LookOptions) error {
	v := w.o.newView(base, w.s)
	v.Notices, v.Adopted = w.s.Notices, w.s.Adopted
	if space, err := w.s.Cfg.Space(); err == nil {
		v.Free = space.Free
	}
	w.v = v
	return w.o.lookLive(ctx, v, lo)
}

// newView makes a View without live.
func (o *Overlay) newView(base *store.Base, s *store.Store) *View {
	diffs := o.cache.compare(base, s)
	return &View{
		Time:     o.now(),
		Base:     base,
		Plain:    s.Plain,
		Current:  s.Manifest,
		Stored:   diffs.stored,
		ReadOnly: s.ReadOnly,
		class:    classOf(o.Target, s.Ignored),
		ignored:  s.Ignored,
		diffs:    diffs,
		trees:    &o.Trees,
	}
}

// classOf returns the function that returns the class of a path. What NanoBSD's cfg/.ignore lists is of class
// ignore.
func classOf(t *config.Target, ignored map[string]bool) func(string) config.Class {
	return func(path string) config.Class {
		if ignored[path] {
			return config.Ignore
		}
		c, _ := t.Classes.Of(path)
		return c
	}
}

// lookLive adds live to a View.
func (o *Overlay) lookLive(ctx context.Context, v *View, lo LookOptions) error {
	live, err := o.OpenLive()
	if err != nil {
		if !absent(err) {
			return err
		}
		v.NotPopulated = fmt.Errorf("%w: %w", ErrNotPopulated, err)
		return nil
	}
	defer live.Close()
	r, err := o.populated(live)
	if err != nil {
		if errors.Is(err, ErrNotPopulated) {
			v.NotPopulated = err
			return nil
		}
		return err
	}
	t, err := o.cache.scanLive(ctx, live, v, lo, o.Now)
	if err != nil {
		return err
	}
	v.setLive(t, r.Refused)
	return nil
}

// scanLive scans live, and reads no more than what changed since the last scan.
func (c *diffCache) scanLive(
	ctx context.Context, live *dirfd.Dir, v *View, lo LookOptions, now func() time.Time,
) (*tree.Tree, error) {
	if !maps.Equal(c.ignored, v.ignored) {
		c.live, c.ignored = nil, v.ignored
	}
	space, err := live.Space()
	if err != nil {
		return nil, err
	}
	t, err := tree.Scan(ctx, live, tree.ScanOptions{
		Prev:        c.live,
		Dirty:       lo.Dirty,
		Rehash:      lo.Rehash,
		StillXattrs: space.StillXattrs,
		MaxFile:     v.trees.Target.MaxFile,
		Names:       v.Base.Tree,
		Now:         now,
		// files of class ignore, but not a whole directory that the pattern matches
		Ignore: func(path string, kind dirfd.Kind) bool {
			return kind != dirfd.KindDir && v.class(path) == config.Ignore
		},
	})
	if err != nil {
		return nil, fmt.Errorf("scan live: %w", err)
	}
	c.live = t
	return t, nil
}

// Problems returns what is wrong with the target's trees: a base that does not exist, a cfg that can't be
// read, a damaged store. It changes nothing. A jail that is down need not have anything mounted. embedded
// means that nothing is mounted at all: then only a cfg that does not exist is no problem of such a jail.
func (o *Overlay) Problems(ctx context.Context, embedded bool) []conffile.Problem {
	t := o.Target
	v, err := o.Look(ctx, LookOptions{})
	if err != nil {
		if st, serr := o.State(); serr == nil && !st.Populated && (!embedded || !o.hasCfg()) {
			return nil // the start mounts or makes what is missing
		}
		at := t.Origin["base"]
		return []conffile.Problem{{
			Severity: conffile.SeverityError, File: at.File, Line: at.Line, Target: t.Name,
			Message: t.Name + ": " + err.Error(), Fix: "mount or make it, or mend the line",
		}}
	}
	var out []conffile.Problem
	for _, n := range v.Notices {
		out = append(out, conffile.Problem{
			Severity: conffile.SeverityWarning, File: t.Cfg, Target: t.Name, Message: n,
			Fix: "run: cfgd save " + t.Name,
		})
	}
	return out
}
