package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// Store is an open cfg: the plain tree and what .cfgd records of it. It must be closed. One goroutine at a
// time uses a Store, under the target's lock.
type Store struct {
	metaDir
	Manifest *Manifest
	Plain    *tree.Tree
	Base     *Base
	// Adopted are the paths that somebody changed in the plain tree by hand and that this opening took in.
	Adopted []string
	// Before is what .cfgd/manifest holds, if an adoption is only in memory.
	Before *Manifest
	// Ignored are the paths for which NanoBSD's cfg/.ignore/PATH exists.
	Ignored map[string]bool

	Unmount  func() error // set if cfg was mounted for this opening
	Remember func()       // records which store this is; set if it was opened for writing

	stat            dirfd.Stat // of the manifest file that was read
	keepGenerations int
	keepBytes       int64
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

// Outdated reports whether cfg was made against another base than the store's.
func (s *Store) Outdated() bool {
	m := s.Manifest
	return m.Generation > 0 && m.BaseID != "" && m.BaseID != s.Base.ID
}

func (s *Store) generationDir() generationDir { return generationDir{&s.metaDir} }

func (s *Store) objectDir() objectDir { return objectDir{&s.metaDir} }

// Generation reads the manifest of a kept generation.
func (s *Store) Generation(n int) (*Manifest, error) {
	if n == s.Manifest.Generation {
		return s.Manifest, nil
	}
	if s.Before != nil && n == s.Before.Generation {
		return s.Before, nil
	}
	if s.Meta == nil || n > s.Manifest.Generation {
		return nil, &os.PathError{Op: "generation", Path: strconv.Itoa(n), Err: fs.ErrNotExist}
	}
	return s.generationDir().read(n)
}

// Numbers lists the kept generations, oldest first, without the current one.
func (s *Store) Numbers() ([]int, error) { return s.generationDir().numbers() }

// Content reads the content of an override of a generation: from the plain tree if it is still there, else
// from objects/.
func (s *Store) Content(e *tree.Entry) ([]byte, error) {
	if e.Kind == dirfd.KindSymlink {
		return []byte(e.Link), nil
	}
	if p, ok := s.Plain.Get(e.Path); ok && p.Kind == dirfd.KindFile && p.Digest == e.Digest &&
		p.Size <= s.Most() {
		f, err := tree.OpenFile(s.Cfg, e.Path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, p.Size+1))
	}
	return s.objectDir().read(e.Digest, e.Size)
}
