package prototype

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"cfgd/internal/dirfd"
	"cfgd/internal/hostfile"
	"cfgd/overlay/tree"
)

// Names beside the old and the new place while something is being moved.
const (
	beside = ".cfgd.new."
	linkAs = ".cfgd.link."
	aside  = ".cfgd.old."
)

// copyIn makes the copy at the new place.
func (k *Relocator) copyIn(ctx context.Context, r *Relocation) error {
	src, name, err := k.parent(r.Root, r.Path)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, newName, err := k.makeParent(r)
	if err != nil {
		return err
	}
	defer dst.Close()
	return k.copyTo(ctx, src, name, dst, newName)
}

// copyTo copies to a free name, completely or not at all.
func (k *Relocator) copyTo(ctx context.Context, src *dirfd.Dir, name string, dst *dirfd.Dir,
	newName string) error {
	if err := dst.RemoveAll(beside + newName); err != nil {
		return err
	}
	if err := tree.CopyName(ctx, src, name, dst, beside+newName); err != nil {
		return err
	}
	if err := dst.SyncTree(ctx, beside+newName); err != nil {
		return err
	}
	if err := compare(ctx, src, name, dst, beside+newName); err != nil {
		return err
	}
	if err := dst.Rename(beside+newName, dst, newName); err != nil {
		return err
	}
	return dst.Sync()
}

// ErrDiffers reports that a copy is not what the original is now.
var ErrDiffers = errors.New("the copy differs from the original, which may have changed meanwhile")

// compare reads an original and its copy on stable storage again, and compares names, metadata and contents:
// the original goes next. What is written to the original from here to the rename is lost with it.
func compare(ctx context.Context, src *dirfd.Dir, name string, dst *dirfd.Dir, newName string) error {
	same, err := tree.SameNames(ctx, src, name, dst, newName)
	if err == nil && !same {
		err = fmt.Errorf("%s: %w; the original is left as it is", src.Display(name), ErrDiffers)
	}
	return err
}

// makeParent opens the directory of the new place, and creates it if it is missing.
func (k *Relocator) makeParent(r *Relocation) (*dirfd.Dir, string, error) {
	d, err := dirfd.Open(k.Model.Path(r.Root), k.Hook)
	if err != nil {
		return nil, "", err
	}
	parts := strings.Split(r.To, "/")
	for _, p := range parts[:len(parts)-1] {
		sub, err := d.Dir(p)
		if errors.Is(err, fs.ErrNotExist) {
			if err = errors.Join(d.Mkdir(p), d.Sync()); err == nil {
				if sub, err = d.Dir(p); err == nil {
					err = errors.Join(sub.Chmod(0o755), sub.Sync())
				}
			}
		}
		d.Close()
		if err != nil {
			sub.Close()
			return nil, "", err
		}
		d = sub
	}
	return d, parts[len(parts)-1], nil
}

// swap replaces the original by the link.
func (k *Relocator) swap(r *Relocation) error {
	d, name, err := k.parent(r.Root, r.Path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.RemoveAll(linkAs + name); err != nil {
		return err
	}
	if err := d.Symlink(r.Link, linkAs+name); err != nil {
		return err
	}
	if err := replace(d, linkAs+name, name); err != nil {
		return err
	}
	if err := errors.Join(d.RemoveAll(aside+name), d.Sync()); err != nil {
		return err
	}
	r.State = moved
	return k.write(r)
}

// replace replaces what has a name. If a directory is on either side it takes two renames: the old one is
// moved aside first.
func replace(d *dirfd.Dir, from, name string) error {
	old, err := d.Stat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	now, err2 := d.Stat(from)
	if err2 != nil {
		return err2
	}
	if err == nil && (old.Kind == dirfd.KindDir || now.Kind == dirfd.KindDir) {
		if err := d.RemoveAll(aside + name); err != nil {
			return err
		}
		if err := d.Rename(name, d, aside+name); err != nil {
			return err
		}
	}
	if err := d.Rename(from, d, name); err != nil {
		return err
	}
	return d.Sync()
}

// removeRest removes what is left after an undo. The previous call may have been interrupted after the
// rename and before the fsync of the directory, so it fsyncs the directory first.
func (k *Relocator) removeRest(r *Relocation, d *dirfd.Dir, name string) error {
	if err := d.Sync(); err != nil {
		return err
	}
	if err := d.RemoveAll(aside + name); err != nil {
		return err
	}
	src, from, err := k.parent(r.Root, r.To)
	if err == nil {
		defer src.Close()
		err = errors.Join(src.RemoveAll(from), src.Sync())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return hostfile.Remove(k.record(r))
}
