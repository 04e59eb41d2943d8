package dirfd

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrNoXattr says that the filesystem holds no extended attributes.
var ErrNoXattr = errors.New("no extended attributes here")

// Xattr is one extended attribute. Its name has its namespace before it, "user.comment", on every system.
type Xattr struct {
	Name  string // bytes, not always UTF-8
	Value []byte
}

// maxXattr bounds one value: Linux has no larger ones, and UFS2 none of more than two blocks. ZFS has: those
// are left out, as nothing else could hold them.
const maxXattr = 64 << 10

// Xattrs returns the kept attributes of the open file, sorted by name.
func (f *File) Xattrs() ([]Xattr, error) {
	x, err := xattrs(f.fd)
	if err != nil && err != ErrNoXattr {
		err = f.dir.fail("listxattr", f.name, err)
	}
	return x, err
}

// Xattrs returns the kept attributes of the directory itself, sorted by name.
func (d *Dir) Xattrs() ([]Xattr, error) {
	x, err := xattrs(d.fd)
	if err != nil && err != ErrNoXattr {
		err = d.fail("listxattr", "", err)
	}
	return x, err
}

// SetXattr sets one attribute of the open file. It comes before Chmod: one of the user namespace takes
// permission to write the file.
func (f *File) SetXattr(x Xattr) error {
	op := Op{Kind: "xattr", To: x.Name, Data: x.Value}
	return f.change(op, func() error { return unix.Fsetxattr(f.fd, x.Name, x.Value, 0) })
}

// SetXattr sets one attribute of the directory itself.
func (d *Dir) SetXattr(x Xattr) error {
	op := Op{Kind: "xattr", Path: d.path, To: x.Name, Data: x.Value}
	return d.hooked(op, "", func() error { return unix.Fsetxattr(d.fd, x.Name, x.Value, 0) })
}

// RemoveXattr removes one attribute of the directory itself; one that is not there is no error.
func (d *Dir) RemoveXattr(name string) error {
	return d.hooked(Op{Kind: "rmxattr", Path: d.path, To: name}, "", func() error {
		if err := unix.Fremovexattr(d.fd, name); err != errNoAttr {
			return err
		}
		return nil
	})
}

// NoXattr reports whether an error of Xattrs says that the filesystem holds no attributes.
func NoXattr(err error) bool { return errors.Is(err, ErrNoXattr) }

// XattrRefused reports whether an error of SetXattr says that the filesystem can't hold this attribute, or
// none. It is told by its number alone.
func XattrRefused(err error) bool {
	return slices.ContainsFunc(refused, func(no unix.Errno) bool { return errors.Is(err, no) })
}

func xattrs(fd int) ([]Xattr, error) {
	names, err := listXattrs(fd)
	if err == unix.EOPNOTSUPP {
		return nil, ErrNoXattr
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var out []Xattr
	for _, name := range names {
		val, err := sized(func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
		if err == errNoAttr || err == errTooLong {
			continue // removed since it was listed; or not to be kept
		}
		if err != nil {
			return nil, err
		}
		out = append(out, Xattr{name, val})
	}
	return out, nil
}

// errTooLong says that an answer is longer than maxXattr.
var errTooLong = errors.New("extended attributes of more than 64 KiB")

// sized calls get with larger and larger buffers until the answer leaves room in one. A buffer that is too
// small is ERANGE on Linux, and filled without a word on FreeBSD.
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
