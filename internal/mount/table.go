package mount

import (
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Mount is an entry of the system's table of mounts.
type Mount struct {
	Source string // the dataset, the device, or the directory that a nullfs(5) shows
	Dir    string // where it is mounted
	Type   string // as mount(8) names it: zfs, ufs, nullfs
}

// All returns the whole table, in the order in which the mounts were made (FreeBSD: vfs_domount_first of
// sys/kern/vfs_mount.c).
func All() ([]Mount, error) { return filtered(nil) }

// On returns the mounts on exactly this directory, the topmost last. The path must be free of links.
func On(dir string) ([]Mount, error) { return filtered(exactly(dir)) }

// exactly finds all mounts on a directory. mountinfo.SingleEntryFilter stops at the first, which the others
// cover.
func exactly(dir string) mountinfo.FilterFunc {
	return func(i *mountinfo.Info) (skip, stop bool) { return i.Mountpoint != dir, false }
}

// Below returns the mounts on a directory and below it. The path must be free of links.
func Below(dir string) ([]Mount, error) { return filtered(mountinfo.PrefixFilter(dir)) }

func filtered(filter mountinfo.FilterFunc) ([]Mount, error) {
	infos, err := mountinfo.GetMounts(filter)
	if err != nil {
		return nil, err
	}
	var all []Mount
	for _, i := range infos {
		all = append(all, Mount{Source: i.Source, Dir: i.Mountpoint, Type: i.FSType})
	}
	return all, nil
}

// statfs calls statfs(2), and again if a signal interrupts it.
func statfs(dir string, st *unix.Statfs_t) error {
	for {
		if err := unix.Statfs(dir, st); err != unix.EINTR {
			return err
		}
	}
}
