package mount

import (
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// zfsMagic is the type that statfs(2) reports for ZFS.
const zfsMagic = 0x2fc12fc1

// Holding finds the mount of ZFS that holds a directory, whose path is free of links; no other type is
// named. It calls statfs(2), and reads the dataset from the table of mounts. Dir is "" for a bind mount of
// a part of the dataset, which has no name of its own.
func Holding(dir string) (Mount, error) {
	var st unix.Statfs_t
	if err := statfs(dir, &st); err != nil {
		return Mount{}, err
	}
	if st.Type != zfsMagic {
		return Mount{}, nil
	}
	on, err := mountinfo.GetMounts(mountinfo.ParentsFilter(dir))
	if err != nil {
		return Mount{}, err
	}
	found := Mount{Type: "zfs"}
	deepest := ""
	for _, m := range on {
		if m.FSType != "zfs" || len(m.Mountpoint) < len(deepest) {
			continue
		}
		deepest, found.Source, found.Dir = m.Mountpoint, m.Source, m.Mountpoint
		if m.Root != "/" {
			found.Dir = ""
		}
	}
	return found, nil
}
