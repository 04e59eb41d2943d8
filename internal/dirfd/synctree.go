package dirfd

import (
	"context"
	"errors"
	"path"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// SyncTree brings name, all below it, and its name in the directory to stable storage. "" is the directory
// itself with all below it. It is for a copy that was just made and that takes the place of something: first
// SyncTree, then Rename, then Sync. What is mounted below is not reached, and no link is followed. The hook
// is asked once for an op of kind synctree, and then for each file and directory that is synced by itself.
func (d *Dir) SyncTree(ctx context.Context, name string) error {
	if err := d.checkOrSelf("synctree", name); err != nil {
		return err
	}
	op := Op{Kind: "synctree", Path: d.join(name)}
	if name == "" {
		op.Path = d.path
	}
	var done bool
	err := d.hooked(op, name, func() (err error) { done, err = syncFilesystem(d.fd); return err })
	if err != nil || done {
		return err
	}
	return syncEach(ctx, d, name)
}

func (d *Dir) checkOrSelf(op, name string) error {
	if name == "" {
		return nil
	}
	return d.check(op, name)
}

// syncEach is SyncTree by fsync(2) of each file and directory. One goroutine walks and opens, and a few wait
// for the disk. Links and special files have no content of their own: fsync(2) of their directory writes
// their inodes too.
func syncEach(ctx context.Context, d *Dir, name string) error {
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(min(max(2*runtime.NumCPU(), 4), 16))
	s := treeSync{workers}
	err := s.walk(ctx, d, name)
	// A worker's error cancels ctx, and is the reason that the walk ended.
	if failed := workers.Wait(); failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	return d.Sync() // at last: name is then the name of what is on stable storage
}

// treeSync syncs files by a few workers.
type treeSync struct{ workers *errgroup.Group }

// walk hands on all files, and syncs the directories. It keeps one directory open, however deep they are
// nested.
func (s treeSync) walk(ctx context.Context, d *Dir, name string) error {
	dirs := []string{""}
	if name != "" {
		st, err := d.Stat(name)
		if err != nil {
			return err
		}
		if st.Kind != KindDir {
			return s.file(d, st, name)
		}
		dirs = []string{name}
	}
	for len(dirs) > 0 {
		rel := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		if err := ctx.Err(); err != nil {
			return err
		}
		below, err := s.dir(d, rel)
		if err != nil {
			return err
		}
		dirs = append(dirs, below...)
	}
	return nil
}

// dir syncs what is directly in the directory rel, and the directory, and returns the directories in it.
func (s treeSync) dir(d *Dir, rel string) (dirs []string, err error) {
	sub, err := d.Walk(rel)
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	names, err := sub.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		st, err := sub.Stat(name)
		if err != nil {
			return nil, err
		}
		if st.Kind == KindDir {
			dirs = append(dirs, path.Join(rel, name))
			continue
		}
		if err := s.file(sub, st, name); err != nil {
			return nil, err
		}
	}
	return dirs, sub.Sync()
}

// file opens a file and leaves it to a worker.
func (s treeSync) file(d *Dir, st Stat, name string) error {
	if st.Kind != KindFile {
		return nil
	}
	f, err := d.OpenFile(name)
	if err != nil {
		return err
	}
	s.workers.Go(func() error { return errors.Join(f.Sync(), f.Close()) })
	return nil
}
