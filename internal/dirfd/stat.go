package dirfd

import (
	"golang.org/x/sys/unix"
)

// Kind is the type of a file.
type Kind uint8

// The kinds of files.
const (
	KindNone Kind = iota
	KindFile
	KindDir
	KindSymlink
	KindFifo
	KindSocket
	KindDevice
)

var kindNames = [...]string{"none", "file", "dir", "symlink", "fifo", "socket", "device"}

// String is the kind's word in output and manifest.
func (k Kind) String() string { return kindNames[k] }

// ParseKind reads String's word back; an unknown word is KindNone.
func ParseKind(s string) Kind {
	for k, name := range kindNames {
		if name == s {
			return Kind(k)
		}
	}
	return KindNone
}

// Special reports whether it is a fifo, a socket or a device: never opened, never saved.
func (k Kind) Special() bool { return k >= KindFifo }

// Stat is what stat(2) tells of a file, the same on every system.
type Stat struct {
	Dev, Ino     uint64
	Kind         Kind
	Mode         uint32 // permission bits with setuid, setgid and sticky, 07777
	Nlink        uint64
	UID, GID     uint32
	Size         int64  // bytes
	Blocks       int64  // of 512 bytes
	MTime, CTime int64  // nanoseconds since 1970
	Flags        uint32 // chflags(1)'s flags that are worth keeping; 0 where the system has none
}

// Stat looks at name and not through it.
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

// seen is a file's Stat. A test that stands in for chflags(2) says the flags.
func (d *Dir) seen(st *unix.Stat_t, path string) Stat {
	s := fromUnix(st)
	if d.flags != nil {
		s.Flags = d.flags(path)
	}
	return s
}

// Self looks at the directory itself.
func (d *Dir) Self() (Stat, error) {
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(d.fd, &st) }); err != nil {
		return Stat{}, d.fail("stat", "", err)
	}
	return d.seen(&st, d.path), nil
}

// Space is the room of a filesystem in bytes: what an ordinary user may still take, and the whole.
type Space struct {
	Free, Total uint64
	Block       uint64 // allocation unit
	ReadOnly    bool
	// StillXattrs says that a change of extended attributes may move no time of their file.
	StillXattrs bool
}

// Space looks at the filesystem that holds the directory.
func (d *Dir) Space() (Space, error) {
	var st unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(d.fd, &st) }); err != nil {
		return Space{}, d.fail("statfs", "", err)
	}
	return spaceOf(&st), nil
}

func kindOf(mode uint32) Kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return KindFile
	case unix.S_IFDIR:
		return KindDir
	case unix.S_IFLNK:
		return KindSymlink
	case unix.S_IFIFO:
		return KindFifo
	case unix.S_IFSOCK:
		return KindSocket
	}
	return KindDevice
}

// otherDevice reports whether the directory above lies on another filesystem, or is the directory itself.
func (d *Dir) otherDevice() (bool, error) {
	var self, up unix.Stat_t
	if err := again(func() error { return unix.Fstat(d.fd, &self) }); err != nil {
		return false, d.fail("stat", "", err)
	}
	if err := again(func() error { return unix.Fstatat(d.fd, "..", &up, 0) }); err != nil {
		return false, d.fail("stat", "..", err)
	}
	return self.Dev != up.Dev || self.Ino == up.Ino, nil
}
