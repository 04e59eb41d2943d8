// Package disk reads partition tables of NanoBSD's disks, and sets which slice boots next: MBR with
// boot0(8), and GPT with gptboot(8)'s attributes. Within a slice it reads only the BSD label.
//
// What always holds: nothing in a table is trusted without a check, so no slice reaches over the disk's end
// or into another. A faulty table is refused with the sector and what was found there. Only flags are
// written, never a start or a size. Each write is of whole sectors, synced and read back, and one of two
// copies of a table is complete at any time.
package disk

import (
	"bytes"
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

// Loader is what boots a disk: the code that chooses between its slices.
type Loader string

// The loaders. A partition table does not say which loader is in the EFI system partition: the caller of
// Read reads that partition, and sets Table.Loader.
const (
	Unknown    Loader = ""
	Boot0      Loader = "boot0"       // and after it boot1 and boot2 of a slice
	PlainMBR   Loader = "mbr"         // /boot/mbr, or any other code that boots the active slice
	GPTBoot    Loader = "gptboot"     // from a freebsd-boot partition, by pmbr
	GPTBootEFI Loader = "gptboot.efi" // from the EFI system partition
	Boot1EFI   Loader = "boot1.efi"
	LoaderEFI  Loader = "loader.efi" // straight from the EFI system partition
)

// gpt is one of the two copies of a table: UEFI 2.10, section 5.3.
type gpt struct {
	header  []byte // one sector
	entries []byte
	at      int64 // sector of the header
	list    int64 // sector of the entries
	other   int64 // sector of the other header
	size    int   // bytes of an entry
}
