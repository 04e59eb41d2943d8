package disk

import (
	"bytes"
	"errors"
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
	copy(d.data, disktest.MBR(1, disktest.Slice{Index: 1, Start: 63, Count: 800, Type: 0xa5, Active: true}, disktest.Slice{Index: 2, Start: 900, Count: 800, Type: 0xa5},
		disktest.Slice{Index: 3, Start: 1800, Count: 100, Type: 0xa5}))
	return d
}

func gptDrive() *drive {
	d := &drive{data: make([]byte, sectors*Sector)}
	disktest.GPT(d.data, disktest.Slice{Index: 2, Start: 100, Count: 700, Active: true, Label: "system1"}, disktest.Slice{Index: 3, Start: 900, Count: 700, Label: "system2"})
	return d
}

func (d *drive) size() int64 { return int64(len(d.data)) }

func TestMBR(t *testing.T) {
	t.Parallel()
	d := nano()
	tab, err := Read(d, d.size())
	if err != nil {
		t.Fatal(err)
	}
	if tab.Scheme != "MBR" || len(tab.Slices) != 3 || tab.Boot0 != 1 || tab.Next() != 1 || tab.CanTryOnce() ||
		tab.Slices[1] != (Slice{Index: 2, Start: 900 * Sector, Size: 800 * Sector, Type: "freebsd"}) {
		t.Errorf("%+v", tab)
	}
	before := bytes.Clone(d.data)
	if err := Activate(d, d.size(), 2, false); err != nil {
		t.Fatal(err)
	}
	tab, err = Read(d, d.size())
	if err != nil || tab.Next() != 2 || tab.Boot0 != 2 || tab.Slices[0].Active || !tab.Slices[1].Active {
		t.Errorf("%+v, %v", tab, err)
	}
	for i := range before {
		if before[i] != d.data[i] && i != 0x1be && i != 0x1ce && i != 0x1b9 {
			t.Errorf("byte %#x was changed", i)
		}
	}
	if err := Activate(d, d.size(), 4, false); !errors.Is(err, ErrTable) {
		t.Errorf("a slice that is not there: %v", err)
	}
	if err := Activate(d, d.size(), 2, true); err == nil {
		t.Error("an MBR boots once")
	}
}

func TestGPT(t *testing.T) {
	t.Parallel()
	d := gptDrive()
	tab, err := Read(d, d.size())
	if err != nil || tab.Scheme != "GPT" || len(tab.Slices) != 2 || tab.Next() != 2 || tab.Slices[1].Label != "system2" || tab.Slices[1].Type != "freebsd-ufs" || len(tab.Notes) > 0 {
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
	if err := Activate(d, d.size(), 3, true); err != nil {
		t.Fatal(err)
	}
	tab, _ = Read(d, d.size())
	if !tab.Slices[0].Active || !tab.Slices[1].Once {
		t.Errorf("%+v", tab)
	}
	next(3)
	d.data = bytes.Clone(whole)
	if err := Activate(d, d.size(), 3, false); err != nil {
		t.Fatal(err)
	}
	next(3)
	// Of a damaged first copy the other is written alone.
	d.data = bytes.Clone(whole)
	d.data[Sector+60] ^= 1
	if err := Activate(d, d.size(), 3, false); err != nil {
		t.Fatal(err)
	}
	if tab, err := Read(d, d.size()); err != nil || tab.Next() != 3 {
		t.Errorf("%+v, %v", tab, err)
	}
}

// Cut short at any write, torn or not, a table can be read, and says the old or the new.
func TestActivateCutShort(t *testing.T) {
	t.Parallel()
	for name, fresh := range map[string]func() *drive{"MBR": nano, "GPT": gptDrive} {
		for _, torn := range []bool{false, true} {
			if name == "MBR" && torn {
				continue // a sector is written whole
			}
			for n := 1; ; n++ {
				d := fresh()
				old, _ := Read(d, d.size())
				target := old.Slices[1].Index
				d.failAt, d.torn = n, torn
				err := Activate(d, d.size(), target, false)
				tab, rerr := Read(d, d.size())
				if rerr != nil || tab.Next() != old.Next() && tab.Next() != target {
					t.Fatalf("%s, operation %d: %+v, %v", name, n, tab, rerr)
				}
				if err == nil {
					if tab.Next() != target || n < 2 {
						t.Errorf("%s: %+v after %d operations", name, tab, n)
					}
					break
				}
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
		copy(slice.data[Sector:], disktest.Label(base, 800, map[byte]disktest.Part{'a': {Start: 16, Count: 700}}))
		parts, err := ReadLabel(slice, slice.size())
		if err != nil || len(parts) != 2 || parts[0] != (Partition{'a', 16 * Sector, 700 * Sector, 7}) || LabelSize(parts) != 800*Sector {
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
		"sfdisk": {nano(), []string{"-d"}, []string{"start=          63, size=         800, type=a5, bootable", "start=         900, size=         800, type=a5"}},
		"sgdisk": {gptDrive(), []string{"-v", "-p"}, []string{"No problems found", "system1", "A503"}},
	} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("no %s here", tool)
			continue
		}
		if err := Activate(c.d, c.d.size(), map[string]int{"sfdisk": 1, "sgdisk": 3}[tool], false); err != nil {
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
				if err := Activate(d, d.size(), n, false); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
