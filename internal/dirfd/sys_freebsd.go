package dirfd

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The flags of chflags(1) that are kept; the archive flag and its like change by themselves (ZFS sets uarch at every write).
const (
	ufNodump, ufImmutable, ufAppend, ufNounlink = 0x1, 0x2, 0x4, 0x10
	sfImmutable, sfAppend, sfNounlink           = 0x20000, 0x40000, 0x100000

	keptFlags = ufNodump | ufImmutable | ufAppend | ufNounlink | sfImmutable | sfAppend | sfNounlink
)

func fromUnix(st *unix.Stat_t) Stat {
	return Stat{
		Dev: st.Dev, Ino: st.Ino, Kind: kindOf(uint32(st.Mode)), Mode: uint32(st.Mode) & 0o7777, Nlink: st.Nlink,
		UID: st.Uid, GID: st.Gid, Size: st.Size, Blocks: st.Blocks, MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano(),
		Flags: st.Flags & keptFlags,
	}
}

func spaceOf(st *unix.Statfs_t) Space {
	free := uint64(0)
	if st.Bavail > 0 {
		free = uint64(st.Bavail) * st.Bsize
	}
	return Space{Free: free, Total: st.Blocks * st.Bsize, Block: st.Bsize, ReadOnly: st.Flags&unix.MNT_RDONLY != 0}
}

// openRegular opens with O_NONBLOCK and looks after: outside devfs a device node is inert on this
// system (open fails with ENXIO or EOPNOTSUPP), and a fifo opens at once without its other end.
func openRegular(dir int, name string) (int, error) { return openPlain(dir, name) }

// Identity names the filesystem that holds the directory and the directory on it, as long as it is not unmounted and
// made anew: fsid, inode and generation. Birth time is no part of it: utimes(2) of an earlier time moves it (UFS2 and
// tmpfs do so in their setattr). To an ordinary user fsid and generation are 0; the device has to do there.
func (d *Dir) Identity() (string, error) {
	var sfs unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(d.fd, &sfs) }); err != nil {
		return "", d.fail("statfs", "", err)
	}
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(d.fd, &st) }); err != nil {
		return "", d.fail("stat", "", err)
	}
	if sfs.Fsid.Val == [2]int32{} {
		return fmt.Sprintf("dev %x/%d", st.Dev, st.Ino), nil
	}
	return fmt.Sprintf("%s/%d.%d", fsidOf(sfs.Fsid.Val[0], sfs.Fsid.Val[1]), st.Ino, st.Gen), nil
}

// syncFilesystem starts the writes of all filesystems and does not wait for them: kern_sync in kern/vfs_syscalls.c
// asks each with MNT_NOWAIT. The caller syncs each file, and then mostly waits for what is under way.
func syncFilesystem(int) (done bool, err error) { return false, unix.Sync() }

// ClearFlags is chflags(1) 0 on name, or on the directory itself for "": what is immutable can then be replaced.
func (d *Dir) ClearFlags(name string) error { return d.SetFlags(name, 0) }

// SetFlags sets the kept flags of name, a file or directory, or of the directory itself for "".
func (d *Dir) SetFlags(name string, flags uint32) error {
	op := Op{Kind: "flags", Path: d.join(name), Mode: flags}
	if name == "" {
		return d.hooked(op, name, func() error { return unix.Fchflags(d.fd, int(flags)) })
	}
	return d.change(op, name, func() error {
		fd, err := unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Fchflags(fd, int(flags))
	})
}

// MountRoot reports whether the directory is where a filesystem is mounted; a nullfs(5) mount has a device number of its own.
func (d *Dir) MountRoot() (bool, error) { return d.otherDevice() }
