package ufs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"unicode/utf8"
)

// What sys/ufs/ffs/fs.h calls SBLOCKSIZE, FS_UFS1_MAGIC, FS_UFS2_MAGIC, FS_44INODEFMT, SBLOCK_UFS1 and
// SBLOCK_UFS2.
const (
	sblockSize = 8192
	magic1     = 0x011954
	magic2     = 0x19540119
	format44   = 2
	sblock1    = 8192
	sblock2    = 65536
)

// superblocks are the positions where newfs(8) and makefs(8) put them, in the order of SBLOCKSEARCH.
var superblocks = []int64{sblock2, sblock1}

// Open reads the superblock of a filesystem of the given size in bytes.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	b := make([]byte, sblockSize)
	for _, at := range superblocks {
		if at+sblockSize > size {
			continue
		}
		if err := readFull(r, b, at); err != nil {
			return nil, fmt.Errorf("read the superblock: %w", err)
		}
		if !superblock(b, at) {
			continue
		}
		f := parse(b)
		f.r, f.size, f.sblock = r, size, at
		if err := f.check(b); err != nil {
			return nil, err
		}
		return f, nil
	}
	return nil, fmt.Errorf("%w: no superblock of UFS", ErrFormat)
}

// superblock reports whether there is a superblock that the kernel would take too. At 65536 a UFS1 may
// have a spare one, or a file's content; a UFS2's superblock has its own position.
func superblock(b []byte, at int64) bool {
	switch u32(b, 1372) {
	case magic1:
		return at == sblock1
	case magic2:
		return u64(b, 1000) == uint64(at)
	}
	return false
}

func u16(b []byte, at int) uint16 { return binary.LittleEndian.Uint16(b[at:]) }
func u32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
func u64(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

func i32(b []byte, at int) int64 { return int64(int32(u32(b, at))) }

// parse parses the needed fields of struct fs.
func parse(b []byte) *FS {
	f := &FS{
		two:        u32(b, 1372) == magic2,
		iblkno:     i32(b, 16),
		cgoffset:   i32(b, 24),
		cgmask:     i32(b, 28),
		ncg:        i32(b, 44),
		bsize:      i32(b, 48),
		fsize:      i32(b, 52),
		frag:       i32(b, 56),
		inopb:      i32(b, 120),
		ipg:        i32(b, 184),
		fpg:        i32(b, 188),
		maxSymlink: i32(b, 1320),
		inodeSize:  128,
	}
	if f.two {
		f.inodeSize, f.cgoffset = 256, 0
	}
	if label, _, _ := bytes.Cut(b[680:712], []byte{0}); utf8.Valid(label) {
		f.Label = string(label)
	}
	return f
}

// check refuses a superblock with impossible numbers, and with numbers that the code could not compute
// with.
func (f *FS) check(b []byte) error {
	fragments := i32(b, 36) // fs_old_size
	if f.two {
		fragments = int64(u64(b, 1080)) // fs_size
	}
	switch {
	case !power(f.bsize, 4096, 65536), !power(f.fsize, 512, f.bsize), f.frag != f.bsize/f.fsize:
		return fmt.Errorf("%w: blocks of %d bytes in %d fragments of %d", ErrFormat, f.bsize, f.frag, f.fsize)
	case f.ncg < 1 || f.ipg < 1 || f.fpg < 1 || f.iblkno < 1 || f.ipg > 1<<24 || f.ncg*f.ipg > 1<<40:
		return fmt.Errorf("%w: %d groups of %d inodes and %d fragments", ErrFormat, f.ncg, f.ipg, f.fpg)
	case fragments <= (f.ncg-1)*f.fpg || fragments > f.ncg*f.fpg || fragments > maxSize/f.fsize:
		// as mkfs makes groups: the last may be smaller, and is not empty
		return fmt.Errorf("%w: %d fragments in %d groups of %d", ErrFormat, fragments, f.ncg, f.fpg)
	case f.inopb != f.bsize/f.inodeSize:
		return fmt.Errorf("%w: %d inodes a block", ErrFormat, f.inopb)
	case !f.two && u32(b, 1324) != format44:
		return fmt.Errorf("%w: inodes in the format of 4.2BSD", ErrFormat)
	case f.maxSymlink < 0 || f.maxSymlink > 120:
		return fmt.Errorf("%w: symbolic links of %d bytes in inodes", ErrFormat, f.maxSymlink)
	}
	f.Bytes = fragments * f.fsize
	return nil
}

// power reports whether n is a power of two within bounds.
func power(n, low, high int64) bool { return n >= low && n <= high && n&(n-1) == 0 }
