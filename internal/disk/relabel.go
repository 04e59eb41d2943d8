package disk

import (
	"encoding/binary"
	"fmt"
)

// Relabel changes a slice's BSD label, one sector, into the label of a slice of the given number of
// sectors, whose partition a has the given start and size. Partitions other than a and c are removed.
// Offsets count from the start of the slice, as bsdlabel(8) writes them.
func Relabel(b []byte, slice, start, count int64) error {
	if _, err := parseLabel(b, 1<<50); err != nil {
		return err
	}
	const secperunit, checksum = 60, 136
	if start < 0 || count < 1 || start+count > slice || slice > 1<<32-1 {
		return fmt.Errorf("%w: %d sectors from %d in a slice of %d", ErrTable, count, start, slice)
	}
	le := binary.LittleEndian
	n := int(le.Uint16(b[138:]))
	if n <= rawPart {
		return fmt.Errorf("%w: a label of %d partitions", ErrTable, n)
	}
	a, c := b[partOffset:partOffset+16], b[partOffset+16*rawPart:partOffset+16*(rawPart+1)]
	kept := [2][4]byte{[4]byte(a[12:16]), [4]byte(c[12:16])} // types, and what newfs(8) notes
	clear(b[partOffset : partOffset+16*n])
	le.PutUint32(a, uint32(count))
	le.PutUint32(a[4:], uint32(start))
	copy(a[12:], kept[0][:])
	le.PutUint32(c, uint32(slice))
	copy(c[12:], kept[1][:])
	le.PutUint32(b[secperunit:], uint32(slice))
	le.PutUint16(b[checksum:], 0)
	le.PutUint16(b[checksum:], labelSum(b, n))
	return nil
}
