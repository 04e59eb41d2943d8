package overlay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/merge"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// merger returns the Merger of a generation with the store's base.
func (o *Overlay) merger(s *store.Store, m *store.Manifest) *merge.Merger {
	return &merge.Merger{
		Base:   s.Base,
		Cfg:    m,
		Policy: o.policy(),
		Class:  o.classOf(s),
		Read:   s.Content,
		Tools:  o.Tools,
		Texts:  &o.Bases.texts,
		Xattrs: !s.Plain.NoXattrs && !s.Base.Tree.NoXattrs,
		Max:    min(s.Most(), maxMerged),
		Now:    o.now(),
		Etc:    o.Target.Live,
	}
}

// policy says whose version is taken if both were changed.
func (o *Overlay) policy() config.OnConflict { return cmp.Or(o.Target.OnConflict, config.ConflictMine) }

// maxMerged is the size in bytes above which no text is merged.
const maxMerged = 8 << 20

// mergeStore merges cfg with the store's base as a generation of its own, all of it or nothing. It returns
// nil if there was nothing to merge.
func (o *Overlay) mergeStore(ctx context.Context, s *store.Store) (*merge.Result, error) {
	if !s.Outdated() {
		return nil, nil
	}
	if s.ReadOnly {
		return nil, fmt.Errorf("cfg %s: %w", o.Target.Cfg, ErrReadOnly)
	}
	w := o.merger(s, s.Manifest)
	w.Prior = merge.PriorBaseOf(s, s.Base.ID)
	within, cancel := context.WithTimeout(ctx, mergeWithin)
	defer cancel()
	r, err := w.Run(within)
	if err != nil {
		return nil, err
	}
	r.Next.Merges = s.Manifest.WithMerge()
	return r, s.Rewrite(ctx, r.Next, w.Open)
}

// mergeWithin bounds the time that a merge adds to a start. A jail that fills its cfg with texts that are
// slow to compare still starts, unmerged.
const mergeWithin = 30 * time.Second

// mergedStore opens the store for a populate, merged with the base. A failed merge never fails a start: cfg
// is then laid over the new defaults as it is, and failed says why.
func (o *Overlay) mergedStore(
	ctx context.Context, base *store.Base,
) (s *store.Store, m *merge.Result, failed error, err error) {
	if s, err = o.openStore(ctx, base, false); err != nil {
		return nil, nil, nil, err
	}
	if m, failed = o.mergeStore(ctx, s); failed == nil || ctx.Err() != nil {
		return s, m, failed, ctx.Err()
	}
	if errors.Is(failed, ErrReadOnly) {
		return s, nil, failed, nil
	}
	if err := s.Close(); err != nil { // the reopened store is the old generation or the new one
		return nil, nil, nil, err
	}
	o.store = nil
	if s, err = o.openStore(ctx, base, false); err != nil {
		return nil, nil, nil, err
	}
	if !s.Outdated() {
		return s, m, nil, nil
	}
	return s, nil, failed, nil
}

// PlanMerge computes what a merge with a base would do. If live is populated, its unsaved changes count as
// saved, because stopping the target saves them. It writes nothing.
func (o *Overlay) PlanMerge(ctx context.Context, to BaseRef) (*merge.Result, error) {
	base, err := o.Bases.get(ctx, o, to, false)
	if err != nil {
		return nil, err
	}
	w, err := o.wouldSave(ctx)
	if err != nil {
		return nil, err
	}
	s, err := o.openStore(ctx, base, true)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if w.manifest == nil {
		w.manifest = s.Manifest
	}
	mg := o.merger(s, w.manifest)
	mg.Read = func(e *tree.Entry) ([]byte, error) { return o.savedOrLive(s, w, e) }
	mg.Prior = merge.PriorBaseOf(s, base.ID)
	return mg.Run(ctx)
}

// wouldSave is what a save would do now: a manifest, and where its contents are. The manifest is nil if
// nothing is unsaved, live is not populated, or its base can't be read.
type wouldSave struct {
	manifest *store.Manifest
	live     *tree.Tree
	base     *store.Base
}

func (o *Overlay) wouldSave(ctx context.Context) (w wouldSave, err error) {
	if o.notPopulated() != nil {
		return w, nil
	}
	base, err := o.base(ctx)
	if err != nil {
		return w, nil
	}
	s, err := o.openStore(ctx, base, true)
	if err != nil {
		return w, err
	}
	defer s.Close()
	defer o.rest()
	v, err := o.view(ctx, base, s, LookOptions{})
	if err != nil || v.NotPopulated != nil {
		return w, err
	}
	_, p := o.plan(s, v, SaveOptions{DryRun: true}, nil)
	if p.Empty() {
		return w, nil
	}
	return wouldSave{p.Next, v.Live, base}, nil
}

// savedOrLive reads the content of e from cfg, from live if a save would copy it from there, or from live's
// default.
func (o *Overlay) savedOrLive(s *store.Store, w wouldSave, e *tree.Entry) ([]byte, error) {
	b, err := s.Content(e)
	if err == nil || e.Kind != dirfd.KindFile {
		return b, err
	}
	if d := w.base.Here(e); d != nil {
		return w.base.Content(d)
	}
	if l, ok := w.live.Get(e.Path); !ok || l.Kind != dirfd.KindFile || l.Digest != e.Digest {
		return nil, err
	}
	root, err := o.OpenLive()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := tree.OpenFile(root, e.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, e.Size+1))
}

// Before returns the id of cfg's base before the present one, "" if it is not known.
func (o *Overlay) Before(ctx context.Context) (id string, err error) {
	err = o.reading(ctx, func(s *store.Store, _ *store.Base) error {
		for _, n := range slices.Backward(s.Manifest.Merges) {
			m, err := s.Generation(n)
			if err != nil {
				return err
			}
			if m.From != s.Manifest.BaseID {
				id = m.From
				return nil
			}
		}
		return nil
	})
	return id, err
}
