package store

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// Objects are contents named by SHA-256 in .cfgd/objects/HEX.gz. They are gzip(1)ed, so that zcat in a rescue
// shell can read them.

const objectSuffix = ".gz"

// ErrObject is the error for an object that is missing or has the wrong content.
var ErrObject = errors.New("not in the store's objects")

// keepObject puts content into objects/, synced, unless it is there already.
func (s *Store) keepObject(tmp *dirfd.Dir, d tree.Digest, open func() (io.ReadCloser, error)) error {
	if d == (tree.Digest{}) || s.hasObject(d) {
		return nil
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	name := s.nextName()
	if err := compressTo(tmp, name, r, d); err != nil {
		return err
	}
	return s.within(objectsDir,
		func(o *dirfd.Dir) error { return tmp.Rename(name, o, d.String()+objectSuffix) })
}

// compressTo writes compressed content to tmp and checks its digest.
func compressTo(tmp *dirfd.Dir, name string, r io.Reader, want tree.Digest) error {
	f, err := tmp.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	z := gzip.NewWriter(f)
	if _, err := io.Copy(z, io.TeeReader(r, h)); err != nil {
		return err
	}
	if tree.Digest(h.Sum(nil)) != want {
		return tree.ErrMovedOn
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func (s *Store) hasObject(d tree.Digest) bool {
	found := false
	_ = s.within(objectsDir, func(o *dirfd.Dir) error {
		st, err := o.Stat(d.String() + objectSuffix)
		found = err == nil && st.Kind == dirfd.KindFile
		return err
	})
	return found
}

// Most is the size in bytes above which no saved content is read. A manifest with a larger one is forged, or
// was written under a larger max_file.
func (s *Store) Most() int64 {
	const usual = 64 << 20
	return max(s.maxFile, usual)
}

// unpackers are reused: each takes 40 kB, and a merge reads hundreds of objects.
var unpackers = sync.Pool{New: func() any { return new(gzip.Reader) }}

// object reads an object's content of size bytes and checks it.
func (s *Store) object(d tree.Digest, size int64) (b []byte, err error) {
	if s.Meta == nil {
		return nil, fmt.Errorf("%s: %w", d, ErrObject)
	}
	if size > s.Most() {
		return nil, fmt.Errorf("%s: %w: %d bytes are more than a save keeps", d, ErrObject, size)
	}
	err = s.within(objectsDir, func(o *dirfd.Dir) error {
		f, err := o.Open(d.String() + objectSuffix)
		if err != nil {
			return err
		}
		defer f.Close()
		z := unpackers.Get().(*gzip.Reader)
		defer unpackers.Put(z)
		if err := z.Reset(f); err != nil {
			return err
		}
		b, err = io.ReadAll(io.LimitReader(z, size+1)) // an object may unpack to more than the manifest says
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", d, ErrObject)
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %w", d, ErrObject, err)
	case tree.Digest(sha256.Sum256(b)) != d:
		return nil, fmt.Errorf("%s: %w: its content has another digest", d, ErrObject)
	}
	return b, nil
}

// keepOld puts the content of plain files that a save will replace or drop into objects/.
func (s *Store) keepOld(tmp *dirfd.Dir, paths []string) error {
	for _, p := range paths {
		e, ok := s.Plain.Get(p)
		if !ok || e.Kind != dirfd.KindFile || e.Unread != "" || e.Size > s.Most() {
			continue
		}
		open := func() (io.ReadCloser, error) { return tree.OpenFile(s.Cfg, p) }
		if err := s.keepObject(tmp, e.Digest, open); err != nil {
			return fmt.Errorf("keep the old %s: %w", p, err)
		}
	}
	return s.syncObjects()
}

// keepDefaults puts the default under each override and removal into objects/, so that a merge works when the
// base is gone.
func (s *Store) keepDefaults(tmp *dirfd.Dir, m *Manifest) error {
	var defs []*tree.Entry
	for i := range m.Overrides {
		defs = append(defs, m.Overrides[i].Default)
	}
	for i := range m.Removals {
		defs = append(defs, m.Removals[i].Default)
	}
	for _, e := range defs {
		if e == nil || e.Kind != dirfd.KindFile || e.Unread != "" || e.Size > s.Most() || s.Base == nil {
			continue
		}
		if now, ok := s.Base.Tree.Get(e.Path); !ok || now.Kind != dirfd.KindFile {
			continue // a default of another base: it was kept when that base was current
		}
		open := func() (io.ReadCloser, error) { return s.Base.File(e.Path) }
		if err := s.keepObject(tmp, e.Digest, open); err != nil && !errors.Is(err, tree.ErrMovedOn) {
			return fmt.Errorf("keep the default %s: %w", e.Path, err)
		}
	}
	return s.syncObjects()
}

func (s *Store) syncObjects() error {
	return s.within(objectsDir, (*dirfd.Dir).Sync)
}

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
	var m *Manifest
	err := s.within(Generations, func(d *dirfd.Dir) error {
		b, err := d.ReadFile(strconv.Itoa(n), MaxManifest)
		if err != nil {
			return err
		}
		m, err = ParseManifest(b)
		return err
	})
	return m, err
}

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
	return s.object(e.Digest, e.Size)
}

// history is what the store keeps beside the current generation.
type history struct {
	numbers []int // oldest first
	bytes   int64 // bytes of objects/ and generations/
}

func (s *Store) history() (history, error) {
	var h history
	numbers, err := s.Numbers()
	if err != nil {
		return h, err
	}
	h.numbers = slices.DeleteFunc(numbers, func(n int) bool { return n >= s.Manifest.Generation })
	for _, dir := range []string{objectsDir, Generations} {
		err := s.within(dir, func(d *dirfd.Dir) error {
			names, err := d.Names()
			for _, name := range names {
				if st, err := d.Stat(name); err == nil {
					h.bytes += max(st.Size, st.Blocks*512)
				}
			}
			return err
		})
		if err != nil {
			return h, err
		}
	}
	return h, nil
}

// Prune drops the oldest generations until their number and bytes are within bounds and enough returns true.
// The current generation and the defaults under its overrides always stay. Generations kept for the way back
// to an earlier base do not count. They go last, and only if nothing else is left to drop.
func (s *Store) Prune(ctx context.Context, enough func() bool) error {
	h, err := s.history()
	if err != nil {
		return err
	}
	dropped := 0
	for len(h.numbers) > 0 && ctx.Err() == nil {
		loose := slices.DeleteFunc(slices.Clone(h.numbers), s.Manifest.wayBack)
		if len(loose) < max(s.keepGenerations, 1) && (s.keepBytes == 0 || h.bytes <= s.keepBytes) &&
			enough() {
			break
		}
		// Drop a few at a time, because finding the objects in use reads every kept manifest.
		if len(loose) == 0 {
			loose = h.numbers
		}
		n := 1
		if h.bytes > s.keepBytes || !enough() {
			n = (len(loose) + 7) / 8
		}
		if err := s.dropGenerations(loose[:n]); err != nil {
			return err
		}
		dropped += n
		if h.bytes > s.keepBytes || !enough() || loose[0]%16 == 0 {
			if err := s.collect(); err != nil {
				return err
			}
		}
		if h, err = s.history(); err != nil {
			return err
		}
	}
	if dropped == 0 {
		return nil
	}
	return s.within(Generations, (*dirfd.Dir).Sync)
}

func (s *Store) dropGenerations(numbers []int) error {
	return s.within(Generations, func(d *dirfd.Dir) error {
		for _, n := range numbers {
			if err := d.Unlink(strconv.Itoa(n)); err != nil {
				return err
			}
		}
		return nil
	})
}

// collect removes the objects that no kept generation refers to.
func (s *Store) collect() error {
	used, err := s.usedObjects()
	if err != nil {
		return err
	}
	return s.within(objectsDir, func(d *dirfd.Dir) error {
		names, err := d.Names()
		if err != nil {
			return err
		}
		for _, name := range names {
			hex, ok := strings.CutSuffix(name, objectSuffix)
			if dg, err := tree.ParseDigest(hex); ok && err == nil && used[dg] {
				continue
			}
			if err := d.RemoveAll(name); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) usedObjects() (map[tree.Digest]bool, error) {
	used := map[tree.Digest]bool{}
	mark := func(m *Manifest) {
		for _, e := range m.refers() {
			used[e.Digest] = true
		}
	}
	numbers, err := s.Numbers()
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		m, err := s.Generation(n)
		if err != nil {
			s.notice("generation %d: %v", n, err)
			continue
		}
		mark(m)
	}
	mark(s.Manifest)
	return used, nil
}

// refers lists every entry whose content a generation needs: overrides, the defaults under them, all versions
// of conflicts.
func (m *Manifest) refers() []*tree.Entry {
	var all []*tree.Entry
	for i := range m.Overrides {
		all = append(all, &m.Overrides[i].Entry, m.Overrides[i].Default)
	}
	for i := range m.Removals {
		all = append(all, m.Removals[i].Default)
	}
	for i := range m.Conflicts {
		all = append(all, m.Conflicts[i].entries()...)
	}
	return slices.DeleteFunc(all, func(e *tree.Entry) bool { return e == nil })
}
