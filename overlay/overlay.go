package overlay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cfgd/config"
	"cfgd/merge"
	"cfgd/overlay/store"
)

// Overlay has the verbs of one target. It opens the three trees when they are needed and closes them at once
// after. Between two calls no descriptor below any of them is open, so that they can be unmounted. One
// goroutine at a time uses an Overlay.
type Overlay struct {
	LiveTree
	// Bases keeps scans of base. Targets on the same base may share it.
	Bases *Bases
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Tools are the system's tools that merges need.
	Tools merge.Tools
	// MountCfg mounts cfg, writable if write is set, and returns the function that unmounts it. It is set if
	// cfg is mounted only while it is needed, and nil if it is always reachable.
	MountCfg func(ctx context.Context, write bool) (unmount func() error, err error)

	cache diffCache
}

// New returns the overlay of a target of the model. It opens nothing yet.
func New(m *config.Model, t *config.Target) *Overlay {
	trees := Trees{Target: t, path: m.Path, mounts: m.Root == "" && t.CfgMount}
	return &Overlay{LiveTree: LiveTree{Trees: trees, RunDir: m.RunDir()}, Bases: NewBases()}
}

func (o *Overlay) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// Forget drops what is remembered of live and cfg, so that the next look reads everything.
func (o *Overlay) Forget() { o.cache = diffCache{} }

// ErrReadOnly says that cfg cannot be written.
var ErrReadOnly = errors.New("read-only")

// base returns the scan of live's current base, from the cache if it is valid.
func (o *Overlay) base(ctx context.Context) (*store.Base, error) {
	g, err := o.currentBase()
	if err != nil {
		return nil, err
	}
	return o.scanBase(ctx, g, true)
}

// scanBase returns the scan of a base, from the cache if it is valid.
func (o *Overlay) scanBase(ctx context.Context, g BaseRef, content bool) (*store.Base, error) {
	return o.Bases.get(ctx, &o.Trees, o.now, g, content)
}

// access says how a store is opened.
type access struct {
	readOnly bool
	known    bool // it must continue the store that live was populated from
}

// The usual ways to open a store. Who writes holds the target's lock.
var (
	toRead  = access{readOnly: true}
	toWrite = access{known: true}
)

// openStore opens cfg's store. The caller closes it.
func (o *Overlay) openStore(ctx context.Context, base *store.Base, how access) (*store.Store, error) {
	unmount := func() error { return nil }
	if o.MountCfg != nil {
		var err error
		if unmount, err = o.MountCfg(ctx, !how.readOnly); err != nil {
			return nil, fmt.Errorf("cfg: %w", err)
		}
	}
	cfg, err := o.OpenCfg()
	if err != nil {
		return nil, errors.Join(err, unmount())
	}
	if how.known {
		if err := o.continues(cfg); err != nil {
			cfg.Close()
			return nil, errors.Join(err, unmount())
		}
	}
	s, err := store.Open(ctx, cfg, store.Options{
		ReadOnly:        how.readOnly,
		Base:            base,
		Prev:            o.cache.store,
		KeepGenerations: o.Target.KeepGenerations,
		KeepBytes:       o.Target.KeepBytes,
		MaxFile:         o.Target.MaxFile,
		Now:             o.Now,
	})
	if err != nil {
		return nil, errors.Join(err, unmount())
	}
	s.Unmount = unmount
	if !how.readOnly {
		s.Remember = func() { _ = o.rememberStore(s) } // without the record, any store is accepted
	}
	o.cache.store = s
	return s, nil
}
