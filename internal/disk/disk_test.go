package disk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cfgd/internal/disk/disktest"
)

// drive is a disk in memory that fails at an operation.
type drive struct {
	data   []byte
	ops    int
	failAt int
	torn   bool // the write that fails is half done
}

var errDrive = errors.New("disk error")

func (d *drive) fails() bool { d.ops++; return d.failAt > 0 && d.ops >= d.failAt }

func (d *drive) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(p)) > int64(len(d.data)) {
		return 0, errors.New("read behind the end")
	}
	return copy(p, d.data[at:]), nil
}

func (d *drive) WriteAt(p []byte, at int64) (int, error) {
	if d.fails() {
		if d.torn && d.ops == d.failAt {
			copy(d.data[at:], p[:len(p)/2])
		}
		return 0, errDrive
	}
	return copy(d.data[at:], p), nil
}

func (d *drive) Sync() error {
	if d.fails() {
		return errDrive
	}
	return nil
}

const sectors = 2048

func nano() *drive {
	d := &drive{data: make([]byte, sectors*Sector)}
	copy(d.data, disktest.MBR(1, disktest.Slice{Index: 1, Start: 63, Count: 800, Type: 0xa5, Active: true},
		disktest.Slice{Index: 2, Start: 900, Count: 800, Type: 0xa5},
		disktest.Slice{Index: 3, Start: 1800, Count: 100, Type: 0xa5}))
	return d
}

func gptDrive() *drive {
	d := &drive{data: make([]byte, sectors*Sector)}
	disktest.GPT(d.data, disktest.Slice{Index: 2, Start: 100, Count: 700, Active: true, Label: "system1"},
		disktest.Slice{Index: 3, Start: 900, Count: 700, Label: "system2"})
	return d
}

// activate makes a slice the next one, from now on or once.
func activate(d *drive, c Choice) error {
	tab, err := Read(d, d.size())
	if err != nil {
		return err
	}
	return tab.Apply(d, d.size(), c)
}

func (d *drive) size() int64 { return int64(len(d.data)) }

// Both forms of boot0, and code that is none: only the active flags and the byte of the form that is there
// are written.
func TestMBR(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]int{"boot0": 0x1b5, "old boot0": 0x1b9, "mbr": 0, "": 0} {
		d := nano()
		disktest.Code(d.data, name, 1)
		tab, err := Read(d, d.size())
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		if at > 0 {
			want = 1
		}
		if tab.Scheme != "MBR" || len(tab.Slices) != 3 || tab.Boot0 != want ||
			(tab.Loader == Boot0) != (at > 0) || tab.Next() != 1 || tab.CanTryOnce() ||
			tab.Slices[1] != (Slice{Index: 2, Start: 900 * Sector, Size: 800 * Sector, Type: "freebsd"}) ||
			tab.Doubts() != nil {
			t.Errorf("%q: %+v", name, tab)
		}
		before := bytes.Clone(d.data)
		if err := tab.Apply(d, d.size(), Choice{Slice: 2}); err != nil {
			t.Fatal(err)
		}
		tab, err = Read(d, d.size())
		if err != nil || tab.Next() != 2 || tab.Boot0 != 2*want || tab.Slices[0].Active ||
			!tab.Slices[1].Active || tab.Doubts() != nil {
			t.Errorf("%q: %+v, %v", name, tab, err)
		}
		for i := range before {
			if before[i] != d.data[i] && i != 0x1be && i != 0x1ce && i != at {
				t.Errorf("%q: byte %#x was changed", name, i)
			}
		}
		if err := activate(d, Choice{Slice: 4}); !errors.Is(err, ErrTable) {
			t.Errorf("%q: a slice that is not there: %v", name, err)
		}
		if err := activate(d, Choice{Slice: 2, Once: true, Back: 1}); !errors.Is(err, ErrLoader) {
			t.Errorf("%q: an MBR boots once: %v", name, err)
		}
	}
}

// What boot0's byte and mask and the active flags say together is what the model of boot0 and boot1, or of
// /boot/mbr, boots; and a doubt stands there wherever the byte and the flag do not name one slice.
func TestWhatAnMBRBoots(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"boot0", "old boot0", "mbr"} {
		for bits := range 1 << 10 {
			option, mask, active := bits&7, bits>>3&7, bits>>6&7
			d := nano()
			disktest.Code(d.data, form, option+1)
			for i, at := range map[string]int{"boot0": 0x1b7, "old boot0": 0x1bb} {
				if i == form {
					d.data[at] = 0x80 | byte(mask)
				}
			}
			for i := range 3 {
				entry(d.data, i)[0] = byte(active>>i&1) << 7
			}
			if bits>>9 != 0 {
				entry(d.data, 2)[4] = 0x83
			}
			tab, err := Read(d, d.size())
			if err != nil {
				t.Fatal(err)
			}
			boots := disktest.Boot0
			if form == "mbr" {
				boots = disktest.PlainMBR
			}
			want := boots(d.data, func(int) bool { return true })
			if form == "mbr" && want != 0 && active == 4 || form != "mbr" && option == 2 && bits>>9 != 0 {
				continue // another system's slice: what boots there is its own affair
			}
			if tab.Next() != want {
				t.Errorf("%s, default %d, mask %#x, active %03b: %d is next, and %d boots", form, option,
					mask, active, tab.Next(), want)
			}
			one := active == 1<<option && mask>>option&1 == 1
			if form == "mbr" {
				one = active == 1 || active == 2 || active == 4
			}
			if one != (len(tab.Doubts()) == 0) {
				t.Errorf("%s, default %d, mask %#x, active %03b: %q", form, option, mask, active,
					tab.Doubts())
			}
		}
	}
}

// Every state of two slices' and a third partition's marks: what is next is what the model of gptboot boots
// where everything loads.
func TestWhatAGPTBoots(t *testing.T) {
	t.Parallel()
	for bits := range 1 << 9 {
		d := threeParts(bits)
		tab, err := Read(d, d.size())
		if err != nil {
			t.Fatal(err)
		}
		if want := disktest.GPTBoot(d.data, func(int) bool { return true }); tab.Next() != want {
			t.Errorf("%09b: %d is next, and %d boots", bits, tab.Next(), want)
		}
	}
}

// threeParts is a GPT with UFS in 1, 2 and 4, each with any of the three marks.
func threeParts(bits int) *drive {
	d := &drive{data: make([]byte, 128*Sector)}
	disktest.GPT(d.data, disktest.Slice{Index: 1, Start: 40, Count: 10},
		disktest.Slice{Index: 2, Start: 50, Count: 10},
		disktest.Slice{Index: 4, Start: 60, Count: 10})
	for n, i := range []int{1, 2, 4} {
		disktest.SetAttrs(d.data, i, uint64(bits>>(3*n)&7)<<57)
	}
	return d
}

// From every state of the marks every choice ends with what was asked for and nothing half marked, by the
// writer and by the commands alike; and cut short anywhere between, what boots is what booted before, or
// what is chosen, or what it is to go back to.
func TestEveryChoiceFromEveryState(t *testing.T) {
	t.Parallel()
	loads := func(int) bool { return true }
	for bits := range 1 << 9 {
		for _, c := range []Choice{
			{Slice: 1}, {Slice: 2}, {Slice: 1, Once: true, Back: 2}, {Slice: 2, Once: true, Back: 1},
		} {
			d, by := threeParts(bits), threeParts(bits)
			tab, _ := Read(d, d.size())
			before := tab.Next()
			marks, err := tab.Marks(c)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range marks {
				verb := map[bool]string{true: "set", false: "unset"}[m.Set]
				if err := disktest.Command(by.data, "gpart", verb, "-a", m.Name, "-i", fmt.Sprint(m.Slice),
					"ada0"); err != nil {
					t.Fatal(err)
				}
				if now := disktest.GPTBoot(bytes.Clone(by.data), loads); now != before && now != c.Slice &&
					now != c.keep() {
					t.Errorf("%09b, %+v: after %+v of %+v %d boots", bits, c, m, marks, now)
				}
				for n, i := range []int{1, 2, 4} { // a trial that is called off does not stay for good
					if bits>>(3*n)&6 == 6 && disktest.Attrs(by.data, i)>>58 == 2 && i != c.keep() {
						t.Errorf("%09b, %+v: after %+v of %+v partition %d stays", bits, c, m, marks, i)
					}
				}
			}
			if err := tab.Apply(d, d.size(), c); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(d.data, by.data) {
				t.Errorf("%09b, %+v: the writer's disk is not the one of %+v", bits, c, marks)
			}
			want := map[int]uint64{1: 0, 2: 0, 4: 0}
			want[c.keep()] = 1 << 59
			if c.Once {
				want[c.Slice] = 1<<59 | 1<<58
			}
			for i, w := range want {
				if got := disktest.Attrs(d.data, i); got != w {
					t.Errorf("%09b, %+v: partition %d has %#x, want %#x", bits, c, i, got>>57, w>>57)
				}
			}
			tab, _ = Read(d, d.size())
			if left, err := tab.Marks(c); err != nil || len(left) > 0 || tab.Next() != c.Slice {
				t.Errorf("%09b, %+v: %+v are left, %v", bits, c, left, err)
			}
		}
	}
}

// Each loader chooses by what its source says, and is asked for no more.
func TestLoaders(t *testing.T) {
	t.Parallel()
	for l, c := range map[Loader]struct{ first, marked int }{
		GPTBoot: {1, 4}, GPTBootEFI: {1, 4}, Unknown: {1, 4}, Boot1EFI: {}, LoaderEFI: {}, "another": {},
	} {
		for marks, want := range map[int]int{0: c.first, 4 << 6: c.marked} {
			tab, err := Read(threeParts(marks), 128*Sector)
			if err != nil {
				t.Fatal(err)
			}
			tab.Loader = l
			if tab.Honours() == Nothing {
				if tab.Next() != 0 {
					t.Errorf("%q: %d is next, which nobody knows", l, tab.Next())
				}
				want = 4 // in which a system was found
				tab.Found = want
			}
			if tab.Next() != want || tab.CanTryOnce() != (l == GPTBoot || l == GPTBootEFI) {
				t.Errorf("%q: %d is next of %#x, once %v", l, tab.Next(), marks, tab.CanTryOnce())
			}
			_, err = tab.Marks(Choice{Slice: 2})
			if h := tab.Honours(); (h == Nothing) != errors.Is(err, ErrLoader) ||
				(h == BootMe && l != Unknown) != (tab.Doubts() == nil) {
				t.Errorf("%q: %v, %q", l, err, tab.Doubts())
			}
			if _, err := tab.Marks(Choice{Slice: want}); err != nil {
				t.Errorf("%q: what is next anyway: %v", l, err)
			}
		}
	}
	for l, x := range loaders {
		if (x.source == "") != (l == Unknown) {
			t.Errorf("%q names no source", l)
		}
	}
	tab := &Table{Scheme: "GPT", Slices: []Slice{{Index: 1, Type: "efi"}, {Index: 2, Type: "freebsd-ufs"}}}
	if gptLoader(tab) != Unknown {
		t.Error("an EFI system partition is not read")
	}
	if tab.Slices[0].Type = "freebsd-boot"; gptLoader(tab) != GPTBoot {
		t.Error("freebsd-boot is no gptboot")
	}
}

func TestGPT(t *testing.T) {
	t.Parallel()
	d := gptDrive()
	tab, err := Read(d, d.size())
	if err != nil || tab.Scheme != "GPT" || len(tab.Slices) != 2 || tab.Next() != 2 ||
		tab.Slices[1].Label != "system2" || tab.Slices[1].Type != "freebsd-ufs" || len(tab.Notes) > 0 {
		t.Fatalf("%+v, %v", tab, err)
	}
	next := func(want int) {
		t.Helper()
		tab, err := Read(d, d.size())
		if err != nil || tab.Next() != want || len(tab.Notes) > 0 {
			t.Errorf("%+v, %v; want %d", tab, err, want)
		}
		clear(d.data[Sector : 2*Sector]) // the copy says the same
		back, err := Read(d, d.size())
		if err != nil || back.Next() != want || len(back.Notes) != 1 {
			t.Errorf("the copy: %+v, %v", back, err)
		}
	}
	whole := bytes.Clone(d.data)
	if err := activate(d, Choice{Slice: 3, Once: true, Back: 2}); err != nil {
		t.Fatal(err)
	}
	tab, _ = Read(d, d.size())
	if !tab.Slices[0].Active || !tab.Slices[1].Once {
		t.Errorf("%+v", tab)
	}
	next(3)
	d.data = bytes.Clone(whole)
	if err := activate(d, Choice{Slice: 3}); err != nil {
		t.Fatal(err)
	}
	next(3)
	// A damaged copy, either one, is made anew.
	for _, at := range []int{
		Sector + 60, 2*Sector + 5, len(d.data) - Sector + 60, len(d.data) - 33*Sector + 5,
	} {
		d.data = bytes.Clone(whole)
		d.data[at] ^= 1
		if err := activate(d, Choice{Slice: 3}); err != nil {
			t.Fatal(err)
		}
		next(3)
	}
}

// boot0 is told wherever its code is, also where EFI, or nobody knows what, is taken to boot the disk.
func TestBoot0BesideEFI(t *testing.T) {
	t.Parallel()
	for _, l := range []Loader{Boot0, PlainMBR, Unknown, GPTBootEFI} {
		for _, form := range []string{"boot0", "old boot0"} {
			d := nano()
			disktest.Code(d.data, form, 1)
			tab, err := Read(d, d.size())
			if err != nil {
				t.Fatal(err)
			}
			if tab.Loader = l; tab.Doubts() != nil {
				t.Errorf("%s, %s: %q", form, l, tab.Doubts())
			}
			if err := tab.Apply(d, d.size(), Choice{Slice: 2}); err != nil {
				t.Fatal(err)
			}
			starts := func(i int) bool { return i == 2 } // the other one is being written
			if n := disktest.Boot0(d.data, starts); n != 2 {
				t.Errorf("%s, %s: boot0 boots %d", form, l, n)
			}
			disktest.Code(d.data, form, 1)
			if tab, err = Read(d, d.size()); err != nil {
				t.Fatal(err)
			}
			if tab.Loader = l; len(tab.Doubts()) != 1 {
				t.Errorf("%s, %s: the default is 1 and 2 is active: %q", form, l, tab.Doubts())
			}
		}
	}
}

// Cut short at any write, torn or not, a table can be read, and what boots is what booted before or what
// was chosen.
func TestApplyCutShort(t *testing.T) {
	t.Parallel()
	type start struct {
		name  string
		fresh func() *drive
		c     Choice
	}
	starts := []start{
		{"boot0", nano, Choice{Slice: 2}}, {"GPT", gptDrive, Choice{Slice: 3}},
		{"GPT", gptDrive, Choice{Slice: 3, Once: true, Back: 2}},
	}
	for _, form := range []string{"old boot0", "mbr"} {
		starts = append(starts, start{
			form, func() *drive { d := nano(); disktest.Code(d.data, form, 1); return d }, Choice{Slice: 2},
		})
	}
	for _, at := range []int{
		Sector + 60, 2*Sector + 5, sectors*Sector - Sector + 60, sectors*Sector - 33*Sector + 5,
	} {
		starts = append(starts, start{
			"GPT damaged", func() *drive { d := gptDrive(); d.data[at] ^= 1; return d }, Choice{Slice: 3},
		})
	}
	for bits := range 1 << 6 {
		for _, c := range []Choice{
			{Slice: 1}, {Slice: 2}, {Slice: 1, Once: true, Back: 2}, {Slice: 2, Once: true, Back: 1},
		} {
			starts = append(starts, start{
				fmt.Sprintf("GPT %06b", bits), func() *drive { return threeParts(bits) }, c,
			})
		}
	}
	for _, s := range starts {
		for _, torn := range []bool{false, true} {
			if !strings.HasPrefix(s.name, "GPT") && torn {
				continue // a sector is written whole
			}
			for n := 1; ; n++ {
				if n > 100 {
					t.Fatalf("%s, %+v: no end of operations", s.name, s.c)
				}
				d := s.fresh()
				old, _ := Read(d, d.size())
				d.failAt, d.torn = n, torn
				err := activate(d, s.c)
				tab, rerr := Read(d, d.size())
				if rerr != nil || tab.Next() != old.Next() && tab.Next() != s.c.Slice {
					t.Fatalf("%s, %+v, operation %d: %+v, %v", s.name, s.c, n, tab, rerr)
				}
				if err != nil {
					continue
				}
				if left, merr := tab.Marks(s.c); merr != nil || len(left) > 0 || tab.Next() != s.c.Slice {
					t.Errorf("%s, %+v: %+v after %d operations, %v is left", s.name, s.c, tab, n, left)
				}
				break
			}
		}
	}
}

func TestTablesThatLie(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(d *drive){
		"no signature":      func(d *drive) { d.data[510] = 0 },
		"an odd flag":       func(d *drive) { d.data[0x1be] = 0x81 },
		"behind the end":    func(d *drive) { d.data[0x1be+12+2] = 0xff },
		"no sectors":        func(d *drive) { clear(d.data[0x1be+12 : 0x1be+16]) },
		"over the table":    func(d *drive) { clear(d.data[0x1be+8 : 0x1be+12]) },
		"slices that cross": func(d *drive) { copy(d.data[0x1ce+8:], []byte{64, 0, 0, 0}) },
		"a disk too small":  func(d *drive) { d.data = d.data[:100] },
	} {
		d := nano()
		spoil(d)
		if tab, err := Read(d, d.size()); !errors.Is(err, ErrTable) {
			t.Errorf("%s: %+v, %v", name, tab, err)
		}
	}
	for name, spoil := range map[string]func(d *drive){
		"both headers damaged": func(d *drive) { d.data[Sector] = 0; d.data[len(d.data)-Sector] = 0 },
		"both lists damaged":   func(d *drive) { d.data[2*Sector]++; d.data[len(d.data)-33*Sector]++ },
	} {
		d := gptDrive()
		spoil(d)
		if tab, err := Read(d, d.size()); !errors.Is(err, ErrTable) {
			t.Errorf("%s: %+v, %v", name, tab, err)
		}
	}
}

func TestLabel(t *testing.T) {
	t.Parallel()
	slice := &drive{data: make([]byte, 800*Sector)}
	for _, base := range []uint32{0, 63} {
		copy(slice.data[Sector:], disktest.Label(base, 800,
			map[byte]disktest.Part{'a': {Start: 16, Count: 700}}))
		parts, err := ReadLabel(slice, slice.size())
		if err != nil || len(parts) != 2 || parts[0] != (Partition{'a', 16 * Sector, 700 * Sector, 7}) ||
			LabelSize(parts) != 800*Sector {
			t.Errorf("base %d: %+v, %v", base, parts, err)
		}
	}
	good := bytes.Clone(slice.data)
	for name, c := range map[string]struct {
		spoil func()
		want  error
	}{
		"none":           {func() { slice.data[Sector] = 0 }, ErrNoLabel},
		"checksum":       {func() { slice.data[Sector+60]++ }, ErrTable},
		"behind the end": {func() { slice.data = slice.data[:600*Sector] }, ErrTable},
		"too small":      {func() { slice.data = slice.data[:700] }, ErrNoLabel},
	} {
		slice.data = bytes.Clone(good)
		c.spoil()
		if parts, err := ReadLabel(slice, slice.size()); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v", name, parts, err)
		}
	}
}

// Debian's own tools read what the test's writer writes, and so what is read here is what they read.
func TestOthersReadThem(t *testing.T) {
	t.Parallel()
	for tool, c := range map[string]struct {
		d    *drive
		args []string
		want []string
	}{
		"sfdisk": {
			nano(), []string{"-d"}, []string{
				"start=          63, size=         800, type=a5, bootable",
				"start=         900, size=         800, type=a5",
			},
		},
		"sgdisk": {gptDrive(), []string{"-v", "-p"}, []string{"No problems found", "system1", "A503"}},
	} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("no %s here", tool)
			continue
		}
		if err := activate(c.d, Choice{Slice: map[string]int{"sfdisk": 1, "sgdisk": 3}[tool]}); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(file, c.d.data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool, append(c.args, file)...).CombinedOutput()
		for _, w := range c.want {
			if err != nil || !strings.Contains(string(out), w) {
				t.Errorf("%s: %v, %q is not in\n%s", tool, err, w, out)
			}
		}
	}
}

// Whatever a disk holds, it is read within its bounds, or refused.
func FuzzRead(f *testing.F) {
	f.Add(nano().data[:4096], true)
	f.Add(gptDrive().data[:40*Sector], false)
	f.Fuzz(func(t *testing.T, head []byte, mbr bool) {
		d := &drive{data: make([]byte, sectors*Sector)}
		copy(d.data, head)
		copy(d.data[len(d.data)-Sector:], head[:min(len(head), Sector)])
		tab, err := Read(d, d.size())
		if err != nil {
			return
		}
		for _, s := range tab.Slices {
			if s.Start < Sector || s.Size <= 0 || s.Start+s.Size > d.size() {
				t.Fatalf("%+v", s)
			}
			parts, err := ReadLabel(d, s.Size)
			for _, p := range parts {
				if err == nil && (p.Start < 0 || p.Start+p.Size > s.Size) {
					t.Fatalf("%+v", p)
				}
			}
		}
		if n := tab.Next(); n != 0 {
			if _, ok := tab.Slice(n); ok {
				if err := tab.Apply(d, d.size(), Choice{Slice: n}); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// gptboot reads tables of at most 128 entries of 128 bytes. A larger one is said.
func TestTableThatGPTBootRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		entries, size int
		refused       bool
	}{{128, 128, false}, {4, 128, false}, {129, 128, true}, {256, 128, true}, {64, 256, true}} {
		tab, err := Read(threeParts(1), 128*Sector)
		if err != nil {
			t.Fatal(err)
		}
		tab.gpt.entries, tab.gpt.size = make([]byte, c.entries*c.size), c.size
		for _, l := range []Loader{GPTBoot, GPTBootEFI} {
			tab.Loader = l
			if all := strings.Join(tab.Doubts(), ""); strings.Contains(all,
				"gptboot refuses a table") != c.refused {
				t.Errorf("%d entries of %d bytes, %s: %q", c.entries, c.size, l, all)
			}
		}
		if tab.Loader = LoaderEFI; strings.Contains(strings.Join(tab.Doubts(), ""), "gptboot refuses") {
			t.Error("loader.efi does not read it as gptboot does")
		}
	}
}
