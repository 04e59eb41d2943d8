package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"cfgd/internal/ctxio"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

// CopyTree copies a tree into an empty directory, with types, modes, owners, groups, flags, attributes, times
// and hard links. It leaves out the top name except ("" for none), the store's .cfgd at the top, other
// filesystems, devices, sockets and fifos.
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
	return CopyDir(ctx, src, dst, except)
}

// CopyDir is CopyTree for open directories. Each is the root of its tree.
func CopyDir(ctx context.Context, src, dst *dirfd.Dir, except string) error {
	if err := copyTree(ctx, src, dst, except); err != nil {
		return fmt.Errorf("copy %s: %w", src.Display(""), err)
	}
	return nil
}

func copyTree(ctx context.Context, src, dst *dirfd.Dir, except string) error {
	t, err := Scan(ctx, src, ScanOptions{
		NoContent: true,
		Ignore: func(path string, _ dirfd.Kind) bool {
			return except != "" && pathname.Within(path, except)
		},
	})
	if err != nil {
		return err
	}
	if u := t.Unseen(); len(u) > 0 {
		return fmt.Errorf("%s: %s", src.Display(u[0].Path), u[0].Reason)
	}
	_, err = Copy{Saved: Saved(t, &Tree{}, nil), Base: src, To: dst, Whole: true}.Run(ctx)
	return err
}

// CopyStore is CopyTree for a tree that may hold a store. It copies the store too, with all its history.
func CopyStore(ctx context.Context, from, to string) error {
	if err := CopyTree(ctx, from, to, ""); err != nil {
		return err
	}
	src, err := dirfd.OpenBelow(from, MetaName, nil)
	if errors.Is(err, fs.ErrNotExist) || NotSame(err) {
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
	if err := top.Mkdir(MetaName); err != nil {
		return err
	}
	dst, err := dirfd.OpenBelow(to, MetaName, nil)
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

// CopyName copies a file, link or directory, with all below it, to another name in another directory. It
// keeps all that CopyTree keeps. If something cannot be copied whole, that is an error: a device, socket or
// fifo, another filesystem below it, what may not be read. The copy is not synced.
func CopyName(ctx context.Context, from *dirfd.Dir, name string, to *dirfd.Dir, newName string) error {
	st, err := from.Stat(name)
	if err != nil {
		return err
	}
	e := EntryOf(newName, st)
	switch st.Kind {
	case dirfd.KindDir:
		return copyDir(ctx, from, name, to, newName)
	case dirfd.KindSymlink:
		if e.Link, err = from.Readlink(name); err != nil {
			return err
		}
		if err := MakeLink(to, newName, &e); err != nil {
			return err
		}
		return SetFlags(to, newName, &e)
	case dirfd.KindFile:
		return copyOne(from, name, to, &e)
	}
	return fmt.Errorf("%s is a %s, and cannot be copied", from.Display(name), st.Kind)
}

func copyOne(from *dirfd.Dir, name string, to *dirfd.Dir, e *Entry) error {
	in, err := from.OpenFile(name)
	if err != nil {
		return err
	}
	defer in.Close()
	x, err := in.Xattrs()
	if err != nil && !dirfd.NoXattr(err) {
		return err
	}
	e.Xattrs = PackXattrs(x)
	if _, err := CopyFile(in, to, e.Path, e, nil); err != nil {
		return err
	}
	return SetFlags(to, e.Path, e)
}

func copyDir(ctx context.Context, from *dirfd.Dir, name string, to *dirfd.Dir, newName string) error {
	src, err := from.Dir(name)
	if err != nil {
		return err
	}
	defer src.Close()
	src.Rooted()
	t, err := Scan(ctx, src, ScanOptions{NoContent: true, Whole: true})
	if err != nil {
		return err
	}
	if len(t.Skipped) > 0 { // a copy of one name must be complete, including what is mounted below it
		return fmt.Errorf("%s: %s", src.Display(t.Skipped[0].Path), t.Skipped[0].Reason)
	}
	for i := range t.Entries {
		if e := &t.Entries[i]; e.Kind.Special() {
			return fmt.Errorf("%s is a %s, and cannot be copied", src.Display(e.Path), e.Kind)
		}
	}
	if err := to.Mkdir(newName); err != nil {
		return err
	}
	dst, err := to.Dir(newName)
	if err != nil {
		return err
	}
	defer dst.Close()
	c := Copy{Saved: Saved(t, &Tree{}, nil), Base: src, To: dst.Rooted(), Whole: true}
	if _, err := c.Run(ctx); err != nil {
		return err
	}
	return SetFlags(dst, "", &t.Root)
}

// SameNames reports whether two names, files or directories with all below them, are the same except for
// times.
func SameNames(ctx context.Context, a *dirfd.Dir, nameA string, b *dirfd.Dir, nameB string) (bool, error) {
	var trees [2]*Tree
	for i, x := range []struct {
		d    *dirfd.Dir
		name string
	}{{a, nameA}, {b, nameB}} {
		t, err := treeAt(ctx, x.d, x.name)
		if err != nil {
			return false, err
		}
		trees[i] = t
	}
	return len(Delta(trees[0], trees[1])) == 0, nil
}

// treeAt returns a tree of one name, which is called x in it.
func treeAt(ctx context.Context, d *dirfd.Dir, name string) (*Tree, error) {
	st, err := d.Stat(name)
	if err != nil {
		return nil, err
	}
	e := EntryOf("x", st)
	t := &Tree{Entries: []Entry{e}}
	switch st.Kind {
	case dirfd.KindSymlink:
		t.Entries[0].Link, err = d.Readlink(name)
	case dirfd.KindFile:
		f, err := d.OpenFile(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		t.Entries[0].Digest, err = DigestOf(ctxio.Reader(ctx, f), e.Size)
		return t, err
	case dirfd.KindDir:
		sub, err := d.Dir(name)
		if err != nil {
			return nil, err
		}
		defer sub.Close()
		below, err := Scan(ctx, sub.Rooted(), ScanOptions{Whole: true})
		if err != nil {
			return nil, err
		}
		for _, e := range below.Entries {
			e.Path = "x/" + e.Path
			t.Entries = append(t.Entries, e)
		}
	}
	return t, err
}
