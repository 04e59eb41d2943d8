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

// undo moves a relocated path back.
func (k *Relocator) undo(ctx context.Context, r *Relocation) error {
	d, name, err := k.parent(r.Root, r.Path)
	if err != nil {
		return err
	}
	defer d.Close()
	if to, err := d.Readlink(name); err != nil || to != r.Link {
		return fmt.Errorf("/%s is no longer the link to %s that was made: nothing was changed", r.Path,
			pathname.Quote(r.Link))
	}
	if err := k.checkIdle(r); err != nil {
		return err
	}
	src, from, err := k.parent(r.Root, r.To)
	if err != nil {
		return err
	}
	defer src.Close()
	r.State = returning
	if err := k.write(r); err != nil {
		return err
	}
	if err := d.RemoveAll(beside + name); err != nil {
		return err
	}
	if err := tree.CopyName(ctx, src, from, d, beside+name); err != nil {
		return errors.Join(err, k.settle(context.WithoutCancel(ctx), r))
	}
	if err := d.SyncTree(ctx, beside+name); err != nil {
		return err
	}
	if err := replace(d, beside+name, name); err != nil {
		return err
	}
	return k.removeRest(r, d, name)
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
