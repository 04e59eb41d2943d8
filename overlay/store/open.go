package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Options say how a store is opened.
type Options struct {
	ReadOnly        bool // write nothing at all
	Base            *Base
	Prev            *Store // an earlier opening; its scan and manifest are reused
	KeepGenerations int
	KeepBytes       int64
	MaxFile         int64 // bytes; the content of a larger file is not read
	Now             func() time.Time
}

// Open opens the store in cfg and takes over cfg's descriptor. It finishes or undoes an interrupted commit,
// keeps damaged files as .cfgd/tmp/damaged-*, and adopts changes of the plain tree as a generation.
func Open(ctx context.Context, cfg *dirfd.Dir, o Options) (*Store, error) {
	s := &Store{
		metaDir:         metaDir{Cfg: cfg, ReadOnly: o.ReadOnly, clock: o.Now, maxFile: o.MaxFile},
		Base:            o.Base,
		keepGenerations: o.KeepGenerations,
		keepBytes:       o.KeepBytes,
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if err := s.open(ctx, o); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, o Options) error {
	space, err := s.Cfg.Space()
	if err != nil {
		return err
	}
	s.ReadOnly = s.ReadOnly || space.ReadOnly
	if err := s.openMeta(); err != nil {
		return err
	}
	if err := s.readFormat(); err != nil {
		return err
	}
	if err := s.recover(); err != nil {
		return err
	}
	old, err := s.readManifest(o.Prev)
	if err != nil {
		return err
	}
	var prev *tree.Tree
	if o.Prev != nil {
		prev = o.Prev.Plain
		if m := o.Prev.Manifest; old == nil && m != nil && m.Generation == 0 && m.BaseID == s.Base.Name() {
			old = m // still nothing saved, so the same empty manifest
		}
	}
	if err := s.ScanPlain(ctx, prev); err != nil {
		return err
	}
	if s.Ignored, err = readIgnored(s.Cfg); err != nil {
		return err
	}
	if err := allSeen(s.Plain, old); err != nil {
		return err
	}
	return s.reconcile(ctx, old)
}

// allSeen returns an error if a part of the plain tree with overrides in it could not be read. They must not
// be taken for deleted.
func allSeen(plain *tree.Tree, old *Manifest) error {
	if old == nil || len(plain.Skipped) == 0 {
		return nil
	}
	for i := range old.Overrides {
		if why := plain.WhySkipped(old.Overrides[i].Path); why != "" {
			return fmt.Errorf("cfg: %s: %s", pathname.Quote(old.Overrides[i].Path), why)
		}
	}
	return nil
}

// readManifest returns the manifest, nil if there is none. A damaged one is kept aside; its removals are read
// from the file that repeats them.
func (s *Store) readManifest(prev *Store) (*Manifest, error) {
	if s.Meta == nil {
		return nil, nil
	}
	st, err := s.Meta.Stat(manifestFile)
	if errors.Is(err, fs.ErrNotExist) {
		return withoutManifest(&s.metaDir)
	}
	if err != nil {
		return nil, err
	}
	s.stat = st
	if prev != nil && prev.stat == st && prev.Manifest != nil {
		if prev.Before != nil { // what that opening adopted is only in memory
			return prev.Before, nil
		}
		return prev.Manifest, nil
	}
	b, err := s.Meta.ReadFile(manifestFile, MaxManifest)
	if err == nil {
		var m *Manifest
		if m, err = ParseManifest(b); err == nil {
			return m, nil
		}
	}
	if errors.Is(err, ErrNewerFormat) {
		return nil, fmt.Errorf("%s: %w", s.Meta.Display(""), err)
	}
	s.stat = dirfd.Stat{} // the manifest that is rebuilt is not the file that was read
	s.damage("%s: %v: rebuilt from the plain tree", s.Meta.Display(""), err)
	if err := s.putAside(manifestFile); err != nil {
		return nil, err
	}
	return withoutManifest(&s.metaDir)
}

// withoutManifest returns what is known if the manifest is missing or damaged: the number of the last
// generation, and the removals that .cfgd/removed repeats. For a new store it returns nil.
func withoutManifest(dir *metaDir) (*Manifest, error) {
	m := &Manifest{}
	numbers, err := generationDir{dir}.numbers()
	if err != nil {
		return nil, err
	}
	if len(numbers) > 0 {
		m.Generation = numbers[len(numbers)-1] + 1
	}
	b, err := dir.Meta.ReadFile(removedFile, MaxManifest)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && m.Generation == 0 {
			return nil, nil
		}
		return m, nil
	}
	for text := range strings.SplitSeq(string(b), "\n") {
		path, err := pathname.Unquote(text)
		if text == "" || err != nil || pathname.Valid(path) != nil {
			continue
		}
		m.Removals = append(m.Removals, tree.Removal{Path: path})
	}
	m.Removals = tree.CompactRemovals(m.Removals)
	return m, nil
}

// readIgnored returns the paths for which NanoBSD's cfg/.ignore/PATH exists.
func readIgnored(cfg *dirfd.Dir) (map[string]bool, error) {
	ignored := map[string]bool{}
	d, err := cfg.Dir(tree.IgnoreName)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || tree.NotSame(err) {
			return ignored, nil
		}
		return nil, err
	}
	defer d.Close()
	t, err := tree.Scan(context.Background(), d, tree.ScanOptions{NoContent: true})
	if err != nil {
		return nil, err
	}
	for i := range t.Entries {
		if t.Entries[i].Kind != dirfd.KindDir {
			ignored[t.Entries[i].Path] = true
		}
	}
	return ignored, nil
}
