package overlay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/merge"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// PlanMerge computes what a merge with a base would do. If live is populated, its unsaved changes count as
// saved, because stopping the target saves them. It writes nothing.
func (o *Overlay) PlanMerge(ctx context.Context, to BaseRef) (*merge.Result, error) {
	base, err := o.scanBase(ctx, to, false)
	if err != nil {
		return nil, err
	}
	w, err := plannedSave(ctx, o)
	if err != nil {
		return nil, err
	}
	s, err := o.openStore(ctx, base, toRead)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if w.manifest == nil {
		w.manifest = s.Manifest
	}
	mg := mergerOf(o, s, w.manifest)
	mg.Read = func(e *tree.Entry) ([]byte, error) { return w.read(s, e) }
	mg.Prior = merge.PriorBaseOf(s, base.ID)
	return mg.Run(ctx)
}

// mergerOf returns the Merger of a generation with the store's base.
func mergerOf(o *Overlay, s *store.Store, m *store.Manifest) *merge.Merger {
	return &merge.Merger{
		Base:   s.Base,
		Cfg:    m,
		Policy: policyOf(o.Target),
		Class:  classOf(o.Target, s.Ignored),
		Read:   s.Content,
		Tools:  o.Tools,
		Texts:  &o.Bases.texts,
		Xattrs: !s.Plain.NoXattrs && !s.Base.Tree.NoXattrs,
		Max:    min(s.Most(), maxMerged),
		Now:    o.now(),
		Etc:    o.Target.Live,
	}
}

// policyOf says whose version is taken if both were changed.
func policyOf(t *config.Target) config.OnConflict { return cmp.Or(t.OnConflict, config.ConflictMine) }

// maxMerged is the size in bytes above which no text is merged.
const maxMerged = 8 << 20

// mergeWithin bounds the time that a merge adds to a start. A jail that fills its cfg with texts that are
// slow to compare still starts, unmerged.
const mergeWithin = 30 * time.Second

// mergedStore is a store that was opened for a populate, merged with its base.
type mergedStore struct {
	*store.Store
	merge    *merge.Result // nil if there was nothing to merge or the merge failed
	unmerged error         // why the merge failed
}

// openMerged opens the store for a populate, and merges it with the base. A failed merge never fails a start:
// cfg is then laid over the new defaults as it is.
func openMerged(ctx context.Context, o *Overlay, base *store.Base) (*mergedStore, error) {
	s, err := o.openStore(ctx, base, toWrite)
	if err != nil {
		return nil, err
	}
	if failed := remakeEdited(ctx, o, s); failed != nil {
		if s, err = reopen(ctx, o, base, s); err != nil {
			return nil, err
		}
		s.Notices = append(s.Notices,
			fmt.Sprintf("what is made of files that were changed in cfg is not made anew: %v", failed))
	}
	r, failed := mergeStore(ctx, o, s)
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if failed == nil {
		return &mergedStore{s, r, nil}, nil
	}
	if errors.Is(failed, ErrReadOnly) {
		return &mergedStore{s, nil, failed}, nil
	}
	if s, err = reopen(ctx, o, base, s); err != nil {
		return nil, err
	}
	if !s.Outdated() {
		return &mergedStore{s, r, nil}, nil
	}
	return &mergedStore{s, nil, failed}, nil
}

// reopen opens a store again in which a rewrite failed. It is then the old generation or the new one.
func reopen(ctx context.Context, o *Overlay, base *store.Base, s *store.Store) (*store.Store, error) {
	if err := s.Close(); err != nil {
		return nil, err
	}
	o.cache.store = nil
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return o.openStore(ctx, base, toWrite)
}

// mergeStore merges cfg with the store's base as a generation of its own, all of it or nothing. It returns
// nil if there was nothing to merge.
func mergeStore(ctx context.Context, o *Overlay, s *store.Store) (*merge.Result, error) {
	if !s.Outdated() {
		return nil, nil
	}
	if s.ReadOnly {
		return nil, fmt.Errorf("cfg %s: %w", o.Target.Cfg, ErrReadOnly)
	}
	w := mergerOf(o, s, s.Manifest)
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

// wouldSave is what a save would do now: a manifest, and where its contents are. The manifest is nil if
// nothing is unsaved, live is not populated, or its base can't be read.
type wouldSave struct {
	manifest *store.Manifest
	contentSources
}

func plannedSave(ctx context.Context, o *Overlay) (wouldSave, error) {
	if o.notPopulated() != nil {
		return wouldSave{}, nil
	}
	if _, err := o.base(ctx); err != nil {
		return wouldSave{}, nil
	}
	w, err := o.open(ctx, toRead, LookOptions{})
	if err != nil {
		return wouldSave{}, err
	}
	defer w.close()
	if w.v.NotPopulated != nil {
		return wouldSave{}, nil
	}
	_, p := w.plan(SaveOptions{DryRun: true}, nil, nil)
	if p.Empty() {
		return wouldSave{}, nil
	}
	return wouldSave{p.Next, w.sources()}, nil
}

// contentSources are where the contents of saved and unsaved files are.
type contentSources struct {
	live     *tree.Tree
	base     *store.Base
	openLive func() (*dirfd.Dir, error)
}

func (w *opened) sources() contentSources { return contentSources{w.v.Live, w.v.Base, w.o.OpenLive} }

// read reads the content of e from cfg, from live if a save would copy it from there, or from live's default.
func (c contentSources) read(s *store.Store, e *tree.Entry) ([]byte, error) {
	b, err := s.Content(e)
	if err == nil || e.Kind != dirfd.KindFile {
		return b, err
	}
	if d := c.base.Here(e); d != nil {
		return c.base.Content(d)
	}
	if c.live == nil {
		return nil, err
	}
	if l, ok := c.live.Get(e.Path); !ok || l.Kind != dirfd.KindFile || l.Digest != e.Digest {
		return nil, err
	}
	root, err := c.openLive()
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
