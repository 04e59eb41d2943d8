package disk

import (
	"bytes"
	"errors"
	"testing"

	"cfgd/internal/disk/disktest"
)

func TestRelabel(t *testing.T) {
	t.Parallel()
	for _, base := range []uint32{0, 63} {
		slice := make([]byte, 3000*Sector)
		copy(slice[Sector:], disktest.Label(base, 800, map[byte]disktest.Part{
			'a': {Start: 16, Count: 700}, 'b': {Start: 716, Count: 84},
		}))
		old := bytes.Clone(slice[Sector : 2*Sector])
		if err := Relabel(slice[Sector:2*Sector], 3000, 16, 2500); err != nil {
			t.Fatal(err)
		}
		parts, err := ReadLabel(bytes.NewReader(slice), int64(len(slice)))
		if err != nil || len(parts) != 2 || parts[0] != (Partition{'a', 16 * Sector, 2500 * Sector, 7}) ||
			LabelSize(parts) != 3000*Sector {
			t.Errorf("base %d: %+v, %v", base, parts, err)
		}
		for _, c := range [][3]int64{{3000, -1, 10}, {3000, 16, 0}, {3000, 600, 2500}, {1 << 33, 16, 2500}} {
			if err := Relabel(bytes.Clone(old), c[0], c[1], c[2]); !errors.Is(err, ErrTable) {
				t.Errorf("%v: %v", c, err)
			}
		}
		old[60]++
		if err := Relabel(old, 3000, 16, 2500); !errors.Is(err, ErrTable) {
			t.Errorf("a wrong checksum: %v", err)
		}
	}
}
