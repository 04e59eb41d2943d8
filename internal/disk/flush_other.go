//go:build !freebsd

package disk

import "os"

// Flush brings to stable storage what was written to an open file or device.
func Flush(f *os.File) error { return f.Sync() }
