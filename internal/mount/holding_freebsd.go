package mount

import "golang.org/x/sys/unix"

// Holding calls statfs(2) to find the mount that holds a directory, whose path is free of links. Source is
// the name of a ZFS dataset, or the directory that a nullfs(5) shows, and Dir the mountpoint, as they were
// given to mount(8), without links.
func Holding(dir string) (Mount, error) {
	var st unix.Statfs_t
	if err := statfs(dir, &st); err != nil {
		return Mount{}, err
	}
	return Mount{
		Source: unix.ByteSliceToString(st.Mntfromname[:]), Dir: unix.ByteSliceToString(st.Mntonname[:]),
		Type: unix.ByteSliceToString(st.Fstypename[:]),
	}, nil
}
