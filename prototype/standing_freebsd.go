package prototype

import "golang.org/x/sys/unix"

// SystemStanding asks statfs(2) of a directory without links in its path. It tells of a ZFS dataset its name,
// of a nullfs(5) the directory that it shows, and of both where they are mounted, as mount(8) was given it,
// without links.
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
