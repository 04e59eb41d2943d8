package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/merge"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Overlay opens a target's three trees when they are needed and closes them at once after. Between two calls
// no descriptor below any of them is open, so that they can be unmounted. One goroutine at a time uses an
// Overlay.
type Overlay struct {
	Target *config.Target
	// RunDir holds locks and records: /var/run/cfgd.
	RunDir string
	// Bases keeps scans of base. Targets on the same base may share it.
	Bases *Bases
	// Hook is called before every change of live and cfg, for tests. It may be nil.
	Hook dirfd.Hook
	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// Tools are the system's tools that merges need.
	Tools merge.Tools

	// MountCfg mounts cfg, writable if write is set, and returns the function that unmounts it. It is set if
	// cfg is mounted only while it is needed, and nil if it is always reachable.
	MountCfg func(ctx context.Context, write bool) (unmount func() error, err error)

	// CfgAt and LiveAt are the directories to use if cfg and live are not at their own places, else "". They
	// are paths of the host. The directory CfgAt must hold a store already.
	CfgAt, LiveAt string
	// Known replaces the target's record; nil means to read it. It is for a live tree of an earlier start
	// while a later one has the record.
	Known *Record

	path   func(string) string // puts --root before a path of the model
	mounts bool                // fstab mounts cfg, and --root is not given

	live         *tree.Tree
	ignoredPaths map[string]bool // the paths that NanoBSD ignores, as of the last scan of live
	store        *store.Store    // the last opening; its scan and manifest are reused
	last         *lastResult     // set if cfg is mounted on demand

	diffs *diffCache
}

// New returns the overlay of a target of the model. It opens nothing yet.
func New(m *config.Model, t *config.Target) *Overlay {
	return &Overlay{
		Target: t,
		RunDir: m.RunDir(),
		Bases:  NewBases(),
		path:   m.Path,
		mounts: m.Root == "" && t.CfgMount,
	}
}

func (o *Overlay) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// Path puts --root's directory before a path of the model.
func (o *Overlay) Path(p string) string { return o.path(p) }

// openTree opens the root of one of the target's trees.
func (o *Overlay) openTree(p string) (*dirfd.Dir, error) {
	root, rel := o.below(p)
	if rel == "" {
		return dirfd.Open(o.path(root), o.Hook)
	}
	return dirfd.OpenBelow(o.path(root), rel, o.Hook)
}

// below splits the path of a tree into a trusted root and the rest. The jail's own root is the
// administrator's and trusted. What is below it is the jail's, and no link in it is followed. A tree
// elsewhere is the administrator's altogether.
func (o *Overlay) below(p string) (root, rel string) {
	root = strings.TrimSuffix(o.Target.Root, "/")
	if o.Target.Host() || root == "" || !strings.HasPrefix(p, root+"/") {
		return p, ""
	}
	return root, strings.Trim(strings.TrimPrefix(p, root), "/")
}

// OpenLive opens the root of the live tree.
func (o *Overlay) OpenLive() (*dirfd.Dir, error) {
	open := func() (*dirfd.Dir, error) { return o.openTree(o.Target.Live) }
	if o.LiveAt != "" {
		open = func() (*dirfd.Dir, error) { return dirfd.Open(o.LiveAt, o.Hook) }
	}
	d, err := open()
	if err != nil {
		return nil, fmt.Errorf("live: %w", err)
	}
	return d, nil
}

// ErrNotMounted says that cfg's path is only the directory that fstab mounts it on.
var ErrNotMounted = errors.New("not mounted")

// OpenCfg opens the root of cfg. If fstab mounts cfg and the mount is missing, the directory below it is
// refused: an empty one would look like a cfg from which everything was deleted, and the mount would hide a
// store made in it.
func (o *Overlay) OpenCfg() (*dirfd.Dir, error) {
	if o.CfgAt != "" {
		return o.openCfgAt()
	}
	d, err := o.openTree(o.Target.Cfg)
	if err != nil {
		return nil, fmt.Errorf("cfg: %w", err)
	}
	if !o.mounts {
		return d, nil
	}
	on, err := d.MountRoot()
	if err == nil && !on {
		err = fmt.Errorf("%s: %w; fstab %s mounts it", o.Target.Cfg, ErrNotMounted, o.Target.Fstab)
		if !o.Target.Host() {
			err = fmt.Errorf("%w; if the jail does not run, cfgd jail cleanup %s clears what is left of it",
				err, o.Target.Name)
		}
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("cfg: %w", err)
	}
	return d, nil
}

// ErrNoStore says that CfgAt holds no store.
var ErrNoStore = errors.New("no store of cfgd in it")

// openCfgAt opens cfg at CfgAt. That directory may be the mountpoint of something that is not mounted. So it
// must hold a store already, and none is made.
func (o *Overlay) openCfgAt() (*dirfd.Dir, error) {
	d, err := dirfd.Open(o.CfgAt, o.Hook)
	if err != nil {
		return nil, fmt.Errorf("cfg: %w", err)
	}
	if st, err := d.Stat(tree.MetaName); err != nil || st.Kind != dirfd.KindDir {
		d.Close()
		return nil, fmt.Errorf("cfg: %s: %w", o.CfgAt, ErrNoStore)
	}
	return d, nil
}

// BaseRef names a base: its path in the model and its id. The id is "" if only the digest can identify the
// base.
type BaseRef struct{ Path, ID string }

// Next returns the base that the next populate takes.
func (o *Overlay) Next() BaseRef { return BaseRef{o.Target.Base, o.Target.BaseID} }

// currentBase returns the base that live was populated from, whatever the configuration says of the next
// start. If live is not populated, it returns the next one.
func (o *Overlay) currentBase() (BaseRef, error) {
	r, err := o.Record()
	if err != nil || r == nil || r.BasePath == "" || r.State != Populated {
		return o.Next(), err
	}
	live, err := o.OpenLive()
	if err != nil {
		if absent(err) {
			return o.Next(), nil
		}
		return BaseRef{}, err
	}
	defer live.Close()
	if id, err := live.Identity(); err != nil || id != r.Identity {
		return o.Next(), err
	}
	g := BaseRef{r.BasePath, r.BaseID}
	if g.Path == o.Target.Base && o.Target.BaseID == "" {
		g.ID = "" // a plain tree may change in place; its digest shows it
	}
	return g, nil
}

// openBase opens the root of a base.
func (o *Overlay) openBase(g BaseRef) (*dirfd.Dir, error) {
	d, err := OpenSnapshot(o.path(g.Path))
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	return d, nil
}

// base returns the scan of live's current base, from the cache if it is valid.
func (o *Overlay) base(ctx context.Context) (*store.Base, error) {
	g, err := o.currentBase()
	if err != nil {
		return nil, err
	}
	return o.Bases.get(ctx, o, g, true)
}

// openStore opens cfg's store. The caller closes it, and holds the lock unless it only reads. A store that is
// opened for writing must continue the one that live was populated from.
func (o *Overlay) openStore(ctx context.Context, base *store.Base, readOnly bool) (*store.Store, error) {
	return o.openAny(ctx, base, readOnly, !readOnly)
}

// openAny opens cfg's store. If known is set, it must be the one that live was populated from.
func (o *Overlay) openAny(ctx context.Context, base *store.Base, readOnly, known bool) (*store.Store, error) {
	unmount := func() error { return nil }
	if o.MountCfg != nil {
		var err error
		if unmount, err = o.MountCfg(ctx, !readOnly); err != nil {
			return nil, fmt.Errorf("cfg: %w", err)
		}
	}
	cfg, err := o.OpenCfg()
	if err != nil {
		return nil, errors.Join(err, unmount())
	}
	if known {
		if err := o.continues(cfg); err != nil {
			cfg.Close()
			return nil, errors.Join(err, unmount())
		}
	}
	s, err := store.Open(ctx, cfg, store.Options{
		ReadOnly:        readOnly,
		Base:            base,
		Prev:            o.store,
		KeepGenerations: o.Target.KeepGenerations,
		KeepBytes:       o.Target.KeepBytes,
		MaxFile:         o.Target.MaxFile,
		Now:             o.Now,
	})
	if err != nil {
		return nil, errors.Join(err, unmount())
	}
	s.Unmount = unmount
	if !readOnly {
		s.Remember = func() { _ = o.rememberStore(s) } // without the record, any store is accepted
	}
	o.store = s
	return s, nil
}

// classOf returns the class of a path. What NanoBSD's cfg/.ignore lists is of class ignore.
func (o *Overlay) classOf(s *store.Store) func(string) config.Class {
	return func(path string) config.Class {
		if s != nil && s.Ignored[path] {
			return config.Ignore
		}
		c, _ := o.Target.Classes.Of(path)
		return c
	}
}

// LookOptions say how much Look reads.
type LookOptions struct {
	Dirty  map[string]bool // directories of live to read; nil means all
	Rehash bool            // read all contents of live again
	// Lock takes the target's lock and writes: it finishes an interrupted save, and adopts what was changed
	// in cfg by hand.
	Lock bool
}

// View is what a look found: three trees and the differences between them.
type View struct {
	Time    time.Time // when the look began: the trees hold what was saved by then
	Base    *store.Base
	Live    *tree.Tree // nil if live is not populated
	Plain   *tree.Tree
	Current *store.Manifest

	Local   []tree.Change // live against base
	Unsaved []tree.Change // live against the saved tree
	Stored  []tree.Change // the saved tree against base

	// NotPopulated says why there is no live tree. It is nil if there is one.
	NotPopulated error
	Notices      []string
	Adopted      []string
	Free         uint64 // bytes left in cfg's filesystem
	ReadOnly     bool   // cfg is read-only

	class        func(string) config.Class
	ignoredPaths map[string]bool
	diffs        *diffCache
}

// Class returns the class of a path.
func (v *View) Class(path string) config.Class { return v.class(path) }

// SavedTree returns the saved tree: what the next start will produce.
func (v *View) SavedTree() *tree.Tree {
	if v.diffs.plain == v.Plain && v.diffs.manifest == v.Current {
		return v.diffs.saved()
	}
	return tree.Saved(v.Base.Tree, v.plain(), v.Current.Removals)
}

// Unmerged returns the id of the base that cfg was made against, if live has another base and the two were
// not merged; else "".
func (v *View) Unmerged() string {
	if m := v.Current; v.NotPopulated == nil && m != nil && m.Generation > 0 && m.BaseID != v.Base.ID &&
		len(m.Overrides)+len(m.Removals) > 0 {
		return m.BaseID
	}
	return ""
}

// Held reports whether a path was changed in cfg by hand and live has not taken it yet.
func (v *View) Held(path string) bool { return v.Current != nil && v.Current.Holds(path) }

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
	return o.look(ctx, lo)
}

func (o *Overlay) look(ctx context.Context, lo LookOptions) (*View, error) {
	base, err := o.base(ctx)
	if err != nil {
		return nil, err
	}
	s, err := o.openStore(ctx, base, !lo.Lock)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	defer o.rest()
	return o.view(ctx, base, s, lo)
}

// view makes a View of an open store.
func (o *Overlay) view(ctx context.Context, base *store.Base, s *store.Store, lo LookOptions) (*View, error) {
	v := &View{
		Time:         o.now(),
		Base:         base,
		Plain:        s.Plain,
		Current:      s.Manifest,
		Notices:      s.Notices,
		Adopted:      s.Adopted,
		ReadOnly:     s.ReadOnly,
		class:        o.classOf(s),
		ignoredPaths: s.Ignored,
	}
	if space, err := s.Cfg.Space(); err == nil {
		v.Free = space.Free
	}
	v.diffs = o.compare(base, s)
	v.Stored = v.diffs.stored
	if err := o.lookLive(ctx, v, lo); err != nil {
		return nil, err
	}
	return v, nil
}

// plain returns the plain tree with what only the manifest can hold: immutable flags, attributes.
func (v *View) plain() *tree.Tree {
	if v.diffs.plain == v.Plain && v.diffs.manifest == v.Current {
		return v.diffs.withManifestAttrs
	}
	return store.WithManifest(v.Base.Tree, v.Plain, v.Current)
}

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
	return o.scanLive(ctx, live, v, lo, r.Refused)
}

func (o *Overlay) scanLive(ctx context.Context, live *dirfd.Dir, v *View, lo LookOptions, refused []tree.Refused) error {
	if !maps.Equal(o.ignoredPaths, v.ignoredPaths) {
		o.live, o.ignoredPaths = nil, v.ignoredPaths
	}
	space, err := live.Space()
	if err != nil {
		return err
	}
	t, err := tree.Scan(ctx, live, tree.ScanOptions{
		Prev:        o.live,
		Dirty:       lo.Dirty,
		Rehash:      lo.Rehash,
		StillXattrs: space.StillXattrs,
		MaxFile:     o.Target.MaxFile,
		Names:       v.Base.Tree,
		Now:         o.Now,
		Ignore:      o.ignored(v.class),
	})
	if err != nil {
		return fmt.Errorf("scan live: %w", err)
	}
	o.live, v.Live = t, v.diffs.withRefused(t, refused)
	v.diffs.with(v.Live)
	v.Local, v.Unsaved = v.diffs.local, v.diffs.unsaved
	return nil
}

// ignored leaves out files of class ignore, but not a whole directory that the pattern matches.
func (o *Overlay) ignored(class func(string) config.Class) func(string, dirfd.Kind) bool {
	return func(path string, kind dirfd.Kind) bool {
		return kind != dirfd.KindDir && class(path) == config.Ignore
	}
}

func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || tree.NotSame(err)
}
