package disk

import (
	"fmt"
	"io"
)

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
