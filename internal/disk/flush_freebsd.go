package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Flush brings to stable storage what was written to an open file or device. fsync(2) of a device does not
// ask the disk to empty its cache; DIOCGFLUSH does (g_dev_ioctl of sys/geom/geom_dev.c). A slice passes it on
// to its disk (g_part_start of sys/geom/part/g_part.c), so that it covers the table too. A device without a
// cache does not know it.
func Flush(f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil || st.Mode()&os.ModeDevice == 0 {
		return err
	}
	err = unix.IoctlSetInt(int(f.Fd()), unix.DIOCGFLUSH, 0)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "flush", Path: f.Name(), Err: err}
	}
	return nil
}
