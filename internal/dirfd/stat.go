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

// String returns the kind's word in output and manifest.
func (k Kind) String() string { return kindNames[k] }

// ParseKind returns the kind of String's word, KindNone for an unknown word.
func ParseKind(s string) Kind {
	for k, name := range kindNames {
		if name == s {
			return Kind(k)
		}
	}
	return KindNone
}

// Special reports whether it is a fifo, a socket or a device. These are never opened and never saved.
func (k Kind) Special() bool { return k >= KindFifo }

// Stat is the result of stat(2), the same on every system.
type Stat struct {
	Dev, Ino     uint64
	Kind         Kind
	Mode         uint32 // permission bits with setuid, setgid and sticky, 07777
	Nlink        uint64
	UID, GID     uint32
	Size         int64  // bytes
	Blocks       int64  // of 512 bytes
	MTime, CTime int64  // nanoseconds since 1970
	Flags        uint32 // the kept flags of chflags(1); 0 if the system has none
}

// Space is the size of a filesystem in bytes: what an ordinary user may still use, and the total.
type Space struct {
	Free, Total uint64
	Block       uint64 // allocation unit
	ReadOnly    bool
	// StillXattrs is true if a change of extended attributes may leave all times of their file unchanged.
	// On Linux setxattr(2) always moves the time of change.
	StillXattrs bool
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

// otherDevice reports whether the parent directory is on another filesystem, or is the directory itself.
func otherDevice(fd int) (bool, error) {
	var self, up unix.Stat_t
	if err := again(func() error { return unix.Fstat(fd, &self) }); err != nil {
		return false, err
	}
	if err := again(func() error { return unix.Fstatat(fd, "..", &up, 0) }); err != nil {
		return false, err
	}
	return self.Dev != up.Dev || self.Ino == up.Ino, nil
}
