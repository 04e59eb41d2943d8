package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// TrialNote is the note about a system on trial. It must survive a restart of a machine on which only cfg is
// writable, so it stands in the store.
type TrialNote struct{ o *Overlay }

// TrialNote returns the note. It opens nothing yet.
func (o *Overlay) TrialNote() TrialNote { return TrialNote{o} }

// noteTrial is the only note that a store may hold beside its own files.
const noteTrial = "trial"

// maxNote bounds a note, in bytes.
const maxNote = 4 << 10

// Read reads the note. If there is none, the error is fs.ErrNotExist.
func (n TrialNote) Read(ctx context.Context) (b []byte, err error) {
	err = n.o.History().reading(ctx, func(s *store.Store, _ *store.Base) error {
		if s.Meta == nil {
			return fs.ErrNotExist
		}
		b, err = s.Meta.ReadFile(noteTrial, maxNote)
		return err
	})
	return b, err
}

// Write replaces the note and syncs it. Nil removes it.
func (n TrialNote) Write(ctx context.Context, b []byte) error {
	o := n.o
	unlock, err := o.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	base, err := o.base(ctx)
	if err != nil {
		return err
	}
	s, err := o.openStore(ctx, base, toWrite)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := store.Fits("note", b, maxNote); err != nil {
		return err
	}
	if s.ReadOnly {
		return fmt.Errorf("cfg %s: %w", o.Target.Cfg, ErrReadOnly)
	}
	if b == nil {
		err = s.Meta.Unlink(noteTrial)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	} else {
		err = s.ReplaceFile(noteTrial, b)
	}
	if err != nil {
		return err
	}
	return s.Meta.Sync()
}
