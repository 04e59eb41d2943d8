package dirfd

import "golang.org/x/sys/unix"

// userNamespace is the namespace of extattr(2) whose attributes are kept, by the names that Linux has for
// them. The system namespace is left out: it needs privilege, which a jail lacks. What base has there are
// ACLs. UFS keeps them as attributes and ZFS does not, and they count only on a filesystem mounted for
// them, which neither md(4) nor tmpfs(5) is.
const userNamespace = "user."

const errNoAttr = unix.ENOATTR

// refused: the tmpfs(5) of older releases, such as 13.2, and UFS1 have no attributes; UFS1 with
// extattrctl(8) has only configured ones, up to a size; ZFS takes no name with a slash and few of 255
// bytes. UFS2 returns EFBIG if one value is larger than its two blocks. EPERM is not among them, because
// it is what a flag of chflags(2) returns.
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
