package dirfd

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

func fromUnix(st *unix.Stat_t) Stat {
	return Stat{
		Dev: st.Dev, Ino: st.Ino, Kind: kindOf(uint32(st.Mode)), Mode: uint32(st.Mode) & 0o7777,
		Nlink: st.Nlink,
		UID:   st.Uid, GID: st.Gid, Size: st.Size, Blocks: st.Blocks, MTime: st.Mtim.Nano(),
		CTime: st.Ctim.Nano(),
		Flags: st.Flags & keptFlags,
	}
}

func spaceOf(st *unix.Statfs_t) Space {
	free := uint64(0)
	if st.Bavail > 0 {
		free = uint64(st.Bavail) * st.Bsize
	}
	return Space{Free: free, Total: st.Blocks * st.Bsize, Block: st.Bsize,
		ReadOnly:    st.Flags&unix.MNT_RDONLY != 0,
		StillXattrs: stillXattrs(unix.ByteSliceToString(st.Fstypename[:]))}
}

// stillXattrs reports whether a change of extended attributes may move no time of their file. That of
// tmpfs, which holds them since FreeBSD 15, moves none (tmpfs_setextattr); ZFS with xattr=dir writes them
// into files of their own.
func stillXattrs(fstype string) bool { return fstype != "ufs" }

// openRegular opens with O_NONBLOCK and checks afterwards: outside devfs a device node is inert on this
// system (open fails with ENXIO or EOPNOTSUPP), and a fifo opens at once without its other end.
func openRegular(dir int, name string) (int, error) { return openPlain(dir, name) }

// identityOf is Dir.Identity: fsid, inode and generation. Birth time is not used, because utimes(2) with an
// earlier time changes it (UFS2 and tmpfs do so in their setattr). For an ordinary user fsid and generation
// are 0, and the device serves instead.
func identityOf(fd int) (string, error) {
	var sfs unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(fd, &sfs) }); err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return "", err
	}
	if sfs.Fsid.Val == [2]int32{} {
		return fmt.Sprintf("dev %x/%d", st.Dev, st.Ino), nil
	}
	return fmt.Sprintf("%s/%d.%d", fsidOf(sfs.Fsid.Val[0], sfs.Fsid.Val[1]), st.Ino, st.Gen), nil
}

// syncFilesystem starts the writes of all filesystems and does not wait for them: kern_sync in
// kern/vfs_syscalls.c calls each with MNT_NOWAIT. The caller syncs each file, and then mostly waits for
// writes that have begun.
func syncFilesystem(int) (done bool, err error) { return false, unix.Sync() }

// setFlags sets the kept flags of name, or of the directory itself for "", to these. Other flags stay.
// Nothing is opened, and no link is followed. Flags that the filesystem lacks are left out: ZFS has schg,
// sappnd, sunlnk and nodump, and returns EOPNOTSUPP for uchg, uappnd and uunlnk.
func setFlags(dir int, name string, flags uint32) error {
	var st unix.Stat_t
	var err error
	if name == "" {
		err = unix.Fstat(dir, &st)
	} else {
		err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return err
	}
	want := st.Flags&^keptFlags | flags
	for _, lacking := range []uint32{0, ufImmutable | ufAppend | ufNounlink, keptFlags} {
		if want&^lacking == st.Flags {
			return nil
		}
		if err = chflags(dir, name, want&^lacking); err != unix.EOPNOTSUPP {
			break
		}
	}
	if err == unix.EPERM {
		return securelevel(st.Flags, err)
	}
	return err
}

// chflags is fchflags(2), or chflagsat(2), which x/sys has no function for.
func chflags(dir int, name string, flags uint32) error {
	if name == "" {
		return unix.Fchflags(dir, int(flags))
	}
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	_, _, no := unix.Syscall6(unix.SYS_CHFLAGSAT, uintptr(dir), uintptr(unsafe.Pointer(p)), uintptr(flags),
		unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	if no != 0 {
		return no
	}
	return nil
}

// securelevel adds to an error that a secure level is why the system's flags cannot be changed
// (security(7)).
func securelevel(flags uint32, err error) error {
	level, sysctl := unix.SysctlUint32("kern.securelevel")
	if sysctl != nil {
		return err
	}
	return levelWords(flags, int32(level), err)
}

// mountRoot is Dir.MountRoot. A nullfs(5) mount has a device number of its own.
func mountRoot(fd int) (bool, error) { return otherDevice(fd) }
