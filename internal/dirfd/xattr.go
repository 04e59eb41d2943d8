package dirfd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoXattr reports that the filesystem has no extended attributes.
var ErrNoXattr = errors.New("no extended attributes here")

// Xattrs returns the kept attributes of the open file, sorted by name. An error comes with those that could
// be read.
func (f *File) Xattrs() ([]Xattr, error) {
	x, err := xattrs(f.fd)
	if err != nil && err != ErrNoXattr {
		err = f.dir.fail("listxattr", f.name, err)
	}
	return x, err
}

// Xattrs returns the kept attributes of the directory itself, sorted by name. An error comes with those that
// could be read.
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
	return f.change(op, func() error { return setXattr(f.fd, x) })
}

// SetXattr sets one attribute of the directory itself.
func (d *Dir) SetXattr(x Xattr) error {
	op := Op{Kind: "xattr", Path: d.path, To: x.Name, Data: x.Value}
	return d.hooked(op, "", func() error { return setXattr(d.fd, x) })
}

// errNoXattrSpace reports that a file has no space for an attribute, while its filesystem has space.
var errNoXattrSpace = errors.New("the file's other attributes leave no room for it")

// maxXattrSpace is more than all attributes of a file can take, in bytes. If a filesystem has as much
// free, a lack of space for an attribute is the file's.
const maxXattrSpace = 1 << 20

// setXattr distinguishes the two meanings of ENOSPC. UFS2 returns it for a full attribute area of two
// blocks (ffs_setextattr in ufs/ffs/ffs_vnops.c), and ext4 for one full block; both also return it for a
// full filesystem.
func setXattr(fd int, x Xattr) error {
	err := unix.Fsetxattr(fd, x.Name, x.Value, 0)
	if err != unix.ENOSPC {
		return err
	}
	var st unix.Statfs_t
	if again(func() error { return unix.Fstatfs(fd, &st) }) == nil && spaceOf(&st).Free >= maxXattrSpace {
		return fmt.Errorf("%w: %w", errNoXattrSpace, err)
	}
	return err
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

// NoXattr reports whether an error of Xattrs means that the filesystem has no attributes.
func NoXattr(err error) bool { return errors.Is(err, ErrNoXattr) }

// XattrRefused reports whether an error of SetXattr means that the filesystem cannot hold this attribute,
// or none. It checks only the error's number, and for ENOSPC the free space of the filesystem.
func XattrRefused(err error) bool {
	isErr := func(no unix.Errno) bool { return errors.Is(err, no) }
	return errors.Is(err, errNoXattrSpace) || slices.ContainsFunc(refused, isErr)
}

// xattrsTooLarge reports that attributes are larger than what is kept of one file.
type xattrsTooLarge struct {
	names  []string
	unread error // why others could not be read
}

func (e *xattrsTooLarge) Error() string {
	text := fmt.Sprintf("%q", e.names[:min(len(e.names), 3)])
	text = strings.Trim(text, "[]")
	if more := len(e.names) - 3; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	text += fmt.Sprintf(": a file's attributes are kept up to %d KiB in all", maxXattr>>10)
	if e.unread != nil {
		text = e.unread.Error() + "\n" + text
	}
	return text
}

func (e *xattrsTooLarge) Unwrap() error { return e.unread }

// XattrsTooLarge reports whether an error of Xattrs says no more than that some attributes are larger than
// what is kept of one file: all others could be read.
func XattrsTooLarge(err error) bool {
	var e *xattrsTooLarge
	return errors.As(err, &e) && e.unread == nil
}

// FitXattrs divides attributes, sorted by name, into those that are kept of one file and the names of those
// that are too large for it.
func FitXattrs(all []Xattr) (fit []Xattr, over []string) {
	size := 0
	for _, x := range all {
		if n := len(x.Name) + len(x.Value); size+n <= maxXattr {
			fit, size = append(fit, x), size+n
			continue
		}
		over = append(over, x.Name)
	}
	return fit, over
}

func xattrs(fd int) ([]Xattr, error) {
	names, err := listXattrs(fd)
	if err == unix.EOPNOTSUPP {
		return nil, ErrNoXattr
	}
	if err != nil {
		return nil, err
	}
	return readXattrs(names, func(name string, b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
}

// readXattrs reads the attributes of a list. One that can't be read keeps none of the others from being read;
// one that was removed since it was listed is left out. Those that fit into maxXattr are kept, in the order
// of their names.
func readXattrs(names []string, get func(name string, b []byte) (int, error)) (all []Xattr, err error) {
	slices.Sort(names)
	var over []string
	size := 0
	for _, name := range names {
		val, e := sized(func(b []byte) (int, error) { return get(name, b) })
		n := len(name) + len(val)
		switch {
		case e == errNoAttr:
		case e == errTooLong, e == nil && size+n > maxXattr:
			over = append(over, name)
		case e != nil:
			err = errors.Join(err, fmt.Errorf("%q: %w", name, e))
		default:
			all, size = append(all, Xattr{name, val}), size+n
		}
	}
	if over != nil {
		err = &xattrsTooLarge{over, err}
	}
	return all, err
}
