// Package esptest makes EFI system partitions for tests: just enough of FAT for a loader in EFI/BOOT.
package esptest

import (
	"encoding/binary"
	"strings"
)

const sector = 512

// Program returns a fake loader: an EFI program with a text in it.
func Program(text string) []byte {
	b := make([]byte, 3000)
	copy(b, "MZ")
	copy(b[2500:], text)
	return b
}

// Make makes a FAT of so many sectors, with one sector in each cluster, and files by their 8.3 paths. The
// number of sectors decides whether it is FAT12 (less than 4085), FAT16 or, with wide, FAT32.
func Make(sectors int, wide bool, files map[string][]byte) []byte {
	b := make([]byte, sectors*sector)
	le := binary.LittleEndian
	copy(b, "\xeb\x3c\x90BSD4.4  ")
	le.PutUint16(b[11:], sector)
	b[13], b[16], b[21] = 1, 2, 0xf8
	f := &fat{b: b, bits: 12, table: sector}
	length := sectors*2/sector + 1
	if sectors > 4085+64 {
		f.bits = 16
	}
	roots := 64
	if wide {
		f.bits, roots, length = 32, 0, sectors*4/sector+1
		le.PutUint32(b[36:], uint32(length))
		le.PutUint32(b[44:], 2)
	} else {
		le.PutUint16(b[22:], uint16(length))
	}
	le.PutUint16(b[14:], 1)
	le.PutUint16(b[17:], uint16(roots))
	le.PutUint32(b[32:], uint32(sectors))
	b[510], b[511] = 0x55, 0xaa
	f.root = sector * (1 + 2*length)
	f.data = f.root + roots*32
	f.free = 2
	root := f.root
	if wide {
		root = f.data
		f.take(sector)
	}
	dirs := map[string]int{"": root}
	for p, content := range files {
		at, parts := "", strings.Split(p, "/")
		for i, part := range parts {
			last := i == len(parts)-1
			below := at + "/" + part
			if !last && dirs[below] == 0 {
				n := f.take(sector)
				f.name(dirs[at], part, n, 0x10, 0)
				dirs[below] = f.data + (n-2)*sector
			}
			if last {
				n := f.take(len(content))
				copy(b[f.data+(n-2)*sector:], content)
				f.name(dirs[at], part, n, 0x20, len(content))
			}
			at = below
		}
	}
	return b
}

type fat struct {
	b                             []byte
	bits, table, root, data, free int
}

// take allocates consecutive clusters for so many bytes, and returns the first.
func (f *fat) take(bytes int) int {
	first := f.free
	n := max(1, (bytes+sector-1)/sector)
	for i := range n {
		next := uint32(first + i + 1)
		if i == n-1 {
			next = 0x0fffffff
		}
		f.set(first+i, next)
	}
	f.free += n
	return first
}

func (f *fat) set(n int, next uint32) {
	le := binary.LittleEndian
	switch f.bits {
	case 12:
		at := f.table + n*3/2
		old := le.Uint16(f.b[at:])
		if n%2 == 1 {
			le.PutUint16(f.b[at:], old&0xf|uint16(next)<<4)
		} else {
			le.PutUint16(f.b[at:], old&0xf000|uint16(next)&0xfff)
		}
	case 16:
		le.PutUint16(f.b[f.table+2*n:], uint16(next))
	default:
		le.PutUint32(f.b[f.table+4*n:], next)
	}
}

// name adds an entry to a directory.
func (f *fat) name(dir int, name string, first int, attr byte, size int) {
	for f.b[dir] != 0 {
		dir += 32
	}
	base, ext, _ := strings.Cut(strings.ToUpper(name), ".")
	copy(f.b[dir:], "           ")
	copy(f.b[dir:dir+8], base)
	copy(f.b[dir+8:dir+11], ext)
	f.b[dir+11] = attr
	binary.LittleEndian.PutUint16(f.b[dir+26:], uint16(first))
	binary.LittleEndian.PutUint16(f.b[dir+20:], uint16(first>>16))
	binary.LittleEndian.PutUint32(f.b[dir+28:], uint32(size))
}
