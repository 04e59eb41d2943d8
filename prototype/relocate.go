package prototype

import (
	"context"
	"errors"
	"fmt"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Moved is the result of Move and MoveBack.
type Moved struct {
	*Relocation               // nil if none was made
	Settled     []*Relocation // that were interrupted, and were finished or undone first
}

// Move moves a path of a prototype into its etc. The result tells what was settled, also after an error.
func (k *Relocator) Move(ctx context.Context, p *config.Prototype, from, to string) (Moved, error) {
	return k.locked(ctx, p, func() (*Relocation, error) {
		r, err := k.Plan(p, from, to)
		if err != nil {
			return nil, err
		}
		return r, k.do(ctx, r)
	})
}

// MoveBack moves a relocated path back. The result is as that of Move.
func (k *Relocator) MoveBack(ctx context.Context, p *config.Prototype, from string) (Moved, error) {
	return k.locked(ctx, p, func() (*Relocation, error) {
		r, err := k.Of(p, from)
		if err != nil {
			return nil, err
		}
		return r, k.undo(ctx, r)
	})
}

// locked calls change while it holds the prototype's lock, after it has settled what was interrupted.
func (k *Relocator) locked(
	ctx context.Context, p *config.Prototype, change func() (*Relocation, error),
) (done Moved, err error) {
	unlock, err := Lock(ctx, k.Model, p.Name)
	if err != nil {
		return done, err
	}
	defer unlock()
	all, err := k.All(p.Name)
	if err != nil {
		return done, err
	}
	for _, r := range all {
		if r.Finished() {
			continue
		}
		if err := k.settle(ctx, r); err != nil {
			return done, fmt.Errorf("an earlier relocation was cut short: %w", err)
		}
		done.Settled = append(done.Settled, r)
	}
	done.Relocation, err = change()
	return done, err
}

// do relocates. It may be called again after an interruption.
func (k *Relocator) do(ctx context.Context, r *Relocation) error {
	if err := k.write(r); err != nil {
		return err
	}
	if err := k.copyIn(ctx, r); err != nil {
		return errors.Join(err, k.settle(context.WithoutCancel(ctx), r))
	}
	return k.swap(r)
}

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
	if err := compare(ctx, src, from, d, beside+name); err != nil {
		return errors.Join(err, k.settle(context.WithoutCancel(ctx), r))
	}
	if err := replace(d, beside+name, name); err != nil {
		return err
	}
	return k.removeRest(r, d, name)
}
