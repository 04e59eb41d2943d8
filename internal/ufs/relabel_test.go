package ufs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// bitwise is the CRC-32C of FreeBSD's superblocks by its definition: polynomial 0x1EDC6F41 reflected, all
// ones at first, and nothing at the end.
func bitwise(b []byte) uint32 {
	crc := ^uint32(0)
	for _, x := range b {
		crc ^= uint32(x)
		for range 8 {
			crc = crc>>1 ^ 0x82f63b78*(crc&1)
		}
	}
	return crc
}

func TestRelabel(t *testing.T) {
	t.Parallel()
	if superHash([]byte("123456789")) != bitwise([]byte("123456789")) ||
		^superHash([]byte("123456789")) != 0xe3069283 {
		// the check value of CRC-32C
		t.Error("another sum")
	}
	for name, hashed := range map[string]bool{"with a check hash": true, "without": false} {
		img := newMini(t, true, 1<<20).b
		f, err := Open(bytes.NewReader(img), int64(len(img)))
		if err != nil {
			t.Fatal(err)
		}
		sb := img[f.sblock : f.sblock+sblockSize]
		binary.LittleEndian.PutUint32(sb[atSize:], 1376)
		copy(sb[atVolume:], "an old and much longer label")
		if hashed {
			binary.LittleEndian.PutUint32(sb[atHashed:], ckSuperblock)
		}
		before := bytes.Clone(img)
		holds := f.Bytes + 10*f.fsize
		edits, err := f.Relabel("BSDs2a", holds)
		if err != nil || (len(edits) == 3) != hashed {
			t.Fatalf("%s: %v, %v", name, edits, err)
		}
		for _, e := range edits {
			if e.At/512 != (e.At+int64(len(e.Bytes))-1)/512 {
				t.Errorf("%s: an edit at %d over a sector's end", name, e.At)
			}
			copy(img[e.At:], e.Bytes)
		}
		f, err = Open(bytes.NewReader(img), int64(len(img)))
		if err != nil || f.Label != "BSDs2a" || int64(u64(sb, atProvider)) != holds/f.fsize {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
		if hashed {
			want := bytes.Clone(sb[:1376])
			clear(want[atHash : atHash+4])
			if u32(sb, atHash) != bitwise(want) {
				t.Errorf("%s: hash %#x, want %#x", name, u32(sb, atHash), bitwise(want))
			}
		}
		for i := range img {
			at := int64(i) - f.sblock
			in := at >= atVolume && at < atVolume+maxVolume || at >= atProvider && at < atProvider+8 ||
				hashed && at >= atHash && at < atHash+4
			if img[i] != before[i] && !in {
				t.Fatalf("%s: byte %d was changed", name, i)
			}
		}
		for _, label := range []string{"", strings.Repeat("x", maxVolume)} {
			if _, err := f.Relabel(label, holds); err == nil {
				t.Errorf("%s: %q", name, label)
			}
		}
		if _, err := f.Relabel("x", f.Bytes-1); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
		binary.LittleEndian.PutUint32(sb[atSize:], 100000)
		if _, err := f.Relabel("x", holds); (err != nil) != hashed {
			t.Errorf("%s: a superblock of 100000 bytes: %v", name, err)
		}
	}
}
