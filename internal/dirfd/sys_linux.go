package dirfd

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func fromUnix(st *unix.Stat_t) Stat {
	return Stat{
		Dev: uint64(st.Dev), Ino: st.Ino, Kind: kindOf(st.Mode), Mode: st.Mode & 0o7777,
		Nlink: uint64(st.Nlink),
		UID:   st.Uid, GID: st.Gid, Size: st.Size, Blocks: st.Blocks, MTime: st.Mtim.Nano(),
		CTime: st.Ctim.Nano(),
	}
}

func spaceOf(st *unix.Statfs_t) Space {
	b := uint64(st.Bsize)
	return Space{
		Free:     st.Bavail * b,
		Total:    st.Blocks * b,
		Block:    b,
		ReadOnly: st.Flags&unix.ST_RDONLY != 0,
	}
}

// openRegular opens without looking first, through O_PATH: the descriptor that was
// found to be a regular file is the one that is opened, so that a device swapped in
// between is never touched. Without /proc it uses O_NONBLOCK and checks afterwards.
func openRegular(dir int, name string) (int, error) {
	pfd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pfd)
	var st unix.Stat_t
	if err := unix.Fstat(pfd, &st); err != nil {
		return -1, err
	}
	if kindOf(st.Mode) != KindFile {
		return -1, ErrNotRegular
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", pfd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC,
		0)
	if err != unix.ENOENT {
		return fd, err
	}
	return openPlain(dir, name)
}

// identityOf is Dir.Identity: boot, device, inode and birth time. No system call of Linux sets the birth
// time. It is needed, because device and inode of a tmpfs are the same for the next one mounted there.
func identityOf(fd int) (string, error) {
	var st unix.Statx_t
	err := again(func() error {
		return unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	})
	return fmt.Sprintf("%s/%x:%x/%d/%d.%d", bootID(), st.Dev_major, st.Dev_minor, st.Ino, st.Btime.Sec,
		st.Btime.Nsec), err
}

// bootID identifies one start of the machine, "" if the kernel does not report it.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// syncFilesystem is syncfs(2): it returns when all of the filesystem is on stable storage. A kernel without
// it leaves that to the caller.
func syncFilesystem(fd int) (done bool, err error) {
	if err := unix.Syncfs(fd); err != unix.ENOSYS {
		return err == nil, err
	}
	return false, nil
}

// setFlags does nothing: this system lacks chflags(1)'s flags.
func setFlags(int, string, uint32) error { return nil }

// mountRoot is Dir.MountRoot. A bind mount of a directory counts too.
func mountRoot(fd int) (bool, error) {
	var st unix.Statx_t
	err := again(func() error {
		return unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st)
	})
	if err == nil && st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 { // Linux before 5.8
		return otherDevice(fd)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, err
}
