package disk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

func entry(mbr []byte, i int) []byte { return mbr[0x1be+16*i : 0x1be+16*(i+1)] }

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

// boot0Default returns where boot0's code in this sector keeps its default, 0 if it has none.
func boot0Default(mbr []byte) int {
	for _, f := range boot0Forms {
		if bytes.HasPrefix(mbr, boot0Code) && bytes.HasPrefix(mbr[f.text:], boot0Text) {
			return f.option
		}
	}
	return 0
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
