// Package ufs reads FreeBSD's UFS1 and UFS2 filesystems out of an image or a slice, without mounting it:
// little-endian, in the format since 4.4BSD, as newfs(8) and makefs(8) write it. The layout is that of
// sys/ufs/ffs/fs.h, sys/ufs/ufs/dinode.h and dir.h.
//
// What always holds: the image may be hostile. Nothing outside of it is read, and no walk takes more
// memory or time than the bounds below. An error names the inode. The package never writes. It ignores
// extended attributes, snapshots, quotas and journals, and does not verify check hashes: its callers
// compare what was read with what is expected.
//
// An FS is safe for concurrent use.
package ufs

import (
	"errors"
	"fmt"
	"io"
)

// Bounds on what an image can make a reader do. An entry takes some hundred bytes of memory besides its
// text.
const (
	maxDirSize = 16 << 20  // bytes of one directory
	maxDirs    = 256 << 20 // bytes of all directories of a walk, which may share blocks
	maxEntries = 1 << 20   // of one walk
	maxText    = 64 << 20  // bytes of all names, paths and links of a walk
	maxDepth   = 128       // of directories
	maxPath    = 4096      // bytes of a path
	maxLink    = 4096      // bytes of a symbolic link
	maxSize    = 1 << 50   // bytes of a file
	maxSeconds = 1 << 33   // from 1970: what fits as nanoseconds
)

// ErrFormat reports that something is no UFS, or a damaged one.
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

// readFull fills b. Reaching the end with the last byte of b is no error.
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
