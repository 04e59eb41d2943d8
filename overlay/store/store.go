package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Names in .cfgd.
const (
	FormatFile   = "format"
	ManifestFile = "manifest"
	RemovedFile  = "removed"
	journalFile  = "journal"
	tmpDir       = "tmp"
	objectsDir   = "objects"
	Generations  = "generations"
	DamagedName  = "damaged-"
)

// Store is an open cfg: the plain tree and what .cfgd records of it. It must be closed. One goroutine at a
// time uses a Store, under the target's lock.
type Store struct {
	Manifest *Manifest
	Plain    *tree.Tree
	// Notices say in words what was found and mended at opening.
	Notices []string
	// Damaged are the notices that mean damage, by a bad disk or by somebody who changed .cfgd.
	Damaged []string
	// Adopted are the paths that somebody changed in the plain tree by hand and that this opening took in.
	Adopted []string
	// ReadOnly is true if nothing can or may be written. An adoption is then only in memory.
	ReadOnly bool
	// Ignored are the paths for which NanoBSD's cfg/.ignore/PATH exists.
	Ignored map[string]bool

	Before *Manifest // what .cfgd/manifest holds, if an adoption is only in memory

	Cfg   *dirfd.Dir
	Meta  *dirfd.Dir // nil if there is no .cfgd and none may be made
	Base  *Base
	clock func() time.Time

	Unmount  func() error // set if cfg was mounted for this opening
	Remember func()       // records which store this is; set if it was opened for writing
	stat     dirfd.Stat   // of the manifest file that was read

	keepGenerations int
	keepBytes       int64
	maxFile         int64
	serial          int
}

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
		Cfg:             cfg,
		Base:            o.Base,
		clock:           o.Now,
		ReadOnly:        o.ReadOnly,
		keepGenerations: o.KeepGenerations,
		keepBytes:       o.KeepBytes,
		maxFile:         o.MaxFile,
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

// Close closes the store's descriptors.
func (s *Store) Close() error {
	if s.Remember != nil {
		s.Remember()
		s.Remember = nil
	}
	s.Meta.Close()
	err := s.Cfg.Close()
	if s.Unmount != nil {
		err = errors.Join(err, s.Unmount())
		s.Unmount = nil
	}
	return err
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
	if err := s.allSeen(old); err != nil {
		return err
	}
	return s.reconcile(ctx, old)
}

// allSeen returns an error if a part of the plain tree with overrides in it could not be read. They must not
// be taken for deleted.
func (s *Store) allSeen(old *Manifest) error {
	if old == nil || len(s.Plain.Skipped) == 0 {
		return nil
	}
	for i := range old.Overrides {
		if why := s.Plain.WhySkipped(old.Overrides[i].Path); why != "" {
			return fmt.Errorf("cfg: %s: %s", pathname.Quote(old.Overrides[i].Path), why)
		}
	}
	return nil
}

// ScanPlain scans the plain tree. Only files, directories and links are part of it.
func (s *Store) ScanPlain(ctx context.Context, prev *tree.Tree) error {
	t, err := tree.Scan(ctx, s.Cfg,
		tree.ScanOptions{Prev: prev, Now: s.clock, Names: s.Base.scanned(), MaxFile: s.maxFile})
	if err != nil {
		return fmt.Errorf("scan cfg: %w", err)
	}
	t.Entries = slices.DeleteFunc(t.Entries, func(e tree.Entry) bool { return e.Kind.Special() })
	s.Plain = t
	return nil
}

// openMeta opens .cfgd. It makes it if it is missing and may be made. If something else has that name (a link
// that a jail planted), it is put aside.
func (s *Store) openMeta() error {
	st, err := s.Cfg.Stat(tree.MetaName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.makeMeta()
	case err != nil:
		return err
	case st.Kind != dirfd.KindDir:
		return s.replaceMeta(st)
	}
	if s.Meta, err = s.Cfg.Dir(tree.MetaName); err != nil {
		return err
	}
	if st.Mode != 0o700 && !s.ReadOnly {
		if err := s.Meta.Chmod(0o700); err != nil {
			return err
		}
	}
	return s.makeDirs()
}

func (s *Store) makeMeta() (err error) {
	if s.ReadOnly {
		return nil
	}
	if err := s.Cfg.Mkdir(tree.MetaName); err != nil {
		return err
	}
	if s.Meta, err = s.Cfg.Dir(tree.MetaName); err != nil {
		return err
	}
	return s.makeDirs()
}

func (s *Store) replaceMeta(st dirfd.Stat) error {
	s.damage("%s is a %s and not a directory: put aside", s.Cfg.Display(tree.MetaName), st.Kind)
	if s.ReadOnly {
		return nil
	}
	aside := tree.MetaName + ".aside"
	if err := s.Cfg.Rename(tree.MetaName, s.Cfg, aside); err != nil {
		return err
	}
	if err := s.makeMeta(); err != nil {
		return err
	}
	return s.within(tmpDir, func(tmp *dirfd.Dir) error {
		return s.Cfg.Rename(aside, tmp, s.damaged(tmp, "cfgd"))
	})
}

// makeDirs makes the directories of .cfgd that are missing.
func (s *Store) makeDirs() error {
	if s.ReadOnly {
		return nil
	}
	made := false
	for _, name := range []string{tmpDir, objectsDir, Generations} {
		st, err := s.Meta.Stat(name)
		switch {
		case err == nil && st.Kind == dirfd.KindDir:
			continue
		case err == nil:
			s.damage("%s is a %s and not a directory: removed", s.Meta.Display(name), st.Kind)
			if err := s.Meta.Unlink(name); err != nil {
				return err
			}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if err := s.Meta.Mkdir(name); err != nil {
			return err
		}
		made = true
	}
	if !made {
		return nil
	}
	if err := s.Meta.Sync(); err != nil {
		return err
	}
	return s.Cfg.Sync()
}

// within runs f on an open directory of .cfgd.
func (s *Store) within(name string, f func(*dirfd.Dir) error) error {
	d, err := s.Meta.Dir(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(d)
}

// damaged returns a new name in tmp for something damaged.
func (s *Store) damaged(tmp *dirfd.Dir, what string) string {
	for n := 0; ; n++ {
		name := fmt.Sprintf("%s%s-%s-%d", DamagedName, what, s.clock().UTC().Format("20060102T150405"), n)
		if _, err := tmp.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return name
		}
	}
}

// putAside moves a damaged file of .cfgd to tmp.
func (s *Store) putAside(name string) error {
	if s.ReadOnly {
		return nil
	}
	return s.within(tmpDir, func(tmp *dirfd.Dir) error {
		return s.Meta.Rename(name, tmp, s.damaged(tmp, name))
	})
}

// damage adds a notice of something that no crash of cfgd leaves behind.
func (s *Store) damage(format string, args ...any) {
	s.notice(format, args...)
	s.Damaged = append(s.Damaged, s.Notices[len(s.Notices)-1])
}

func (s *Store) notice(format string, args ...any) {
	s.Notices = append(s.Notices, fmt.Sprintf(format, args...))
}

// readFormat refuses a newer format and repairs an unreadable one.
func (s *Store) readFormat() error {
	if s.Meta == nil {
		return nil
	}
	b, err := s.Meta.ReadFile(FormatFile, 64)
	if errors.Is(err, fs.ErrNotExist) {
		return s.writeFormat()
	}
	n := 0
	if err == nil {
		n, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	switch {
	case err == nil && n > FormatVersion:
		return fmt.Errorf("%s: %w: format %d, this one knows %d; use the newer cfgd",
			s.Meta.Display(FormatFile), ErrNewerFormat, n, FormatVersion)
	case err == nil && n == FormatVersion:
		return nil
	}
	s.damage("%s: not a format number: written anew", s.Meta.Display(FormatFile))
	if err := s.putAside(FormatFile); err != nil {
		return err
	}
	return s.writeFormat()
}

func (s *Store) writeFormat() error {
	if s.ReadOnly {
		return nil
	}
	if err := s.ReplaceFile(FormatFile, []byte(strconv.Itoa(FormatVersion)+"\n")); err != nil {
		return err
	}
	return s.Meta.Sync()
}

// ReplaceFile replaces a whole file of .cfgd: write a temporary, fsync, rename. The caller syncs .cfgd.
func (s *Store) ReplaceFile(name string, content []byte) error {
	return s.within(tmpDir, func(tmp *dirfd.Dir) error {
		if err := WriteSynced(tmp, name, content); err != nil {
			return err
		}
		return tmp.Rename(name, s.Meta, name)
	})
}

// WriteSynced makes a new file and syncs it.
func WriteSynced(d *dirfd.Dir, name string, content []byte) error {
	if err := d.RemoveAll(name); err != nil {
		return err
	}
	f, err := d.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// readManifest returns the manifest, nil if there is none. A damaged one is kept aside; its removals are read
// from the file that repeats them.
func (s *Store) readManifest(prev *Store) (*Manifest, error) {
	if s.Meta == nil {
		return nil, nil
	}
	st, err := s.Meta.Stat(ManifestFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s.withoutManifest()
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
	b, err := s.Meta.ReadFile(ManifestFile, MaxManifest)
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
	if err := s.putAside(ManifestFile); err != nil {
		return nil, err
	}
	return s.withoutManifest()
}

// withoutManifest returns what is known if the manifest is missing or damaged: the number of the last
// generation, and the removals that .cfgd/removed repeats. For a new store it returns nil.
func (s *Store) withoutManifest() (*Manifest, error) {
	m := &Manifest{}
	numbers, err := s.Numbers()
	if err != nil {
		return nil, err
	}
	if len(numbers) > 0 {
		m.Generation = numbers[len(numbers)-1] + 1
	}
	b, err := s.Meta.ReadFile(RemovedFile, MaxManifest)
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

// Numbers lists the kept generations, oldest first, without the current one.
func (s *Store) Numbers() ([]int, error) {
	if s.Meta == nil {
		return nil, nil
	}
	var out []int
	err := s.within(Generations, func(d *dirfd.Dir) error {
		names, err := d.Names()
		for _, name := range names {
			if n, err := strconv.Atoi(name); err == nil && n > 0 && strconv.Itoa(n) == name {
				out = append(out, n)
			}
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	slices.Sort(out)
	return out, err
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

// Outdated reports whether cfg was made against another base than the store's.
func (s *Store) Outdated() bool {
	m := s.Manifest
	return m.Generation > 0 && m.BaseID != "" && m.BaseID != s.Base.ID
}
