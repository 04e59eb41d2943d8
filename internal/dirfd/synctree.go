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
	return d.syncEach(ctx, name)
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
func (d *Dir) syncEach(ctx context.Context, name string) error {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(min(max(2*runtime.NumCPU(), 4), 16))
	err := d.syncWalk(ctx, name, work)
	if werr := work.Wait(); werr != nil { // it ended the walk
		return werr
	}
	if err != nil {
		return err
	}
	return d.Sync() // at last: name is then the name of what is on stable storage
}

// syncWalk hands on all files, and syncs the directories. It keeps one directory open, however deep they are
// nested.
func (d *Dir) syncWalk(ctx context.Context, name string, work *errgroup.Group) error {
	dirs := []string{""}
	if name != "" {
		st, err := d.Stat(name)
		if err != nil {
			return err
		}
		if st.Kind != KindDir {
			return d.syncName(st, name, work)
		}
		dirs = []string{name}
	}
	for len(dirs) > 0 {
		rel := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		below, err := d.syncNames(rel, work)
		if err != nil {
			return err
		}
		dirs = append(dirs, below...)
	}
	return nil
}

// syncNames syncs what is directly in the directory rel, and the directory, and returns the directories in
// it.
func (d *Dir) syncNames(rel string, work *errgroup.Group) (dirs []string, err error) {
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
		if err := sub.syncName(st, name, work); err != nil {
			return nil, err
		}
	}
	return dirs, sub.Sync()
}

func (d *Dir) syncName(st Stat, name string, work *errgroup.Group) error {
	if st.Kind != KindFile {
		return nil
	}
	f, err := d.OpenFile(name)
	if err != nil {
		return err
	}
	work.Go(func() error { return errors.Join(f.Sync(), f.Close()) })
	return nil
}
