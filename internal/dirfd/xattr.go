package dirfd

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoXattr says that the filesystem holds no extended attributes.
var ErrNoXattr = errors.New("no extended attributes here")

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// maxXattr bounds one value; Linux has 64 KiB, extattr(2) on UFS less.
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

// SetXattr sets one attribute of the open file.
func (f *File) SetXattr(x Xattr) error {
	return f.change(Op{Kind: "xattr", To: x.Name, Data: x.Value}, func() error { return unix.Fsetxattr(f.fd, x.Name, x.Value, 0) })
}

// SetXattr sets one attribute of the directory itself.
func (d *Dir) SetXattr(x Xattr) error {
	op := Op{Kind: "xattr", Path: d.path, To: x.Name, Data: x.Value}
	return d.hooked(op, "", func() error { return unix.Fsetxattr(d.fd, x.Name, x.Value, 0) })
}

// NoXattr reports whether the error says that attributes are not to be had here.
func NoXattr(err error) bool { return err == ErrNoXattr || noXattr(err) }

func xattrs(fd int) ([]Xattr, error) {
	buf := make([]byte, 1024)
	n, err := retry(func() (int, error) { return unix.Flistxattr(fd, buf) })
	if err == unix.ERANGE {
		buf = make([]byte, maxXattr)
		n, err = retry(func() (int, error) { return unix.Flistxattr(fd, buf) })
	}
	if err != nil {
		if noXattr(err) {
			return nil, ErrNoXattr
		}
		return nil, err
	}
	if n == 0 {
		return nil, nil
	}
	return readXattrs(fd, strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00"))
}

func readXattrs(fd int, names []string) ([]Xattr, error) {
	var out []Xattr
	slices.Sort(names)
	for _, name := range names {
		if !keptXattr(name) {
			continue
		}
		val := make([]byte, maxXattr)
		n, err := retry(func() (int, error) { return unix.Fgetxattr(fd, name, val) })
		if err != nil {
			return nil, err
		}
		out = append(out, Xattr{name, slices.Clone(val[:n])})
	}
	return out, nil
}
