package prototype

import (
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// zfsMagic is the type that statfs(2) reports for ZFS.
const zfsMagic = 0x2fc12fc1

// SystemStanding calls statfs(2) to find whether a directory without links in its path is on ZFS. The
// dataset is read from the table of mounts.
func SystemStanding(dir string) (Standing, error) {
	var st unix.Statfs_t
	if err := statfs(dir, &st); err != nil {
		return Standing{}, err
	}
	if st.Type != zfsMagic {
		return Standing{}, nil
	}
	on, err := mountinfo.GetMounts(mountinfo.ParentsFilter(dir))
	if err != nil {
		return Standing{}, err
	}
	s := Standing{Type: "zfs"}
	deepest := ""
	for _, m := range on {
		if m.FSType != "zfs" || len(m.Mountpoint) < len(deepest) {
			continue
		}
		deepest, s.Source, s.On = m.Mountpoint, m.Source, m.Mountpoint
		if m.Root != "/" { // a bind mount of a part of it
			s.On = ""
		}
	}
	return s, nil
}
