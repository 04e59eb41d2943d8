package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Choice is the slice that has to boot.
type Choice struct {
	Slice int  // from now on; with Once, the next time alone
	Once  bool // where CanTryOnce
	Back  int  // with Once: the one that boots otherwise
}

// Mark is a change of one mark of one slice.
type Mark struct {
	Slice int
	Name  string // as gpart(8) calls it, or Boot0Default
	Set   bool
}

// Boot0Default is the mark that is no attribute: boot0's default byte.
const Boot0Default = "default"

// ErrLoader reports that a disk's loader cannot be told to boot a choice.
var ErrLoader = errors.New("cannot be told which slice to boot")

// Marks returns the changes that a choice needs, in order; none if the table has it already. After an
// interruption at any step, the next boot takes a slice that would have booted before, or the chosen one,
// or with Once the one to go back to. The order ensures that: the slice that stays is marked before the
// others lose their marks, and they lose bootme before bootonce, so that a cancelled trial never becomes
// permanent.
func (t *Table) Marks(c Choice) ([]Mark, error) {
	for _, n := range []int{c.Slice, c.keep()} {
		if _, ok := t.Slice(n); !ok {
			return nil, fmt.Errorf("no slice %d: %w", n, ErrTable)
		}
	}
	if c.Once && (!t.CanTryOnce() || c.Back == c.Slice) {
		return nil, fmt.Errorf("the loader (%s) %w once", t.Loader.text(), ErrLoader)
	}
	switch t.Honours() {
	case Active, DefaultAndActive:
		if t.Loader == Boot0 && !t.offers(c.Slice) {
			return nil, fmt.Errorf("boot0 %w: slice %d is none that it offers (boot0cfg -m)", ErrLoader,
				c.Slice)
		}
		return t.mbrMarks(c.Slice), nil
	case BootMe:
		if s, _ := t.Slice(c.Slice); t.Scheme == "GPT" && s.Type != "freebsd-ufs" {
			return nil, fmt.Errorf("partition %d is of %s: %w", c.Slice, s.Type, ErrTable)
		}
		return t.gptMarks(c), nil
	}
	if t.Next() == c.Slice {
		return nil, nil
	}
	return nil, fmt.Errorf("the loader (%s) %w: it ignores the marks of the table", t.Loader.text(),
		ErrLoader)
}

// keep returns the slice that boots when nothing is tried.
func (c Choice) keep() int {
	if c.Once {
		return c.Back
	}
	return c.Slice
}

func (t *Table) mbrMarks(n int) []Mark {
	var all []Mark
	if t.active() != n { // setting one takes it from the others
		all = append(all, Mark{n, "active", true})
	}
	if t.hasBoot0 && t.Boot0 != n { // also where EFI boots the disk: it may be started by BIOS some day
		all = append(all, Mark{n, Boot0Default, true})
	}
	return all
}

func (t *Table) gptMarks(c Choice) []Mark {
	var all []Mark
	add := func(is bool, m Mark) {
		if is != m.Set {
			all = append(all, m)
		}
	}
	keep, _ := t.Slice(c.keep())
	add(keep.Active, Mark{keep.Index, "bootme", true})
	others := slices.DeleteFunc(slices.Clone(t.Slices), func(s Slice) bool {
		return s.Index == keep.Index || s.Type != "freebsd-ufs"
	})
	next := t.Next() // goes last, so that nothing steps in between
	if i := slices.IndexFunc(others, func(s Slice) bool { return s.Index == next }); i >= 0 {
		others = append(slices.Delete(slices.Clone(others), i, i+1), others[i])
	}
	for _, s := range others {
		if !c.Once || s.Index != c.Slice {
			add(s.Active, Mark{s.Index, "bootme", false})
			add(s.Once, Mark{s.Index, "bootonce", false})
		}
		add(s.Failed, Mark{s.Index, "bootfailed", false})
	}
	add(keep.Once, Mark{keep.Index, "bootonce", false})
	add(keep.Failed, Mark{keep.Index, "bootfailed", false})
	if c.Once {
		x, _ := t.Slice(c.Slice)
		add(x.Active && x.Once, Mark{x.Index, "bootonce", true}) // which sets bootme too
	}
	return all
}

// Apply writes a choice into the table of the disk that it was read from.
func (t *Table) Apply(d Device, size int64, c Choice) error {
	marks, err := t.Marks(c)
	if err != nil || len(marks) == 0 {
		return err
	}
	if t.gpt != nil {
		return t.gpt.mark(d, size, marks)
	}
	mbr, err := sectorAt(d, 0, size)
	if err != nil {
		return err
	}
	at := boot0Default(mbr)
	for _, m := range marks {
		switch {
		case m.Name != Boot0Default:
			for i := range 4 {
				entry(mbr, i)[0] = 0
			}
			entry(mbr, m.Slice-1)[0] = 0x80
		case at == 0:
			return fmt.Errorf("%w: sector 0: boot0 is no longer there", ErrTable)
		default:
			mbr[at] = byte(m.Slice - 1)
		}
	}
	return Put(d, mbr, 0)
}

var attributes = map[string]uint64{"bootme": attrBootMe, "bootonce": attrOnce, "bootfailed": attrFailed}

// mark sets attributes in both copies. It writes the copy first that was not read, which is complete and
// new while the other is written. Entries come before their header, so that an interrupted copy has a
// wrong checksum and the other one counts.
func (g *gpt) mark(d Device, size int64, marks []Mark) error {
	for _, m := range marks {
		e := g.entry(m.Slice)
		attrs := binary.LittleEndian.Uint64(e[48:])
		switch {
		case !m.Set:
			attrs &^= attributes[m.Name]
		case m.Name == "bootonce": // g_part_gpt_setunset of sys/geom/part/g_part_gpt.c
			attrs |= attrOnce | attrBootMe
		default:
			attrs |= attributes[m.Name]
		}
		binary.LittleEndian.PutUint64(e[48:], attrs)
	}
	back, err := readCopy(d, g.other, size)
	if err != nil {
		// write it completely, as gpart recover does: the only whole copy must not be written first
		if back, err = g.copyAt(size); err != nil {
			return err
		}
	}
	if len(back.entries) != len(g.entries) {
		return fmt.Errorf("%w: the two copies differ in size", ErrTable)
	}
	back.entries = bytes.Clone(g.entries)
	if err := back.write(d); err != nil {
		return err
	}
	return g.write(d)
}

func (l Loader) text() string {
	if l == Unknown {
		return "which is not known"
	}
	return string(l)
}

// Doubts returns the reasons why the table's marks may not mean what they seem to, in words.
func (t *Table) Doubts() []string {
	var all []string
	doubt := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	switch t.Honours() {
	case Nothing:
		doubt("%s ignores the marks of the table and boots the first slice that holds a system, unless "+
			"loader.env or the firmware's EFI variables name another one", t.Loader)
	case Active:
		switch {
		case t.active() == 0:
			doubt("not exactly one slice is active: /boot/mbr boots none")
		case t.hasBoot0 && t.Boot0 != t.active():
			what := t.option.text()
			if t.Boot0 != 0 {
				what = number(t.Boot0)
			}
			doubt("slice %d is active, and the default of boot0, which is in the MBR, is %s", t.active(),
				what)
		}
	case DefaultAndActive:
		switch {
		case t.Boot0 == 0:
			doubt("boot0's default is %s", t.option.text())
		case t.boot0Next() == 0:
			doubt("boot0's default is slice %d, which it does not offer (boot0cfg -m): it waits for a key",
				t.Boot0)
		case t.active() != t.Boot0:
			doubt("boot0's default is slice %d and the active one is %s: boot0 starts the first, whose "+
				"boot1 goes "+
				"to the active one", t.Boot0, number(t.active()))
		}
	case BootMe:
		if t.Loader == Unknown {
			doubt("what boots this disk is not known: it is taken to heed bootme as gptboot does")
		}
		if t.gpt != nil && !t.gpt.forGPTBoot() {
			doubt("gptboot refuses a table of more than %d entries, or of entries larger than %d bytes: "+
				"this one "+
				"has %d of %d", bootEntries, bootEntrySize, len(t.gpt.entries)/t.gpt.size, t.gpt.size)
		}
	}
	return append(all, t.Unsure...)
}

func number(n int) string {
	if n == 0 {
		return "none or more than one"
	}
	return fmt.Sprintf("slice %d", n)
}
