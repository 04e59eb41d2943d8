package dirfd

import "strings"

// flagNames are the flags that are kept, by the names of chflags(1).
var flagNames = []struct {
	bit  uint32
	name string
}{
	{0x20000, "schg"}, {0x40000, "sappnd"}, {0x100000, "sunlnk"},
	{0x2, "uchg"}, {0x4, "uappnd"}, {0x10, "uunlnk"}, {0x1, "nodump"},
}

// FlagNames are flags in the words of chflags(1), with commas between them, "" for none.
func FlagNames(flags uint32) string {
	var names []string
	for _, f := range flagNames {
		if flags&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ",")
}
