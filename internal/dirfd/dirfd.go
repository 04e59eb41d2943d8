// Package dirfd reads and changes file trees by directory descriptor.
//
// It owns every access below a live tree or a cfg store. What always holds: a
// name is one component, looked up relative to an open directory and never
// followed if it is a symbolic link, so that nothing planted in a tree (a link,
// a directory swapped for one, a name with "..") leads out of it; only regular
// files and directories are opened, never a fifo, a socket or a device; every
// change passes through a Hook, so that tests record it and inject its failure.
//
// It never cleans, joins or guesses paths, and knows nothing of what the trees mean.
package dirfd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotRegular is the error for opening a name that is no regular file, or no longer one.
var ErrNotRegular = errors.New("not a regular file")

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

// change calls hooked for a name after checking it.
func (d *Dir) change(op Op, name string, do func() error, also ...named) error {
	if err := d.check(op.Kind, name); err != nil {
		return err
	}
	return d.hooked(op, name, do, also...)
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

// Mkdir makes a directory that its owner alone may use until Chmod says otherwise.
func (d *Dir) Mkdir(name string) error {
	op := Op{Kind: "mkdir", Path: d.join(name), Mode: 0o700}
	return d.change(op, name, func() error { return unix.Mkdirat(d.fd, name, 0o700) })
}

// Symlink makes a symbolic link with that target.
func (d *Dir) Symlink(target, name string) error {
	op := Op{Kind: "symlink", Path: d.join(name), To: target}
	return d.change(op, name, func() error { return unix.Symlinkat(target, d.fd, name) })
}

// Link makes newName in newDir another name of the file name.
func (d *Dir) Link(name string, newDir *Dir, newName string) error {
	if err := newDir.check("link", newName); err != nil {
		return err
	}
	op := Op{Kind: "link", Path: d.join(name), To: newDir.join(newName)}
	link := func() error { return unix.Linkat(d.fd, name, newDir.fd, newName, 0) }
	return d.change(op, name, link, named{newDir, newName})
}

// Rename moves name to newName in newDir, replacing what is there.
func (d *Dir) Rename(name string, newDir *Dir, newName string) error {
	if err := newDir.check("rename", newName); err != nil {
		return err
	}
	op := Op{Kind: "rename", Path: d.join(name), To: newDir.join(newName)}
	rename := func() error { return unix.Renameat(d.fd, name, newDir.fd, newName) }
	return d.change(op, name, rename, named{newDir, newName})
}

// Unlink removes a name that is no directory.
func (d *Dir) Unlink(name string) error {
	op := Op{Kind: "unlink", Path: d.join(name)}
	return d.change(op, name, func() error { return unix.Unlinkat(d.fd, name, 0) })
}

// Rmdir removes an empty directory.
func (d *Dir) Rmdir(name string) error {
	op := Op{Kind: "rmdir", Path: d.join(name)}
	return d.change(op, name, func() error { return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR) })
}

// deepest is how many directories are open at once while a tree is removed. Deeper ones are moved up
// first: somebody may have nested directories to exhaust the descriptors of a process that removes them.
const deepest = 64

// RemoveTree is RemoveAll for a trusted path. A missing path, or a missing parent, is no error.
func RemoveTree(name string, hook Hook) error {
	d, err := Open(filepath.Dir(name), hook)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.RemoveAll(filepath.Base(name))
}

// RemoveAll removes name and everything below it, whatever flags it has. It follows no link. A missing
// name is no error.
func (d *Dir) RemoveAll(name string) error {
	todo := []string{name}
	for len(todo) > 0 {
		last := len(todo) - 1
		var deeper []string
		err := d.remove(todo[last], d, 0, &deeper)
		if err != nil {
			return err
		}
		todo = append(todo[:last], deeper...)
	}
	return nil
}

// remove removes name and what is below it. Directories that are too deep are moved up to top, and their
// names there are added to moved.
func (d *Dir) remove(name string, top *Dir, depth int, moved *[]string) error {
	st, err := d.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Kind != KindDir:
		return d.Unlink(name)
	case depth == deepest:
		up, err := top.unused()
		if err != nil {
			return err
		}
		*moved = append(*moved, up)
		return d.Rename(name, top, up)
	}
	sub, err := d.Dir(name)
	if err != nil {
		return err
	}
	err = sub.clear(top, depth+1, moved)
	sub.Close()
	if err != nil {
		return err
	}
	return d.Rmdir(name)
}

// unused returns a name that the directory does not have.
func (d *Dir) unused() (string, error) {
	for n := 0; ; n++ {
		name := fmt.Sprintf(".cfgd.deep.%d", n)
		if _, err := d.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", err
		}
	}
}

// Clear removes all that is in the directory, and keeps the directory.
func (d *Dir) Clear() error {
	var moved []string
	err := d.clear(d, 0, &moved)
	for _, name := range moved {
		if err == nil {
			err = d.RemoveAll(name)
		}
	}
	return err
}

func (d *Dir) clear(top *Dir, depth int, moved *[]string) error {
	names, err := d.Names()
	if err != nil {
		return err
	}
	if st, err := d.Self(); err == nil && st.Mode&0o300 != 0o300 && os.Geteuid() != 0 {
		_ = d.Chmod(st.Mode | 0o700)
	}
	for _, name := range names {
		if err := d.remove(name, top, depth, moved); err != nil {
			return err
		}
	}
	return nil
}

// Chmod sets the permission bits, 07777, of the directory itself.
func (d *Dir) Chmod(mode uint32) error {
	op := Op{Kind: "chmod", Path: d.path, Mode: mode}
	return d.hooked(op, "", func() error { return unix.Fchmod(d.fd, mode) })
}

// Chown sets owner and group of name, or of the directory itself for "", never of a link's target.
func (d *Dir) Chown(name string, uid, gid uint32) error {
	op := Op{Kind: "chown", Path: d.join(name), UID: uid, GID: gid}
	if name == "" {
		op.Path = d.path
		return d.hooked(op, name, func() error { return unix.Fchown(d.fd, int(uid), int(gid)) })
	}
	return d.change(op, name, func() error {
		return unix.Fchownat(d.fd, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Utimes sets the modification time of name, or of the directory itself for "", in nanoseconds since 1970.
func (d *Dir) Utimes(name string, mtime int64) error {
	ts := unix.NsecToTimespec(mtime)
	times := []unix.Timespec{ts, ts}
	if name == "" {
		op := Op{Kind: "utimes", Path: d.path, MTime: mtime}
		return d.hooked(op, name, func() error { return unix.UtimesNanoAt(d.fd, ".", times, 0) })
	}
	op := Op{Kind: "utimes", Path: d.join(name), MTime: mtime}
	return d.change(op, name, func() error {
		return unix.UtimesNanoAt(d.fd, name, times, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Sync brings the directory's names to stable storage.
func (d *Dir) Sync() error {
	return d.hooked(Op{Kind: "syncdir", Path: d.path}, "", func() error { return unix.Fsync(d.fd) })
}

// Create makes a new file, mode 0600, for writing; a name that is there already is an error.
func (d *Dir) Create(name string) (*File, error) {
	return d.CreateMode(name, 0o600)
}

// CreateMode is Create with other permission bits, less the process's umask.
func (d *Dir) CreateMode(name string, mode uint32) (*File, error) {
	var fd int
	err := d.change(Op{Kind: "create", Path: d.join(name), Mode: mode}, name, func() (err error) {
		fd, err = unix.Openat(d.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|
			unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &File{dir: d, fd: fd, name: name, path: d.join(name)}, nil
}

// Open opens the regular file name for reading. Anything else is ErrNotRegular and stays unopened.
func (d *Dir) Open(name string) (*File, error) {
	st, err := d.Stat(name)
	if err != nil {
		return nil, err
	}
	if st.Kind != KindFile {
		return nil, d.fail("open", name, ErrNotRegular)
	}
	return d.OpenFile(name)
}

// OpenFile is Open without the check before it, for a name that Stat has just reported as a regular file.
func (d *Dir) OpenFile(name string) (*File, error) {
	if err := d.check("open", name); err != nil {
		return nil, err
	}
	fd, err := retry(func() (int, error) { return openRegular(d.fd, name) })
	if err != nil {
		return nil, d.fail("open", name, err)
	}
	return &File{dir: d, fd: fd, name: name, path: d.join(name)}, nil
}

// OpenPlain is OpenFile for a tree that nobody changes at the same time, such as a snapshot. It takes
// fewer system calls, but would open a device that was swapped in, before it closes it.
func (d *Dir) OpenPlain(name string) (*File, error) {
	if err := d.check("open", name); err != nil {
		return nil, err
	}
	fd, err := retry(func() (int, error) { return openPlain(d.fd, name) })
	if err != nil {
		return nil, d.fail("open", name, err)
	}
	return &File{dir: d, fd: fd, name: name, path: d.join(name)}, nil
}

// ReadFile returns the content of a regular file of at most limit bytes.
func (d *Dir) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, d.fail("read", name, fmt.Errorf("larger than %d bytes", limit))
	}
	return b, nil
}

// retry repeats a call that a signal interrupted.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

func again(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
