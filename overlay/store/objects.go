package store

import (
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// objectDir has contents named by SHA-256 in .cfgd/objects/HEX.gz. They are gzip(1)ed, so that zcat in a
// rescue shell can read them.
type objectDir struct{ *metaDir }

const objectSuffix = ".gz"

// ErrObject is the error for an object that is missing or has the wrong content.
var ErrObject = errors.New("not in the store's objects")

// keep puts content into objects/, synced, unless it is there already.
func (o objectDir) keep(tmp *dirfd.Dir, sum tree.Digest, open func() (io.ReadCloser, error)) error {
	if sum == (tree.Digest{}) || o.has(sum) {
		return nil
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	name := o.nextName()
	if err := compressTo(tmp, name, r, sum); err != nil {
		return err
	}
	return o.within(objectsDir,
		func(d *dirfd.Dir) error { return tmp.Rename(name, d, sum.String()+objectSuffix) })
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

func (o objectDir) has(sum tree.Digest) bool {
	found := false
	_ = o.within(objectsDir, func(d *dirfd.Dir) error {
		st, err := d.Stat(sum.String() + objectSuffix)
		found = err == nil && st.Kind == dirfd.KindFile
		return err
	})
	return found
}

// unpackers are reused: each takes 40 kB, and a merge reads hundreds of objects.
var unpackers = sync.Pool{New: func() any { return new(gzip.Reader) }}

// read reads an object's content of size bytes and checks it.
func (o objectDir) read(sum tree.Digest, size int64) (b []byte, err error) {
	if o.Meta == nil {
		return nil, fmt.Errorf("%s: %w", sum, ErrObject)
	}
	if size > o.Most() {
		return nil, fmt.Errorf("%s: %w: %d bytes are more than a save keeps", sum, ErrObject, size)
	}
	err = o.within(objectsDir, func(d *dirfd.Dir) error {
		f, err := d.Open(sum.String() + objectSuffix)
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
		return nil, fmt.Errorf("%s: %w", sum, ErrObject)
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %w", sum, ErrObject, err)
	case tree.Digest(sha256.Sum256(b)) != sum:
		return nil, fmt.Errorf("%s: %w: its content has another digest", sum, ErrObject)
	}
	return b, nil
}

// keepOld puts the content of plain files that a save will replace or drop into objects/.
func (o objectDir) keepOld(tmp *dirfd.Dir, plain *tree.Tree, paths []string) error {
	for _, p := range paths {
		e, ok := plain.Get(p)
		if !ok || e.Kind != dirfd.KindFile || e.Unread != "" || e.Size > o.Most() {
			continue
		}
		open := func() (io.ReadCloser, error) { return tree.OpenFile(o.Cfg, p) }
		if err := o.keep(tmp, e.Digest, open); err != nil {
			return fmt.Errorf("keep the old %s: %w", p, err)
		}
	}
	return o.sync()
}

// keepDefaults puts the default under each override and removal into objects/, so that a merge works when the
// base is gone.
func (o objectDir) keepDefaults(tmp *dirfd.Dir, base *Base, m *Manifest) error {
	var defs []*tree.Entry
	for i := range m.Overrides {
		defs = append(defs, m.Overrides[i].Default)
	}
	for i := range m.Removals {
		defs = append(defs, m.Removals[i].Default)
	}
	for _, e := range defs {
		if e == nil || e.Kind != dirfd.KindFile || e.Unread != "" || e.Size > o.Most() || base == nil {
			continue
		}
		if now, ok := base.Tree.Get(e.Path); !ok || now.Kind != dirfd.KindFile {
			continue // a default of another base: it was kept when that base was current
		}
		open := func() (io.ReadCloser, error) { return base.File(e.Path) }
		if err := o.keep(tmp, e.Digest, open); err != nil && !errors.Is(err, tree.ErrMovedOn) {
			return fmt.Errorf("keep the default %s: %w", e.Path, err)
		}
	}
	return o.sync()
}

func (o objectDir) sync() error { return o.within(objectsDir, (*dirfd.Dir).Sync) }

// keepVersions puts the versions of conflicts into objects/.
func (o objectDir) keepVersions(tmp *dirfd.Dir, old, m *Manifest, open tree.Reader) error {
	for i := range m.Conflicts {
		was, _ := old.ConflictAt(m.Conflicts[i].Path)
		for _, e := range m.Conflicts[i].entries() {
			if was != nil && was.refers(e) {
				continue // it was kept when it was new; if it is lost now, the rest goes on
			}
			if e == nil || e.Kind != dirfd.KindFile || e.Unread != "" || e.Size > o.Most() {
				continue
			}
			err := o.keep(tmp, e.Digest, func() (io.ReadCloser, error) { return open(e) })
			if err != nil && e != m.Conflicts[i].Old {
				return fmt.Errorf("keep both versions of %s: %w", pathname.Quote(e.Path), err)
			}
		}
	}
	return o.sync()
}
