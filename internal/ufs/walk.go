package ufs

import (
	"context"
	"path"
)

// Walk calls do for everything below a directory, parents first, in the order of the directories.
func (f *FS) Walk(ctx context.Context, dir string, do func(*Entry) error) error {
	n, err := f.find(dir)
	if err != nil {
		return err
	}
	w := &walker{f: f, do: do, dirs: map[uint64]bool{}}
	return w.walk(ctx, n, "", 0)
}

type walker struct {
	f    *FS
	do   func(*Entry) error
	dirs map[uint64]bool // that we were in: a directory has one name

	// What was read so far, see the bounds.
	entries, text int
	bytes         int64
}

func (w *walker) walk(ctx context.Context, dir *inode, at string, depth int) error {
	if w.dirs[dir.Ino] {
		return w.f.bad(dir.Ino, "a directory below itself, or with two names: %q", at)
	}
	if depth > maxDepth {
		return w.f.bad(dir.Ino, "more than %d directories one in another", maxDepth)
	}
	w.dirs[dir.Ino] = true
	all, err := w.list(dir)
	if err != nil {
		return err
	}
	for _, x := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.name(ctx, x, at, depth); err != nil {
			return err
		}
	}
	return nil
}

// list counts names when they are listed, not when they are walked, because the names of all directories
// on the current path are held at once.
func (w *walker) list(dir *inode) ([]name, error) {
	if w.bytes += dir.Size; w.bytes > maxDirs {
		return nil, w.f.bad(dir.Ino, "more than %d bytes of directories", maxDirs)
	}
	var all []name
	seen := map[string]bool{}
	for x, err := range w.f.names(dir) {
		if err != nil {
			return nil, err
		}
		if seen[x.name] {
			return nil, w.f.bad(dir.Ino, "the name %q twice", x.name)
		}
		if w.entries++; w.entries > maxEntries {
			return nil, w.f.bad(dir.Ino, "more than %d names", maxEntries)
		}
		if err := w.count(dir.Ino, len(x.name)); err != nil {
			return nil, err
		}
		seen[x.name] = true
		all = append(all, x)
	}
	return all, nil
}

// name walks one name of the directory at a path.
func (w *walker) name(ctx context.Context, x name, at string, depth int) error {
	n, err := w.f.inode(x.ino)
	if err != nil {
		return err
	}
	n.Path = path.Join(at, x.name)
	if len(n.Path) > maxPath {
		return w.f.bad(n.Ino, "a path of %d bytes", len(n.Path))
	}
	if err := w.count(n.Ino, len(n.Path)+len(n.Link)); err != nil {
		return err
	}
	if err := w.do(&n.Entry); err != nil || !n.Mode.IsDir() {
		return err
	}
	return w.walk(ctx, n, n.Path, depth+1)
}

// count counts bytes of names, paths and links.
func (w *walker) count(ino uint64, bytes int) error {
	if w.text += bytes; w.text > maxText {
		return w.f.bad(ino, "more than %d bytes of names", maxText)
	}
	return nil
}
