package overlay

import (
	"context"
	"fmt"

	"cfgd/internal/dirfd"
)

// CopyTree copies a tree into an empty directory, with types, modes, owners, groups, flags, attributes, times and hard links, but for one
// name at the top ("" for none), a store's .cfgd there, and what lies on other filesystems. Devices, sockets and fifos are left out.
func CopyTree(ctx context.Context, from, to, except string) error {
	src, err := dirfd.Open(from, nil)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := dirfd.Open(to, nil)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := copyTree(ctx, src, dst, except); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

func copyTree(ctx context.Context, src, dst *dirfd.Dir, except string) error {
	t, err := Scan(ctx, src, ScanOptions{NoContent: true, Ignore: func(path string, _ dirfd.Kind) bool { return except != "" && within(path, except) }})
	if err != nil {
		return err
	}
	p := &populator{ctx: ctx, saved: Saved(t, &Tree{}, nil), plain: &Tree{}, base: src, live: dst}
	return p.run()
}

// CopyStore is CopyTree for a tree that holds a store, or may: with the store itself, so that the copy knows all that it knew.
func CopyStore(ctx context.Context, from, to string) error {
	if err := CopyTree(ctx, from, to, ""); err != nil {
		return err
	}
	src, err := dirfd.OpenBelow(from, metaName, nil)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer src.Close()
	top, err := dirfd.Open(to, nil)
	if err != nil {
		return err
	}
	defer top.Close()
	if err := top.Mkdir(metaName); err != nil {
		return err
	}
	dst, err := dirfd.OpenBelow(to, metaName, nil)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := dst.Chmod(0o700); err != nil {
		return err
	}
	if err := copyTree(ctx, src, dst, ""); err != nil {
		return fmt.Errorf("copy the store of %s: %w", from, err)
	}
	return nil
}

// CompareTrees counts what differs between two trees, by the words of What.
func CompareTrees(ctx context.Context, old, new string) (map[string]int, error) {
	var trees [2]*Tree
	for i, path := range []string{old, new} {
		d, err := dirfd.Open(path, nil)
		if err != nil {
			return nil, err
		}
		trees[i], err = Scan(ctx, d, ScanOptions{})
		d.Close()
		if err != nil {
			return nil, fmt.Errorf("scan %s: %w", path, err)
		}
	}
	count := map[string]int{}
	for _, c := range Delta(trees[0], trees[1]) {
		count[c.What.String()]++
	}
	return count, nil
}

// Reach lists the bases that cfg may have to go back to: its present one, those of the generations that are kept for the way back, and those
// between which a conflict arose that nobody resolved.
func (o *Overlay) Reach(ctx context.Context) (ids []string, err error) {
	err = o.reading(ctx, func(s *Store, _ *Base) error {
		ids = append(ids, s.Manifest.BaseID)
		for _, n := range s.Manifest.Merges {
			if m, err := s.generation(n); err == nil {
				ids = append(ids, m.BaseID, m.From)
			}
		}
		for i := range s.Manifest.Conflicts {
			ids = append(ids, s.Manifest.Conflicts[i].From, s.Manifest.Conflicts[i].To)
		}
		return nil
	})
	return ids, err
}
