// Package disktest writes partition tables and labels for tests: just enough for files that represent
// NanoBSD's disks.
package disktest

import (
	"encoding/binary"
	"hash/crc32"
	"unicode/utf16"
)

const sector = 512

// Slice is an entry of a table, in sectors.
type Slice struct {
	Index        int
	Start, Count uint32
	Type         byte // MBR's
	Active       bool
	Label        string // GPT's
	Kind         string // GPT's: freebsd-ufs if left out, freebsd-boot, efi, freebsd-zfs
}

// MBR returns the first sector of a disk with the boot0 that FreeBSD builds and its default slice.
func MBR(boot0 int, slices ...Slice) []byte {
	b := make([]byte, sector)
	Code(b, "boot0", boot0)
	for _, s := range slices {
		e := b[0x1be+16*(s.Index-1):]
		if s.Active {
			e[0] = 0x80
		}
		e[4] = s.Type
		binary.LittleEndian.PutUint32(e[8:], s.Start)
		binary.LittleEndian.PutUint32(e[12:], s.Count)
	}
	b[510], b[511] = 0x55, 0xaa
	return b
}

// Code replaces the code before an MBR's slices: "boot0", "old boot0" without a volume serial number,
// "mbr", or "" for none.
func Code(b []byte, name string, boot0 int) {
	clear(b[:0x1be])
	if name == "" {
		return
	}
	copy(b, []byte{0xfc, 0x31, 0xc0, 0x8e, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c})
	at := map[string]int{"boot0": 0x1ae, "old boot0": 0x1b2}[name]
	if at == 0 {
		copy(b[0x150:], "Invalid partition table\x00")
		return
	}
	copy(b[at:], "Drive ")
	b[at+7], b[at+8], b[at+9] = byte(boot0-1), 0x80, 0x8f
}

// Part is a partition of a label, in sectors.
type Part struct{ Start, Count uint32 }

// Label is a BSD label of partitions a, b, …; c is all of the slice.
func Label(base, count uint32, parts map[byte]Part) []byte {
	b := make([]byte, sector)
	le := binary.LittleEndian
	le.PutUint32(b, 0x82564557)
	le.PutUint32(b[40:], sector)
	le.PutUint32(b[60:], count)
	le.PutUint32(b[132:], 0x82564557)
	le.PutUint16(b[138:], 8)
	parts['c'] = Part{0, count}
	for letter, p := range parts {
		e := b[148+16*int(letter-'a'):]
		le.PutUint32(e, p.Count)
		le.PutUint32(e[4:], base+p.Start)
		e[12] = 7
	}
	sum := uint16(0)
	for i := 0; i < 148+16*8; i += 2 {
		sum ^= le.Uint16(b[i:])
	}
	le.PutUint16(b[136:], sum)
	return b
}

const (
	entries   = 128
	entrySize = 128
)

var ufs = []byte{
	0xb6, 0x7c, 0x6e, 0x51, 0xcf, 0x6e, 0xd6, 0x11, 0x8f, 0xf8, 0x00, 0x02, 0x2d, 0x09, 0x71, 0x2b,
}

var kinds = map[string][]byte{
	"": ufs,
	"freebsd-boot": {
		0x9d, 0x6b, 0xbd, 0x83, 0x41, 0x7f, 0xdc, 0x11, 0xbe, 0x0b, 0x00, 0x15, 0x60, 0xb8, 0x4f, 0x0f,
	},
	"freebsd-zfs": {
		0xba, 0x7c, 0x6e, 0x51, 0xcf, 0x6e, 0xd6, 0x11, 0x8f, 0xf8, 0x00, 0x02, 0x2d, 0x09, 0x71, 0x2b,
	},
	"efi": {0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b},
}

// GPT writes both copies of a table onto a disk.
func GPT(disk []byte, slices ...Slice) {
	le := binary.LittleEndian
	last := uint64(len(disk)/sector - 1)
	copy(disk, MBR(1, Slice{Index: 1, Start: 1, Count: uint32(last), Type: 0xee}))
	Code(disk, "", 0)
	list := make([]byte, entries*entrySize)
	for _, s := range slices {
		e := list[entrySize*(s.Index-1):]
		copy(e, kinds[s.Kind])
		e[16] = byte(s.Index)
		le.PutUint64(e[32:], uint64(s.Start))
		le.PutUint64(e[40:], uint64(s.Start)+uint64(s.Count)-1)
		if s.Active {
			le.PutUint64(e[48:], 1<<59)
		}
		for i, c := range utf16.Encode([]rune(s.Label)) {
			le.PutUint16(e[56+2*i:], c)
		}
	}
	copies := []struct{ at, other, list uint64 }{{1, last, 2}, {last, 1, last - entries*entrySize/sector}}
	for _, c := range copies {
		h := make([]byte, sector)
		copy(h, "EFI PART\x00\x00\x01\x00")
		le.PutUint32(h[12:], 92)
		le.PutUint64(h[24:], c.at)
		le.PutUint64(h[32:], c.other)
		le.PutUint64(h[40:], 2+entries*entrySize/sector)
		le.PutUint64(h[48:], last-1-entries*entrySize/sector)
		h[56] = 7
		le.PutUint64(h[72:], c.list)
		le.PutUint32(h[80:], entries)
		le.PutUint32(h[84:], entrySize)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(list))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
		copy(disk[c.at*sector:], h)
		copy(disk[c.list*sector:], list)
	}
}
