package dirfd

import (
	"fmt"
	"strings"
)

// The flags of chflags(1) that are kept; the archive flag and its like change by themselves (ZFS sets uarch
// at every write).
const (
	ufNodump, ufImmutable, ufAppend, ufNounlink = 0x1, 0x2, 0x4, 0x10
	sfImmutable, sfAppend, sfNounlink           = 0x20000, 0x40000, 0x100000

	systemFlags = sfImmutable | sfAppend | sfNounlink
	keptFlags   = BindingFlags | ufNodump
)

// BindingFlags are the flags that forbid something: a write, a rename, or the removal of the file.
const BindingFlags = systemFlags | ufImmutable | ufAppend | ufNounlink

// flagNames are the flags that are kept, by the names of chflags(1).
var flagNames = []struct {
	bit  uint32
	name string
}{
	{sfImmutable, "schg"}, {sfAppend, "sappnd"}, {sfNounlink, "sunlnk"},
	{ufImmutable, "uchg"}, {ufAppend, "uappnd"}, {ufNounlink, "uunlnk"}, {ufNodump, "nodump"},
}

// FlagNames returns flags in the words of chflags(1), separated by commas, "" for none.
func FlagNames(flags uint32) string {
	var names []string
	for _, f := range flagNames {
		if flags&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ",")
}

// ParseFlags parses FlagNames' words. An unknown word is left out.
func ParseFlags(names string) (flags uint32) {
	for name := range strings.SplitSeq(names, ",") {
		for _, f := range flagNames {
			if f.name == name {
				flags |= f.bit
			}
		}
	}
	return flags
}

// levelWords returns why a file with system flags cannot be changed, if a secure level is the reason.
func levelWords(flags uint32, level int32, err error) error {
	if flags&systemFlags == 0 || level <= 0 {
		return err
	}
	return fmt.Errorf("%w: it has the flags %s, and they stay while kern.securelevel is %d, see security(7)",
		err,
		FlagNames(flags&systemFlags), level)
}
