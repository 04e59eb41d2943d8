package prototype

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"cfgd/internal/dirfd"
	"cfgd/internal/hostfile"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// settle finishes or undoes an interrupted move, by what is at the old place.
func (k *Relocator) settle(ctx context.Context, r *Relocation) error {
	if r.State == moved {
		return nil
	}
	d, name, err := k.parent(r.Root, r.Path)
	if err != nil {
		return err
	}
	defer d.Close()
	st, err := d.Stat(name)
	gone := errors.Is(err, fs.ErrNotExist)
	if err != nil && !gone {
		return err
	}
	isLink := !gone && st.Kind == dirfd.KindSymlink
	if r.State == returning {
		return k.settleReturn(r, d, name, gone, isLink)
	}
	if gone || isLink {
		if isLink {
			if to, _ := d.Readlink(name); to != r.Link {
				return fmt.Errorf("/%s is a link to %s: look at it, then remove %s", r.Path,
					pathname.Quote(to), k.record(r))
			}
		}
		return k.swap(r)
	}
	return k.drop(ctx, r, d, name)
}

// drop ends a move that has made nothing but copies. A move whose copy is complete goes on.
func (k *Relocator) drop(ctx context.Context, r *Relocation, d *dirfd.Dir, name string) error {
	dst, newName, err := k.parent(r.Root, r.To)
	if errors.Is(err, fs.ErrNotExist) {
		return hostfile.Remove(k.record(r))
	}
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := errors.Join(dst.RemoveAll(beside+newName), d.RemoveAll(linkAs+name)); err != nil {
		return err
	}
	if _, err := dst.Stat(newName); errors.Is(err, fs.ErrNotExist) {
		return hostfile.Remove(k.record(r))
	}
	same, err := tree.SameNames(ctx, d, name, dst, newName)
	if err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("/%s and /%s are both there, and differ: keep one, then remove %s", r.Path, r.To,
			k.record(r))
	}
	if err := dst.SyncTree(ctx, newName); err != nil {
		// the move may have been interrupted before its last fsync
		return err
	}
	return k.swap(r)
}

func (k *Relocator) settleReturn(r *Relocation, d *dirfd.Dir, name string, gone, isLink bool) error {
	switch {
	case gone: // between the two renames
		if err := replace(d, beside+name, name); err != nil {
			return err
		}
		return k.removeRest(r, d, name)
	case isLink: // only copies were made
		if err := d.RemoveAll(beside + name); err != nil {
			return err
		}
		r.State = moved
		return k.write(r)
	}
	return k.removeRest(r, d, name)
}
