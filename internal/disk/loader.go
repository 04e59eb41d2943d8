package disk

// Honours is the mark by which a loader chooses a slice.
type Honours int

// The marks that loaders honour.
const (
	Nothing Honours = iota // the loader ignores the table's marks: Table.Found says what it takes
	Active                 // the active flag
	// DefaultAndActive is boot0's byte and the active flag: boot0 starts the boot1 of its default, and that
	// one looks for the active slice.
	DefaultAndActive
	BootMe // bootme, and with it bootonce
)

// loaders is the table of what each loader chooses by. The sources were compared between FreeBSD 13.2 and
// 15. boot0, mbr, boot1, gptboot and the choice of gptboot.efi and boot1.efi differ only in comments,
// includes and printed text. In 15, boot1.efi and gptboot.efi may add to the command line of the loader
// that they start, and loader.efi ignores an empty rootdev, which 13.2 takes for a device.
var loaders = map[Loader]struct {
	honours Honours
	once    bool
	source  string // where FreeBSD's sources say so
}{
	Unknown: {BootMe, false, ""}, // marks are set as gptboot would have them, and a trial is not left to it
	Boot0: {DefaultAndActive, false,
		"stand/i386/boot0/boot0.S use_default; stand/i386/boot2/boot1.S main.1"},
	PlainMBR: {Active, false, "stand/i386/mbr/mbr.S main; stand/i386/boot2/boot1.S main.1"},
	GPTBoot:  {BootMe, true, "stand/libsa/gpt.c gptfind, gptbootconv; stand/i386/gptboot/gptboot.c"},
	GPTBootEFI: {BootMe, true,
		"stand/libsa/gpt.c gptfind, gptbootconv; stand/efi/gptboot/proto.c choice_protocol"},
	Boot1EFI:  {Nothing, false, "stand/efi/boot1/proto.c choice_protocol"},
	LoaderEFI: {Nothing, false, "stand/efi/loader/main.c find_currdev"},
}

// Honours returns what the disk's loader chooses by. A loader that is not in the table honours nothing.
func (t *Table) Honours() Honours {
	h := loaders[t.Loader].honours
	if h == BootMe && t.Scheme != "GPT" { // attributes that an MBR has not
		return Active
	}
	return h
}

// CanTryOnce reports whether the disk's loader can boot a slice once and go back by itself.
func (t *Table) CanTryOnce() bool { return t.Scheme == "GPT" && loaders[t.Loader].once }

// Next returns the index of the slice that the next boot takes, as the disk's loader chooses; 0 if that
// is none of this table, or not known.
func (t *Table) Next() int {
	switch t.Honours() {
	case Active:
		return t.active()
	case DefaultAndActive:
		return t.boot0Next()
	case BootMe:
		return t.gptNext()
	}
	return t.Found
}

// Overtakes reports whether the loader will take a slice instead of its current choice as soon as the
// slice holds a system.
func (t *Table) Overtakes(slice int) bool {
	if t.Honours() != Nothing || !t.First || t.Found == 0 {
		return false
	}
	for _, s := range t.Slices {
		if s.Index == slice || s.Index == t.Found {
			return s.Index == slice && s.Index != t.Found
		}
	}
	return false
}

// active returns the slice with the active flag, 0 if several have it, which /boot/mbr refuses.
func (t *Table) active() int {
	n := 0
	for _, s := range t.Slices {
		if s.Active && n != 0 {
			return 0
		}
		if s.Active {
			n = s.Index
		}
	}
	return n
}

// boot0Next follows boot0 to the boot1 of its default slice, and boot1 to the first active slice of
// FreeBSD, or to the first slice at all. If boot0 does not offer its default it waits for a key; another
// system's code takes its own slice.
func (t *Table) boot0Next() int {
	s, ok := t.Slice(t.Boot0)
	if !ok || !t.offers(t.Boot0) {
		return 0
	}
	if s.Type != "freebsd" {
		return t.Boot0
	}
	first := 0
	for _, s := range t.Slices {
		if s.Type != "freebsd" {
			continue
		}
		if s.Active {
			return s.Index
		}
		if first == 0 {
			first = s.Index
		}
	}
	return first
}

// offers reports whether boot0's menu has a slice.
func (t *Table) offers(n int) bool { return n >= 1 && n <= 4 && t.offered&(1<<(n-1)) != 0 }

// gptNext chooses as gptboot does: first a partition with bootme and bootonce; then one with bootme; if
// no partition has a mark, the first with UFS.
func (t *Table) gptNext() int {
	first := 0
	for _, once := range []bool{true, false} {
		for _, s := range t.Slices {
			if s.Type != "freebsd-ufs" {
				continue
			}
			if s.Active && s.Once == once {
				return s.Index
			}
			if first == 0 {
				first = s.Index
			}
		}
	}
	return first
}
