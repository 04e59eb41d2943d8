package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/mount"
	"cfgd/overlay/tree"
)

// baseMount is where a jail's fstab mounts its base, below the jail's root.
const baseMount = "conf/base/etc"

// OpenSnapshot opens the root of a base: a prototype's snapshot, or another tree of the administrator's. The
// system may refuse to enter a snapshot (ELOOP) while a jail's mount of it stands. Then OpenSnapshot opens
// that mount, if the table of mounts says that it is of this snapshot.
func OpenSnapshot(name string) (*dirfd.Dir, error) {
	d, err := dirfd.Open(name, nil)
	if !errors.Is(err, unix.ELOOP) {
		return d, err
	}
	for _, on := range mountsOf(name) {
		root, ok := strings.CutSuffix(on, "/"+baseMount)
		if !ok {
			continue
		}
		m, merr := dirfd.OpenBelow(root, baseMount, nil)
		if merr != nil {
			continue
		}
		if is, merr := m.MountRoot(); merr == nil && is {
			return m, nil
		}
		m.Close()
	}
	return nil, err
}

// StatSnapshot checks that a snapshot's path is a directory, or a mounted one that the system does not enter.
func StatSnapshot(name string) error {
	st, err := os.Stat(name)
	switch {
	case errors.Is(err, unix.ELOOP) && len(mountsOf(name)) > 0:
		return nil
	case err == nil && !st.IsDir():
		return &os.PathError{Op: "snapshot", Path: name, Err: unix.ENOTDIR}
	}
	return err
}

// mountsOf lists the directories on which a snapshot is the topmost mount. nullfs(5) shows the path that it
// was mounted from. A bind mount on Linux shows the snapshot's own name: the dataset that is mounted on the
// tree, and the snapshot.
func mountsOf(name string) []string {
	all, err := mount.All()
	if err != nil {
		return nil
	}
	top := map[string]mount.Mount{}
	for _, on := range all {
		top[on.Dir] = on
	}
	sources := map[string]bool{name: true}
	if snap, ok := config.ParseSnapshot(name); ok && snap.Sub == "" {
		if tree := top[snap.Tree]; tree.Type == "zfs" {
			sources[tree.Source+"@"+snap.Name] = true
		}
	}
	var dirs []string
	for dir, on := range top {
		if sources[on.Source] && dir != name {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// CompareTrees counts the differences between two trees by ChangeKind.String.
func CompareTrees(ctx context.Context, old, new string) (map[string]int, error) {
	var trees [2]*tree.Tree
	for i, path := range []string{old, new} {
		d, err := OpenSnapshot(path)
		if err != nil {
			return nil, err
		}
		trees[i], err = tree.Scan(ctx, d, tree.ScanOptions{})
		d.Close()
		if err != nil {
			return nil, fmt.Errorf("scan %s: %w", path, err)
		}
	}
	count := map[string]int{}
	for _, c := range tree.Delta(trees[0], trees[1]) {
		count[c.Kind.String()]++
	}
	return count, nil
}
