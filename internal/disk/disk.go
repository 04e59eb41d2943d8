// Package disk reads partition tables of NanoBSD's disks and sets in them which slice boots next: MBR
// with boot0(8), and GPT with gptboot(8)'s attributes. Within a slice it reads only the BSD label.
//
// What always holds: nothing in a table is trusted without a check, so no slice reaches over the disk's
// end or into another. A faulty table is refused with the sector and what was found there. Only flags are
// written, never a start or a size. Each write is of whole sectors, synced and read back, and one of two
// copies of a table is complete at any time.
package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Sector is the size in bytes of the sectors that tables count in.
const Sector = 512

// Slice is a slice of an MBR (index 1 to 4) or a partition of a GPT (from 1).
type Slice struct {
	Index  int
	Start  int64  // bytes
	Size   int64  // bytes
	Type   string // freebsd, freebsd-ufs, freebsd-boot, efi, …; else its number or GUID
	Label  string // GPT's
	Active bool   // MBR's active flag, GPT's bootme
	Once   bool   // GPT's bootonce: the next boot tries it, and that one alone
	Failed bool   // GPT's bootfailed: it was tried, and did not come up
}

// Table is a disk's partition table.
type Table struct {
	Scheme string // MBR or GPT
	Loader Loader // what chooses between the slices, as far as Read can tell
	Slices []Slice
	Boot0  int // the slice whose boot1 boot0 starts if nobody presses a key; 0 for none, or without boot0
	Notes  []string

	// Found is the slice that a loader takes which honours nothing, 0 if not known. The table does not
	// show it: the caller of Read looks into the slices, and sets it.
	Found int
	First bool // Found is the first slice that holds a system, and not one that is named
	// Unsure lists the doubts of the caller of Read, in words. Doubts returns them with its own.
	Unsure []string

	hasBoot0 bool   // its code is in the MBR, whatever is thought to boot the disk
	option   option // boot0's byte as it is
	offered  byte   // boot0's mask of the slices that it offers (boot0cfg -m)
	gpt      *gpt
}

// ErrTable reports that a table is none, or is faulty.
var ErrTable = errors.New("no partition table that can be believed")

// Device is a disk, or a file that represents one.
type Device interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Read reads the table of a disk of the given size in bytes.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	mbr, err := sectorAt(r, 0, size)
	if err != nil {
		return nil, err
	}
	if mbr[510] != 0x55 || mbr[511] != 0xaa {
		return nil, fmt.Errorf("%w: sector 0 ends with %02x%02x and not with 55aa", ErrTable, mbr[510],
			mbr[511])
	}
	for i := range 4 {
		if entry(mbr, i)[4] == 0xee { // protective
			return readGPT(r, size)
		}
	}
	return readMBR(mbr, size)
}

// Slice returns a slice by its index.
func (t *Table) Slice(index int) (*Slice, bool) {
	for i := range t.Slices {
		if t.Slices[i].Index == index {
			return &t.Slices[i], true
		}
	}
	return nil, false
}

func sectorAt(r io.ReaderAt, n, size int64) ([]byte, error) {
	if n < 0 || (n+1)*Sector > size {
		return nil, fmt.Errorf("%w: sector %d is behind the end of the disk", ErrTable, n)
	}
	b := make([]byte, Sector)
	if _, err := r.ReadAt(b, n*Sector); err != nil {
		return nil, fmt.Errorf("read sector %d: %w", n, err)
	}
	return b, nil
}

func entry(mbr []byte, i int) []byte { return mbr[0x1be+16*i : 0x1be+16*(i+1)] }

// place checks the position of a slice and adds it, if it is one.
func (t *Table) place(s Slice, first, last uint64, size int64, where string) error {
	sectors := uint64(size / Sector)
	if first == 0 || last < first || last >= sectors {
		return fmt.Errorf("%w: %s: slice %d has sectors %d to %d of a disk of %d", ErrTable, where, s.Index,
			first, last, sectors)
	}
	s.Start, s.Size = int64(first)*Sector, int64(last-first+1)*Sector
	for _, o := range t.Slices {
		if s.Start < o.Start+o.Size && o.Start < s.Start+s.Size {
			return fmt.Errorf("%w: %s: slices %d and %d overlap", ErrTable, where, o.Index, s.Index)
		}
	}
	t.Slices = append(t.Slices, s)
	return nil
}

var mbrTypes = map[byte]string{0xa5: "freebsd", 0xef: "efi", 0x0b: "fat32", 0x0c: "fat32", 0x83: "linux"}

func readMBR(mbr []byte, size int64) (*Table, error) {
	t := &Table{Scheme: "MBR"}
	for i := range 4 {
		e := entry(mbr, i)
		kind := e[4]
		switch {
		case e[0]&0x7f != 0:
			return nil, fmt.Errorf("%w: sector 0: slice %d has flag %#02x", ErrTable, i+1, e[0])
		case kind == 0:
			continue
		case kind == 5 || kind == 0x0f:
			t.Notes = append(t.Notes, fmt.Sprintf("slice %d is an extended partition, which is left alone",
				i+1))
		}
		name, ok := mbrTypes[kind]
		if !ok {
			name = fmt.Sprintf("!%d", kind) // as gpart(8) writes it
		}
		start, count := uint64(binary.LittleEndian.Uint32(e[8:])), uint64(binary.LittleEndian.Uint32(e[12:]))
		if count == 0 {
			return nil, fmt.Errorf("%w: sector 0: slice %d has no sectors", ErrTable, i+1)
		}
		if err := t.place(Slice{Index: i + 1, Type: name, Active: e[0] == 0x80}, start, start+count-1, size,
			"sector 0"); err != nil {
			return nil, err
		}
	}
	t.Loader = PlainMBR
	if at := boot0Default(mbr); at > 0 {
		t.hasBoot0, t.Loader, t.option, t.offered = true, Boot0, option(mbr[at]), mbr[at+2]&0x0f
		if _, ok := t.Slice(int(t.option) + 1); ok {
			t.Boot0 = int(t.option) + 1
		}
	}
	return t, nil
}

// boot0's first instructions, and the text before its data: boot0bs of usr.sbin/boot0cfg/boot0cfg.c. The
// first instructions are those of /boot/mbr too.
var (
	boot0Code = []byte{0xfc, 0x31, 0xc0, 0x8e, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c}
	boot0Text = []byte("Drive ")
)

// boot0Forms are the two forms of boot0: where its text is, and where its default slice is, counted from
// 0 (boot0cfg -s).
var boot0Forms = []struct{ text, option int }{
	{0x1b2, 0x1b9},
	{0x1ae, 0x1b5}, // with a volume serial number at 0x1b8: what FreeBSD builds
}

// option is boot0's byte: 0 to 3 are slices, the others are none.
type option byte

func (o option) text() string {
	switch {
	case o < 4:
		return fmt.Sprintf("slice %d, which is not there", o+1)
	case o == 4:
		return "F5, another disk"
	case o == 5:
		return "F6, the network"
	}
	return fmt.Sprintf("%d, which is nothing", byte(o))
}

// boot0Default returns where boot0's code in this sector keeps its default, 0 if it has none.
func boot0Default(mbr []byte) int {
	for _, f := range boot0Forms {
		if bytes.HasPrefix(mbr, boot0Code) && bytes.HasPrefix(mbr[f.text:], boot0Text) {
			return f.option
		}
	}
	return 0
}

// Put writes sectors, fsyncs them, reads them back and compares.
func Put(d Device, b []byte, at int64) error {
	if _, err := d.WriteAt(b, at); err != nil {
		return fmt.Errorf("write sector %d: %w", at/Sector, err)
	}
	if err := d.Sync(); err != nil {
		return err
	}
	back := make([]byte, len(b))
	if _, err := d.ReadAt(back, at); err != nil {
		return fmt.Errorf("read sector %d back: %w", at/Sector, err)
	}
	if !bytes.Equal(b, back) {
		return fmt.Errorf("sector %d: what was read back is not what was written: the disk is failing",
			at/Sector)
	}
	return nil
}

// Boot0Code returns the first sector of a disk with boot0, with this slice as its default.
func Boot0Code(r io.ReaderAt, size int64, slice int) ([]byte, error) {
	mbr, err := sectorAt(r, 0, size)
	if err != nil {
		return nil, err
	}
	at := boot0Default(mbr)
	if at == 0 {
		return nil, fmt.Errorf("%w: sector 0: boot0 is no longer there", ErrTable)
	}
	mbr[at] = byte(slice - 1)
	return mbr, nil
}
