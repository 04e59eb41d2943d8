package dirfd

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const errNoAttr = unix.ENODATA

// refused: EPERM is returned to an ordinary user for security.capability, ERANGE and E2BIG for a name and
// a value that are too long, EINVAL for an invalid ACL.
var refused = []unix.Errno{unix.EOPNOTSUPP, unix.EPERM, unix.E2BIG, unix.ERANGE, unix.EINVAL}

// listXattrs lists the attributes that are part of a file: the user's own, POSIX ACLs and capabilities.
func listXattrs(fd int) ([]string, error) {
	b, err := sized(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	if err != nil || len(b) == 0 {
		return nil, err
	}
	names := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	return slices.DeleteFunc(names, func(name string) bool { return !KeptXattr(name) }), nil
}
