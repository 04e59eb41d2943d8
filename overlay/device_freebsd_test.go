package overlay

import "golang.org/x/sys/unix"

// device is a device's number as mknod(2) takes it here.
func device(major, minor uint32) uint64 { return unix.Mkdev(major, minor) }
