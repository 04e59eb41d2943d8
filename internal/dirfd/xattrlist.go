package dirfd

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Xattr is one extended attribute. Its name has its namespace before it, "user.comment", on every system.
type Xattr struct {
	Name  string // bytes, not always UTF-8
	Value []byte
}

// maxXattr bounds one value, one list of names, and the names and values that are kept of one file: Linux has
// no larger values, and UFS2 holds for a file no more than two blocks of 32 KiB. ZFS and the tmpfs of Linux
// hold more, which nothing else could.
const maxXattr = 64 << 10

// KeptXattr reports whether an attribute is part of a file: the user's own, and on Linux POSIX ACLs and
// capabilities.
func KeptXattr(name string) bool {
	return strings.HasPrefix(name, "user.") || name == "security.capability" ||
		name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// errTooLong reports that an answer is longer than maxXattr.
var errTooLong = errors.New("larger than 64 KiB")

// sized calls get with larger and larger buffers until the answer does not fill one. If a buffer is too
// small, Linux returns ERANGE, and FreeBSD fills it without an error.
func sized(get func([]byte) (int, error)) ([]byte, error) {
	for size := 1 << 10; ; size *= 8 {
		buf := make([]byte, min(size, maxXattr)+1)
		n, err := retry(func() (int, error) { return get(buf) })
		switch {
		case err == nil && n < len(buf):
			return slices.Clone(buf[:n]), nil
		case err != nil && err != unix.ERANGE:
			return nil, err
		case size >= maxXattr:
			return nil, errTooLong
		}
	}
}

// splitNames reads the list of extattr_list_fd(2): before each name a byte with its length, and no namespace.
func splitNames(b []byte) ([]string, error) {
	var names []string
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 || n >= len(b) {
			return nil, unix.EINVAL
		}
		names, b = append(names, string(b[1:1+n])), b[1+n:]
	}
	return names, nil
}
