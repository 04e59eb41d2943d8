package overlay

import "golang.org/x/sys/unix"

// device returns a device number as FreeBSD's mknod(2) takes it.
func device(major, minor uint32) uint64 { return unix.Mkdev(major, minor) }
