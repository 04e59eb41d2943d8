package overlay

import (
	"errors"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/dirfd"
)

// baseMount is where a jail's fstab mounts its base, below its root.
const baseMount = "conf/base/etc"

// OpenSnapshot opens the root of a base: a prototype's snapshot, or another tree of the administrator's. A snapshot's path may be one that the system will
// not enter (ELOOP) for as long as a jail's mount of it stands. Then that mount is it, if the system's table of mounts says that it is of this snapshot.
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

// StatSnapshot sees that a snapshot's path is a directory, or one that the system does not enter but has mounted.
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

// mountsOf are the directories on which a snapshot is the topmost mount. nullfs(5) tells the path that it was mounted from; a bind mount of Linux the
// snapshot's own name: that of the dataset which is mounted on the tree, and the snapshot's.
func mountsOf(name string) []string {
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil
	}
	top := map[string]*mountinfo.Info{}
	for _, on := range all {
		top[on.Mountpoint] = on
	}
	sources := map[string]bool{name: true}
	if snap, ok := config.ParseSnapshot(name); ok && snap.Sub == "" {
		if tree := top[snap.Tree]; tree != nil && tree.FSType == "zfs" {
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
