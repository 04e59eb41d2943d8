package disk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

// Attributes of gptboot(8), in sys/disk/gpt.h.
const (
	attrFailed = 1 << 57
	attrOnce   = 1 << 58
	attrBootMe = 1 << 59
)

const (
	gptMagic   = "EFI PART"
	maxEntries = 1024
)

// What gptboot and gptboot.efi read: MAXTBLENTS of stand/libsa/gpt.h, and struct gpt_ent, by whose size
// gptread_table of gpt.c goes through the entries.
const (
	bootEntries   = 128
	bootEntrySize = 128
)

// forGPTBoot reports whether gptboot reads the table.
func (g *gpt) forGPTBoot() bool {
	return len(g.entries)/g.size <= bootEntries && g.size == bootEntrySize
}

var gptTypes = map[string]string{
	"516e7cb6-6ecf-11d6-8ff8-00022d09712b": "freebsd-ufs",
	"83bd6b9d-7f41-11dc-be0b-001560b84f0f": "freebsd-boot", "516e7cb4-6ecf-11d6-8ff8-00022d09712b": "freebsd",
	"516e7cb5-6ecf-11d6-8ff8-00022d09712b": "freebsd-swap",
	"516e7cba-6ecf-11d6-8ff8-00022d09712b": "freebsd-zfs", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "efi",
}

// guid formats the mixed-endian form of UEFI.
func guid(b []byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(b),
		binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:16])
}

func readGPT(r io.ReaderAt, size int64) (*Table, error) {
	t := &Table{Scheme: "GPT"}
	g, err := readCopy(r, 1, size)
	if err != nil {
		var err2 error
		if g, err2 = readCopy(r, size/Sector-1, size); err2 != nil {
			return nil, fmt.Errorf("%w; and the copy at the end: %w", err, err2)
		}
		t.Notes = append(t.Notes, fmt.Sprintf(
			"the first table is damaged (%v), the copy at the end is used: gpart recover mends it", err,
		))
	}
	t.gpt = g
	for i := range len(g.entries) / g.size {
		e := g.entry(i + 1)
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		attrs := binary.LittleEndian.Uint64(e[48:])
		id := guid(e[:16])
		s := Slice{
			Index:  i + 1,
			Type:   id,
			Label:  gptLabel(e[56:128]),
			Active: attrs&attrBootMe != 0,
			Once:   attrs&attrOnce != 0,
			Failed: attrs&attrFailed != 0,
		}
		if name, ok := gptTypes[id]; ok {
			s.Type = name
		}
		if err := t.place(s, binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:]), size,
			fmt.Sprintf("sector %d", g.list)); err != nil {
			return nil, err
		}
	}
	t.Loader = gptLoader(t)
	return t, nil
}

// gptLoader returns what boots a GPT as far as its table shows. With an EFI system partition and no
// freebsd-boot partition, only the content of the former shows it. With neither, whatever boots the disk
// from outside is assumed to choose as gptboot does.
func gptLoader(t *Table) Loader {
	efi := false
	for _, s := range t.Slices {
		if s.Type == "freebsd-boot" {
			return GPTBoot
		}
		efi = efi || s.Type == "efi"
	}
	if efi {
		return Unknown
	}
	return GPTBoot
}

func gptLabel(b []byte) string {
	var u []uint16
	for i := 0; i+1 < len(b); i += 2 {
		if c := binary.LittleEndian.Uint16(b[i:]); c != 0 {
			u = append(u, c)
			continue
		}
		break
	}
	return strings.ToValidUTF8(string(utf16.Decode(u)), "?")
}

func (g *gpt) entry(index int) []byte { return g.entries[(index-1)*g.size : index*g.size] }

// readCopy reads the header at a sector, and the entries that it names.
func readCopy(r io.ReaderAt, at, size int64) (*gpt, error) {
	h, err := sectorAt(r, at, size)
	if err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: sector %d: %s", ErrTable, at, fmt.Sprintf(format, args...))
	}
	length := binary.LittleEndian.Uint32(h[12:])
	switch {
	case string(h[:8]) != gptMagic:
		return nil, bad("%q and not %q", h[:8], gptMagic)
	case length < 92 || length > Sector:
		return nil, bad("a header of %d bytes", length)
	case headerSum(h) != binary.LittleEndian.Uint32(h[16:]):
		return nil, bad("the header's checksum is wrong")
	case int64(binary.LittleEndian.Uint64(h[24:])) != at:
		return nil, bad("the header says that it is at sector %d", binary.LittleEndian.Uint64(h[24:]))
	}
	g := &gpt{
		header: h,
		at:     at,
		other:  int64(binary.LittleEndian.Uint64(h[32:])),
		list:   int64(binary.LittleEndian.Uint64(h[72:])),
		size:   int(binary.LittleEndian.Uint32(h[84:])),
	}
	n := int(binary.LittleEndian.Uint32(h[80:]))
	if g.size < 128 || g.size > 4096 || g.size%128 != 0 || n < 1 || n > maxEntries || n*g.size%Sector != 0 {
		return nil, bad("%d entries of %d bytes", n, g.size)
	}
	if g.list < 2 || g.list > size/Sector || (g.list*Sector)+int64(n*g.size) > size {
		return nil, bad("entries at sector %d", g.list)
	}
	g.entries = make([]byte, n*g.size)
	if _, err := r.ReadAt(g.entries, g.list*Sector); err != nil {
		return nil, fmt.Errorf("read sector %d: %w", g.list, err)
	}
	if crc32.ChecksumIEEE(g.entries) != binary.LittleEndian.Uint32(h[88:]) {
		return nil, bad("the checksum of the entries at sector %d is wrong", g.list)
	}
	return g, nil
}

// copyAt returns the other copy, for use when it is damaged: the backup's entries are before its header,
// at the end of the disk, and those of the first copy after its header.
func (g *gpt) copyAt(size int64) (*gpt, error) {
	c := &gpt{header: slices.Clone(g.header), entries: g.entries, at: g.other, other: g.at, size: g.size}
	sectors := int64(len(g.entries) / Sector)
	if c.list = c.at + 1; c.at > g.at {
		c.list = c.at - sectors
	}
	le := binary.LittleEndian
	first, last := int64(le.Uint64(g.header[40:])), int64(le.Uint64(g.header[48:])) // usable by slices
	if c.at < 1 || c.at >= size/Sector || c.at < g.at && c.list+sectors > first ||
		c.at > g.at && c.list <= last {
		return nil, fmt.Errorf("%w: the other copy is damaged, and has no place at sector %d: "+
			"gpart recover mends it", ErrTable, c.at)
	}
	le.PutUint64(c.header[24:], uint64(c.at))
	le.PutUint64(c.header[32:], uint64(c.other))
	le.PutUint64(c.header[72:], uint64(c.list))
	return c, nil
}

// headerSum returns a header's checksum, computed with zero in the checksum's own field.
func headerSum(h []byte) uint32 {
	b := slices.Clone(h[:binary.LittleEndian.Uint32(h[12:])])
	clear(b[16:20])
	return crc32.ChecksumIEEE(b)
}

func (g *gpt) write(d Device) error {
	binary.LittleEndian.PutUint32(g.header[88:], crc32.ChecksumIEEE(g.entries))
	binary.LittleEndian.PutUint32(g.header[16:], headerSum(g.header))
	if err := Put(d, g.entries, g.list*Sector); err != nil {
		return err
	}
	return Put(d, g.header, g.at*Sector)
}
