package dirfd

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// File is an open regular file of a tree. It must be closed, by Close or Finish.
type File struct {
	dir  *Dir
	fd   int
	name string
	path string
	off  int64
}

// Close closes the descriptor.
func (f *File) Close() error {
	if f.fd < 0 {
		return nil
	}
	err := unix.Close(f.fd)
	f.fd = -1
	return err
}

// Fd returns the descriptor, for operations that this package lacks. The File still owns it.
func (f *File) Fd() int { return f.fd }

// Read continues where the last Read ended.
func (f *File) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := retry(func() (int, error) { return unix.Read(f.fd, p) })
	if err != nil {
		return 0, f.dir.fail("read", f.name, err)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Write appends p.
func (f *File) Write(p []byte) (int, error) {
	if f.dir.hook != nil {
		if err := f.dir.hook(Op{Kind: "write", Path: f.path, Off: f.off, Data: p}); err != nil {
			return 0, f.dir.fail("write", f.name, err)
		}
	}
	done := 0
	for done < len(p) {
		n, err := retry(func() (int, error) { return unix.Pwrite(f.fd, p[done:], f.off) })
		if err != nil {
			return done, f.dir.fail("write", f.name, err)
		}
		done += n
		f.off += int64(n)
	}
	return done, nil
}

// Skip leaves a hole of n bytes; Truncate must follow when nothing is written after it.
func (f *File) Skip(n int64) { f.off += n }

// Truncate gives the file the size at which Write and Skip have arrived.
func (f *File) Truncate() error {
	return f.change(Op{Kind: "truncate", Off: f.off}, func() error { return unix.Ftruncate(f.fd, f.off) })
}

// Sync fsyncs content and metadata.
func (f *File) Sync() error {
	return f.change(Op{Kind: "fsync"}, func() error { return unix.Fsync(f.fd) })
}

// Chmod sets the permission bits, 07777.
func (f *File) Chmod(mode uint32) error {
	return f.change(Op{Kind: "chmod", Mode: mode}, func() error { return unix.Fchmod(f.fd, mode) })
}

// Chown sets owner and group. It clears setuid and setgid, so Chmod comes after it.
func (f *File) Chown(uid, gid uint32) error {
	return f.change(Op{Kind: "chown", UID: uid, GID: gid}, func() error {
		return unix.Fchown(f.fd, int(uid), int(gid))
	})
}

// Stat returns the Stat of the open file.
func (f *File) Stat() (Stat, error) {
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(f.fd, &st) }); err != nil {
		return Stat{}, f.dir.fail("stat", f.name, err)
	}
	return fromUnix(&st), nil
}

func (f *File) change(op Op, do func() error) error {
	op.Path = f.path
	return f.dir.once(op, f.name, do)
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
