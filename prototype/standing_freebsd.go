package prototype

import "golang.org/x/sys/unix"

// SystemStanding calls statfs(2) on a directory without links in its path. For a ZFS dataset it returns
// the name, for a nullfs(5) the directory that it shows, and for both the mountpoint, as it was given to
// mount(8), without links.
func SystemStanding(dir string) (Standing, error) {
	var st unix.Statfs_t
	if err := statfs(dir, &st); err != nil {
		return Standing{}, err
	}
	return Standing{
		Type: unix.ByteSliceToString(st.Fstypename[:]), Source: unix.ByteSliceToString(st.Mntfromname[:]),
		On: unix.ByteSliceToString(st.Mntonname[:]),
	}, nil
}
