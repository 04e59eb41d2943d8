package dirfd

import (
	"errors"

	"golang.org/x/sys/unix"
)

// ErrNotRegular is the error for opening a name that is no regular file, or no longer one.
var ErrNotRegular = errors.New("not a regular file")

// openPlain opens name for reading without following a link or waiting for a fifo's other end, and lets
// go of all but a regular file.
func openPlain(dir int, name string) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|
		unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if kindOf(uint32(st.Mode)) != KindFile {
		unix.Close(fd)
		return -1, ErrNotRegular
	}
	return fd, nil
}
