package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Partition is a partition of a BSD label: a to h, in bytes from the start of the slice.
type Partition struct {
	Letter byte
	Start  int64
	Size   int64
	Type   byte // 7 is 4.2BSD
}

// ErrNoLabel reports that a slice has no BSD label.
var ErrNoLabel = errors.New("no BSD label")

const (
	labelMagic = 0x82564557
	labelAt    = Sector // in the slice
	partOffset = 148
	rawPart    = 2 // c, all of the slice
)

// ReadLabel reads the BSD label of a slice of the given size: struct disklabel of sys/disklabel.h.
// Offsets in it may count from the start of the disk; partition c shows that.
func ReadLabel(r io.ReaderAt, size int64) ([]Partition, error) {
	b := make([]byte, Sector)
	if size < labelAt+Sector {
		return nil, ErrNoLabel
	}
	if _, err := r.ReadAt(b, labelAt); err != nil {
		return nil, fmt.Errorf("read the label: %w", err)
	}
	return parseLabel(b, size)
}

func parseLabel(b []byte, size int64) ([]Partition, error) {
	le := binary.LittleEndian
	if le.Uint32(b) != labelMagic || le.Uint32(b[132:]) != labelMagic {
		return nil, ErrNoLabel
	}
	n := int(le.Uint16(b[138:]))
	if n < 1 || n > 22 || partOffset+16*n > Sector {
		return nil, fmt.Errorf("%w: a label of %d partitions", ErrTable, n)
	}
	if labelSum(b, n) != 0 {
		return nil, fmt.Errorf("%w: the label's checksum is wrong", ErrTable)
	}
	if s := le.Uint32(b[40:]); s != Sector {
		return nil, fmt.Errorf("%w: a label of %d bytes a sector", ErrTable, s)
	}
	base := int64(0)
	if n > rawPart {
		base = int64(le.Uint32(b[partOffset+16*rawPart+4:]))
	}
	var all []Partition
	for i := range n {
		e := b[partOffset+16*i:]
		p := Partition{
			Letter: byte('a' + i),
			Size:   int64(le.Uint32(e)) * Sector,
			Start:  (int64(le.Uint32(e[4:])) - base) * Sector,
			Type:   e[12],
		}
		if p.Size == 0 {
			continue
		}
		if p.Start < 0 || p.Start+p.Size > size {
			return nil, fmt.Errorf("%w: partition %c has bytes %d to %d of a slice of %d", ErrTable, p.Letter,
				p.Start, p.Start+p.Size, size)
		}
		all = append(all, p)
	}
	return all, nil
}

// LabelSize returns the size in bytes of the slice that a label was made for, by its partition c, 0 if it
// does not say.
func LabelSize(parts []Partition) int64 {
	for _, p := range parts {
		if p.Letter == 'c' {
			return p.Size
		}
	}
	return 0
}

// labelSum returns the exclusive or of all 16-bit words of a label of n partitions. It is 0 for a label
// that contains its own checksum.
func labelSum(b []byte, n int) (sum uint16) {
	for i := 0; i < partOffset+16*n; i += 2 {
		sum ^= binary.LittleEndian.Uint16(b[i:])
	}
	return sum
}
