// Package dirfd reads and changes file trees by directory descriptor.
//
// Everything below a jail's live tree or a cfg is reached through it, and so is the host's live tree where a
// verb of package overlay works on it. What always holds: a name is one component, looked up relative to an
// open directory and never followed if it is a symbolic link, so that nothing planted in a tree (a link, a
// directory swapped for one, a name with "..") leads out of it; only regular files and directories are
// opened, never a fifo, a socket or a device; every change passes through a Hook, so that tests record it
// and inject its failure.
//
// It knows nothing of what the trees mean.
package dirfd

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrBadName is the error for a name that is not one component of a path.
var ErrBadName = errors.New("not a file name")

// Op is one change of a tree that is about to happen.
type Op struct {
	// create, write, truncate, fsync, syncdir, synctree, mkdir, symlink, link, rename, unlink, rmdir,
	// chmod, chown, utimes, flags, xattr, rmxattr
	Kind string
	Path string // below the root of the tree
	To   string // the second path of a rename or link, the target of a symlink, the name of an attribute
	Off  int64  // of a write
	Data []byte // of a write
	Mode uint32 // of create, mkdir, chmod; of flags the flags

	UID, GID uint32 // of chown
	MTime    int64  // of utimes
}

// Hook is called before each change; an error stops the change and is returned in its place.
type Hook func(Op) error

// Dir is an open directory of a tree. It must be closed.
type Dir struct {
	fd   int
	root string // the path by which the tree was opened, for messages
	path string // below the root, "" for the root
	hook Hook

	// the flags of a path, for tests where chflags(2) is missing; nil asks the system
	flags func(path string) uint32
}

// below is an open directory of the same tree.
func (d *Dir) below(fd int, path string) *Dir {
	return &Dir{fd: fd, root: d.root, path: path, hook: d.hook, flags: d.flags}
}

// Open opens a directory by a path that is trusted: links in it are followed.
// A non-nil hook is asked before every change below it.
func Open(name string, hook Hook) (*Dir, error) {
	fd, err := retry(func() (int, error) { return unix.Open(name, dirFlags, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &Dir{fd: fd, root: name, hook: hook}, nil
}

// OpenBelow opens the directory rel below the trusted directory name, following no link in rel.
// It is the root of a new tree: paths and messages count from there.
func OpenBelow(name, rel string, hook Hook) (*Dir, error) {
	d, err := Open(name, hook)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	sub, err := d.Walk(rel)
	if err != nil {
		return nil, err
	}
	sub.root, sub.path = filepath.Join(name, rel), ""
	return sub, nil
}

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC

// Close closes the descriptor.
func (d *Dir) Close() error {
	if d == nil || d.fd < 0 {
		return nil
	}
	err := unix.Close(d.fd)
	d.fd = -1
	return err
}

// Rooted makes an open directory the root of a tree of its own: paths and messages count from there.
func (d *Dir) Rooted() *Dir {
	d.root, d.path = filepath.Join(d.root, d.path), ""
	return d
}

// Path returns the directory's path below the root of its tree, "" for the root.
func (d *Dir) Path() string { return d.path }

// Display returns the path of a name for messages.
func (d *Dir) Display(name string) string { return filepath.Join(d.root, d.path, name) }

// Fd returns the descriptor, for operations that this package lacks. The Dir still owns it.
func (d *Dir) Fd() int { return d.fd }

func (d *Dir) join(name string) string {
	if d.path == "" {
		return name
	}
	return d.path + "/" + name
}

func (d *Dir) fail(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: d.Display(name), Err: err}
}

// check returns an error for a name that is not a single component.
func (d *Dir) check(op, name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return d.fail(op, name, ErrBadName)
	}
	return nil
}

// Dir opens the directory name, which must not be a link.
func (d *Dir) Dir(name string) (*Dir, error) {
	if err := d.check("open", name); err != nil {
		return nil, err
	}
	fd, err := retry(func() (int, error) { return unix.Openat(d.fd, name, dirFlags|unix.O_NOFOLLOW, 0) })
	if err != nil {
		return nil, d.fail("open", name, err)
	}
	return d.below(fd, d.join(name)), nil
}

// Walk opens the directory at rel, one component at a time; "" opens the directory once more.
func (d *Dir) Walk(rel string) (*Dir, error) {
	cur, err := d.again()
	if err != nil || rel == "" {
		return cur, err
	}
	for name := range strings.SplitSeq(rel, "/") {
		next, err := cur.Dir(name)
		cur.Close()
		if err != nil {
			return nil, err
		}
		cur = next
	}
	return cur, nil
}

// Parent opens the directory that holds the last component of rel and returns that component.
func (d *Dir) Parent(rel string) (*Dir, string, error) {
	dir, name := path.Split(rel)
	p, err := d.Walk(strings.TrimSuffix(dir, "/"))
	return p, name, err
}

func (d *Dir) again() (*Dir, error) {
	fd, err := retry(func() (int, error) { return unix.Openat(d.fd, ".", dirFlags, 0) })
	if err != nil {
		return nil, d.fail("open", "", err)
	}
	return d.below(fd, d.path), nil
}

// Names lists the directory, sorted by bytes, without "." and "..".
func (d *Dir) Names() ([]string, error) {
	if _, err := unix.Seek(d.fd, 0, io.SeekStart); err != nil {
		return nil, d.fail("seek", "", err)
	}
	var names []string
	buf := make([]byte, 16<<10)
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(d.fd, buf) })
		if err != nil {
			return nil, d.fail("readdir", "", err)
		}
		if n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	slices.Sort(names)
	return names, nil
}

// Readlink returns the target of the symbolic link name.
func (d *Dir) Readlink(name string) (string, error) {
	if err := d.check("readlink", name); err != nil {
		return "", err
	}
	buf := make([]byte, 4097)
	n, err := retry(func() (int, error) { return unix.Readlinkat(d.fd, name, buf) })
	if err != nil {
		return "", d.fail("readlink", name, err)
	}
	if n == len(buf) {
		return "", d.fail("readlink", name, unix.ENAMETOOLONG)
	}
	return string(buf[:n]), nil
}

// Stat returns the Stat of name itself, not of a link's target.
func (d *Dir) Stat(name string) (Stat, error) {
	if err := d.check("stat", name); err != nil {
		return Stat{}, err
	}
	var st unix.Stat_t
	err := again(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return Stat{}, d.fail("stat", name, err)
	}
	return d.seen(&st, d.join(name)), nil
}

// seen returns a file's Stat. In a test that replaces chflags(2) the flags come from the test.
func (d *Dir) seen(st *unix.Stat_t, path string) Stat {
	s := fromUnix(st)
	if d.flags != nil {
		s.Flags = d.flags(path)
	}
	return s
}

// Self returns the Stat of the directory itself.
func (d *Dir) Self() (Stat, error) {
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(d.fd, &st) }); err != nil {
		return Stat{}, d.fail("stat", "", err)
	}
	return d.seen(&st, d.path), nil
}

// Space returns the space of the filesystem that holds the directory.
func (d *Dir) Space() (Space, error) {
	var st unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(d.fd, &st) }); err != nil {
		return Space{}, d.fail("statfs", "", err)
	}
	return spaceOf(&st), nil
}

// Identity identifies the directory and its filesystem, until the filesystem is unmounted and made again.
func (d *Dir) Identity() (string, error) {
	id, err := identityOf(d.fd)
	if err != nil {
		return "", d.fail("stat", "", err)
	}
	return id, nil
}

// MountRoot reports whether the directory is where a filesystem is mounted.
func (d *Dir) MountRoot() (bool, error) {
	on, err := mountRoot(d.fd)
	if err != nil {
		return false, d.fail("stat", "", err)
	}
	return on, nil
}
