package disktest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strconv"
)

// This file imitates what FreeBSD's loaders and tools do to a disk. It was written from their sources,
// and uses nothing of package disk. The disks are those that MBR and GPT of this package write.

// The attributes that a partition can have.
const (
	failed = 1 << 57
	once   = 1 << 58
	bootMe = 1 << 59
)

// lists are the positions of the two copies of a GPT's entries, and of their headers.
func lists(disk []byte) [2][2]int {
	last := len(disk)/sector - 1
	return [2][2]int{{2 * sector, sector}, {(last - entries*entrySize/sector) * sector, last * sector}}
}

// Attrs returns the attributes of a partition in the copy that counts.
func Attrs(disk []byte, index int) uint64 {
	return binary.LittleEndian.Uint64(disk[2*sector+entrySize*(index-1)+48:])
}

// SetAttrs replaces them, in both copies.
func SetAttrs(disk []byte, index int, attrs uint64) {
	for _, l := range lists(disk) {
		list, header := disk[l[0]:l[0]+entries*entrySize], disk[l[1]:l[1]+92]
		binary.LittleEndian.PutUint64(list[entrySize*(index-1)+48:], attrs)
		binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(list))
		clear(header[16:20])
		binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header))
	}
}

// ufsParts returns the partitions with UFS, in the order of the table.
func ufsParts(disk []byte) (all []int) {
	for i := 1; i <= entries; i++ {
		if bytes.Equal(disk[2*sector+entrySize*(i-1):][:16], ufs) {
			all = append(all, i)
		}
	}
	return all
}

// GPTBoot imitates a start by gptboot(8). It returns the partition whose loader was started, 0 if gptboot
// stops at its prompt. loads reports whether a partition has something to load. Sources: gptread,
// gptbootconv, gptfind and gptbootfailed of stand/libsa/gpt.c, and main of stand/i386/gptboot/gptboot.c.
func GPTBoot(disk []byte, loads func(index int) bool) int {
	for _, i := range ufsParts(disk) { // one that was left as tried did not come up
		if a := Attrs(disk, i); a&(bootMe|once|failed) == once {
			SetAttrs(disk, i, a&^once|failed)
		}
	}
	try := func(i int) bool {
		a := Attrs(disk, i)
		if a&once != 0 {
			SetAttrs(disk, i, a&^bootMe)
		}
		if loads(i) {
			return true
		}
		if a&once != 0 {
			SetAttrs(disk, i, a&^(bootMe|once)|failed)
		}
		return false
	}
	first := true // the fallback is for the first search alone
	for _, want := range []uint64{bootMe | once, bootMe} {
		for _, i := range ufsParts(disk) {
			if Attrs(disk, i)&(bootMe|once) != want {
				continue
			}
			first = false
			if try(i) {
				return i
			}
		}
	}
	if all := ufsParts(disk); first && len(all) > 0 && try(all[0]) {
		return all[0]
	}
	return 0
}

// RCGPTBoot imitates libexec/rc/rc.d/gptboot, which runs in a system that came up.
func RCGPTBoot(disk []byte) {
	for _, i := range ufsParts(disk) {
		switch a := Attrs(disk, i); {
		case a&bootMe != 0:
		case a&failed != 0:
			SetAttrs(disk, i, a&^failed)
		case a&once != 0:
			SetAttrs(disk, i, a&^once)
		}
	}
}

// Boot0 imitates a start by boot0 without a key press, and by the boot1 of the slice that it takes:
// use_default and check_selection of stand/i386/boot0/boot0.S, main.1 of stand/i386/boot2/boot1.S. It
// returns the slice whose boot2 runs, 0 if boot0 waits. starts reports whether a slice has a boot sector
// that starts.
func Boot0(disk []byte, starts func(index int) bool) int {
	at := 0x1ae
	if !bytes.HasPrefix(disk[at:], []byte("Drive ")) {
		at = 0x1b2
	}
	n := int(disk[at+7])
	if n > 3 || disk[at+9]>>n&1 == 0 || disk[0x1be+16*n+4] == 0 || !starts(n+1) {
		return 0
	}
	return boot1(disk)
}

func boot1(disk []byte) int {
	for _, active := range []bool{true, false} {
		for i := range 4 {
			e := disk[0x1be+16*i:]
			if e[4] == 0xa5 && (!active || e[0]&0x80 != 0) {
				return i + 1
			}
		}
	}
	return 0
}

// PlainMBR imitates a start by /boot/mbr: main of stand/i386/mbr/mbr.S.
func PlainMBR(disk []byte, starts func(index int) bool) int {
	n := 0
	for i := range 4 {
		switch e := disk[0x1be+16*i:]; {
		case e[0] == 0:
		case e[0] != 0x80 || n != 0:
			return 0
		default:
			n = i + 1
		}
	}
	if n == 0 || !starts(n) {
		return 0
	}
	return boot1(disk)
}

// Command imitates gpart(8)'s set and unset, and its bootcode for an MBR: g_part_gpt_setunset,
// g_part_mbr_setunset and g_part_mbr_bootcode of sys/geom/part.
func Command(disk []byte, words ...string) error {
	if len(words) == 6 && words[0] == "gpart" && words[1] == "bootcode" && words[2] == "-N" &&
		words[3] == "-b" {
		return bootcode(disk, words[4])
	}
	if len(words) != 7 || words[0] != "gpart" || words[2] != "-a" || words[4] != "-i" ||
		words[1] != "set" && words[1] != "unset" {
		return fmt.Errorf("%q is no command of the model", words)
	}
	index, err := strconv.Atoi(words[5])
	if err != nil {
		return err
	}
	set, attr := words[1] == "set", words[3]
	if bytes.HasPrefix(disk[sector:], []byte("EFI PART")) {
		return gptSetUnset(disk, index, attr, set)
	}
	if attr != "active" || index < 1 || index > 4 || disk[0x1be+16*(index-1)+4] == 0 {
		return fmt.Errorf("gpart: %s of %d: Invalid argument", attr, index)
	}
	for i := range 4 {
		switch e := disk[0x1be+16*i:]; {
		case i == index-1 && set:
			e[0] = 0x80
		case set || i == index-1:
			e[0] = 0
		}
	}
	return nil
}

func gptSetUnset(disk []byte, index int, attr string, set bool) error {
	bits := map[string]uint64{"bootme": bootMe, "bootonce": once, "bootfailed": failed}[attr]
	if bits == 0 || !slices.Contains(ufsParts(disk), index) {
		return fmt.Errorf("gpart: %s of %d: Invalid argument", attr, index)
	}
	if set && attr == "bootonce" {
		bits |= bootMe
	}
	a := Attrs(disk, index)
	if set {
		SetAttrs(disk, index, a|bits)
	} else {
		SetAttrs(disk, index, a&^bits)
	}
	return nil
}

// bootcode replaces the code before the slices, and with -N the serial number too.
func bootcode(disk []byte, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if len(b) != sector || bytes.HasPrefix(disk[sector:], []byte("EFI PART")) {
		return fmt.Errorf("gpart: %s: %d bytes: Operation not supported by device", file, len(b))
	}
	copy(disk[:0x1be], b)
	return nil
}
