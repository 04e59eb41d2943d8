// Package ufs reads FreeBSD's UFS1 and UFS2 filesystems out of an image or a slice, without mounting it:
// little-endian, in the format since 4.4BSD, as newfs(8) and makefs(8) write it. The layout is that of
// sys/ufs/ffs/fs.h, sys/ufs/ufs/dinode.h and dir.h.
//
// What always holds: an image is hostile. Nothing is read outside of it, no walk takes more memory or
// time than the bounds below say, whatever it claims; an error names the inode. It never writes. Extended
// attributes, snapshots, quotas and journals are not looked at, and check hashes not verified: what is
// read is compared with what it should be by those who use it.
//
// An FS may be used by several goroutines at once.
package ufs

import (
	"errors"
	"fmt"
	"io"
)

// Bounds of what an image may make a reader do. Beside its bytes, an entry takes some hundred bytes of
// memory.
const (
	maxDirSize = 16 << 20  // bytes of one directory
	maxDirs    = 256 << 20 // bytes of all directories of a walk: the same blocks may stand in many of them
	maxEntries = 1 << 20   // of one walk
	maxText    = 64 << 20  // bytes of all names, paths and links of a walk
	maxDepth   = 128       // of directories
	maxPath    = 4096      // bytes of a path
	maxLink    = 4096      // bytes of a symbolic link
	maxSize    = 1 << 50   // bytes of a file
	maxSeconds = 1 << 33   // from 1970: what fits as nanoseconds
)

// ErrFormat is the error for what is no UFS, or a damaged one.
var ErrFormat = errors.New("no filesystem that can be read")

// FS is an open filesystem.
type FS struct {
	Label string // fs_volname: tunefs -L
	Bytes int64  // that the filesystem takes

	r      io.ReaderAt
	size   int64
	sblock int64 // where the superblock is

	two                   bool // UFS2
	bsize, fsize, frag    int64
	ncg, ipg, fpg         int64
	iblkno, inopb         int64
	cgoffset, cgmask      int64
	maxSymlink, inodeSize int64
}

func (f *FS) bad(ino uint64, format string, args ...any) error {
	return fmt.Errorf("%w: inode %d: %s", ErrFormat, ino, fmt.Sprintf(format, args...))
}

// read reads bytes of the image.
func (f *FS) read(ino uint64, b []byte, at int64) error {
	if at < 0 || at > f.size || int64(len(b)) > f.size-at {
		return f.bad(ino, "%d bytes at %d of an image of %d", len(b), at, f.size)
	}
	if err := readFull(f.r, b, at); err != nil {
		return fmt.Errorf("inode %d: read at %d: %w", ino, at, err)
	}
	return nil
}

// readFull fills b. That the end was reached with its last byte is no error, whichever way the reader has
// of saying so.
func readFull(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
