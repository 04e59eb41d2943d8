package dirfd

import "golang.org/x/sys/unix"

// What travels is the user namespace of extattr(2), by the names that Linux has for it. The system namespace
// stays where it is: it takes privilege, which a jail has not, and what base puts there are ACLs, which UFS
// keeps as attributes and ZFS does not, which count only on a filesystem mounted for them, and which neither
// md(4) nor tmpfs(5) is.
const userNamespace = "user."

const errNoAttr = unix.ENOATTR

// refused: the tmpfs(5) of older releases, 13.2 among them, and UFS1 hold no attributes; UFS1 with
// extattrctl(8) only those that it was told of, up to a size; ZFS no name with a slash and few of 255 bytes.
// UFS2 answers EFBIG where a value alone is larger than its two blocks. EPERM is none of them: it is what a
// flag of chflags(2) answers.
var refused = []unix.Errno{unix.EOPNOTSUPP, unix.ENOATTR, unix.ENXIO, unix.EINVAL, unix.ENAMETOOLONG,
	unix.EFBIG, unix.E2BIG, unix.ERANGE}

// listXattrs lists the attributes that are part of a file. The list may be long: names of 255 bytes, as many
// as one likes.
func listXattrs(fd int) ([]string, error) {
	b, err := sized(func(b []byte) (int, error) {
		return unix.FlistxattrNS(fd, unix.EXTATTR_NAMESPACE_USER, b)
	})
	if err != nil {
		return nil, err
	}
	names, err := splitNames(b)
	for i := range names {
		names[i] = userNamespace + names[i]
	}
	return names, err
}
