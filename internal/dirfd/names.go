package dirfd

import (
	"golang.org/x/sys/unix"
)

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
