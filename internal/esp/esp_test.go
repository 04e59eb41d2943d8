package esp

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cfgd/internal/disk"
	"cfgd/internal/esp/esptest"
)

// Texts as they stand in FreeBSD's loaders. Each loader has more than its own: gptboot.efi has boot1.efi's as
// well.
const (
	loaderText  = "FreeBSD/amd64 EFI loader, Revision 1.1\n\x00zfs bootonce: %s\n"
	boot1Text   = "\n>> FreeBSD EFI boot block\n\x00   Loader path: %s:%s\n"
	gptbootText = boot1Text + "\x00gptboot.efi: unable to load GPT\n"
)

func TestLoader(t *testing.T) {
	t.Parallel()
	program := esptest.Program
	for name, c := range map[string]struct {
		files map[string][]byte
		want  disk.Loader
	}{
		"loader.efi": {
			map[string][]byte{"EFI/BOOT/BOOTX64.EFI": program(loaderText)}, disk.LoaderEFI,
		},
		"gptboot.efi": {
			map[string][]byte{"EFI/BOOT/bootx64.efi": program(gptbootText)}, disk.GPTBootEFI,
		},
		"boot1.efi": {
			map[string][]byte{"efi/boot/bootaa64.efi": program(boot1Text)}, disk.Boot1EFI,
		},
		"both places": {
			map[string][]byte{
				"EFI/BOOT/BOOTX64.EFI":   program(loaderText),
				"EFI/FREEBSD/LOADER.EFI": program(loaderText),
			}, disk.LoaderEFI,
		},
		"two that are not one": {
			map[string][]byte{
				"EFI/BOOT/BOOTX64.EFI":   program(gptbootText),
				"EFI/FREEBSD/LOADER.EFI": program(loaderText),
			}, disk.Unknown,
		},
		"one of another system": {
			map[string][]byte{"EFI/BOOT/BOOTX64.EFI": program("GRUB")}, disk.Unknown,
		},
		"beside another system's": {
			map[string][]byte{
				"EFI/BOOT/BOOTX64.EFI":   program("GRUB"),
				"EFI/FREEBSD/LOADER.EFI": program(gptbootText),
			}, disk.Unknown,
		},
		"a text and no program": {
			map[string][]byte{"EFI/BOOT/BOOTX64.EFI": []byte(gptbootText)}, disk.Unknown,
		},
		"a text that is no loader": {
			map[string][]byte{
				"EFI/BOOT/BOOTX64.EFI": program(gptbootText),
				"EFI/BOOT/README.TXT":  program(loaderText),
			}, disk.GPTBootEFI,
		},
		"nothing": {nil, disk.Unknown},
	} {
		for kind, b := range map[string][]byte{
			"FAT12": esptest.Make(1600, false, c.files),
			"FAT16": esptest.Make(20480, false, c.files),
			"FAT32": esptest.Make(70000, true, c.files),
		} {
			f, err := Open(bytes.NewReader(b), int64(len(b)))
			if err != nil || "FAT"+fmt.Sprint(f.bits) != kind {
				t.Fatalf("%s on %s: %+v, %v", name, kind, f, err)
			}
			if got, err := Loader(bytes.NewReader(b), int64(len(b))); got != c.want || err != nil {
				t.Errorf("%s on %s: %q, %v", name, kind, got, err)
			}
		}
	}
}

// What other tools write is read: names, content, a file of many clusters.
func TestOthersWriteThem(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"mkfs.vfat", "mcopy", "mmd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s here", tool)
		}
	}
	big := append(esptest.Program(gptbootText), bytes.Repeat([]byte("0123456789abcdef"), 40000)...)
	for _, c := range []struct {
		bits string
		size int64
		args []string
	}{
		{"12", 800 << 10, nil}, {"12", 2 << 20, []string{"-s", "4"}}, {"16", 10 << 20, []string{"-s", "1"}},
		{"16", 64 << 20, nil}, {"32", 33 << 20, []string{"-s", "1"}}, {"32", 260 << 20, nil},
	} {
		dir := t.TempDir()
		img, file := filepath.Join(dir, "esp"), filepath.Join(dir, "bootx64.efi")
		run := func(name string, args ...string) {
			if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
				t.Fatalf("%s %q: %v: %s", name, args, err, out)
			}
		}
		if err := errors.Join(os.WriteFile(img, nil, 0o600), os.Truncate(img, c.size),
			os.WriteFile(file, big, 0o600)); err != nil {
			t.Fatal(err)
		}
		run("mkfs.vfat", append(append([]string{"-F", c.bits, "-n", "EFISYS"}, c.args...), img)...)
		run("mmd", "-i", img, "::/EFI", "::/EFI/Boot", "::/EFI/a longer name than 8.3")
		run("mcopy", "-i", img, file, "::/EFI/Boot/bootx64.efi")
		r, err := os.Open(img)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Open(r, c.size)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		all, err := f.List("/EFI/BOOT/")
		e, ok := named(all, "bootx64.efi")
		got, rerr := f.Read(e)
		if fmt.Sprint(f.bits) != c.bits || err != nil || !ok || rerr != nil || !bytes.Equal(got, big) {
			t.Errorf("%+v: FAT%d, %+v, %v, %v, %d bytes", c, f.bits, all, err, rerr, len(got))
		}
		if got, err := Loader(r, c.size); got != disk.GPTBootEFI || err != nil {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
		r.Close()
	}
}

func TestDamaged(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{"EFI/BOOT/BOOTX64.EFI": bytes.Repeat(esptest.Program(gptbootText), 4)}
	for name, spoil := range map[string]func(b []byte) []byte{
		"no signature":            func(b []byte) []byte { b[510] = 0; return b },
		"sectors of 513 bytes":    func(b []byte) []byte { b[11] = 1; return b },
		"clusters of 3 sectors":   func(b []byte) []byte { b[13] = 3; return b },
		"no table":                func(b []byte) []byte { b[16] = 0; return b },
		"more sectors than bytes": func(b []byte) []byte { return b[:len(b)-512] },
		"a table too short":       func(b []byte) []byte { b[22] = 1; return b },
		"less than a sector":      func(b []byte) []byte { return b[:100] },
	} {
		b := spoil(esptest.Make(1600, false, files))
		if got, err := Loader(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	// A chain that leads back into itself ends; one that leads nowhere is refused.
	f := &FS{}
	for next, want := range map[byte]bool{4: true, 1: false, 0xef: false} {
		b := esptest.Make(20480, false, files)
		f, _ = Open(bytes.NewReader(b), int64(len(b)))
		all, err := f.List("EFI/BOOT")
		if err != nil {
			t.Fatal(err)
		}
		b[f.table+2*int64(all[0].first)] = next
		b[f.table+2*int64(all[0].first)+1] = map[byte]byte{0xef: 0xff}[next]
		if got, err := f.Read(all[0]); (err == nil) != want || want && int64(len(got)) != all[0].Size {
			t.Errorf("%d: %d bytes, %v", next, len(got), err)
		}
	}
	if _, err := f.Read(Entry{Name: "X", Size: 1 << 31}); err == nil ||
		!strings.Contains(err.Error(), "no file of a loader") {
		t.Errorf("a large one: %v", err)
	}
}

// Whatever a partition holds, it is read within its bounds, or refused.
func FuzzLoader(f *testing.F) {
	files := map[string][]byte{
		"EFI/BOOT/BOOTX64.EFI":   esptest.Program(gptbootText),
		"EFI/FREEBSD/LOADER.EFI": esptest.Program(loaderText),
	}
	f.Add(esptest.Make(100, false, files), uint16(100))
	f.Add(esptest.Make(20480, false, files)[:64<<10], uint16(20480))
	f.Add(esptest.Make(70000, true, files)[:64<<10], uint16(60000))
	f.Fuzz(func(t *testing.T, head []byte, sectors uint16) {
		size := int64(sectors) * 512
		r := &counting{r: &padded{head, size}}
		if _, err := Loader(r, size); err != nil && errors.Is(err, errOutside) {
			t.Error(err)
		}
		if r.n > 2*maxFile*maxPrograms {
			t.Errorf("%d bytes read", r.n)
		}
	})
}

var errOutside = errors.New("outside")

type padded struct {
	head []byte
	size int64
}

func (p *padded) ReadAt(b []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(b)) > p.size {
		return 0, errOutside
	}
	clear(b)
	if at < int64(len(p.head)) {
		copy(b, p.head[at:])
	}
	return len(b), nil
}

type counting struct {
	r interface {
		ReadAt([]byte, int64) (int, error)
	}
	n int64
}

func (c *counting) ReadAt(b []byte, at int64) (int, error) {
	c.n += int64(len(b))
	return c.r.ReadAt(b, at)
}

// loader.env is split into words as the loader splits it.
func TestRootDevice(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                    "",
		"rootdev=disk0p3:":                    "rootdev=disk0p3:",
		"a=b\nrootdev=disk0p3:\nc=d\n":        "rootdev=disk0p3:",
		"-v\trootdev=x rootdev=y":             "rootdev=y",
		"rootdev":                             "rootdev=1",
		"rootdev=":                            "rootdev=",
		"uefi_rootdev=P rootdev=q":            "rootdev=q",
		"uefi_rootdev=P":                      "uefi_rootdev=P",
		"rootdev=a\r\n":                       "rootdev=a\r",
		"boot_serial=YES\x00rootdev=disk0p3:": "",
		"# rootdev=commented":                 "rootdev=commented", // the loader knows no comments
		"xrootdev=a":                          "",
	} {
		files := map[string][]byte{
			"EFI/BOOT/BOOTX64.EFI":   esptest.Program("x"),
			"EFI/FREEBSD/LOADER.ENV": []byte(text),
		}
		for _, wide := range []bool{false, true} {
			got, err := RootDevice(bytes.NewReader(esptest.Make(2000, wide, files)), 2000*512)
			if err != nil || got != want {
				t.Errorf("%q: %q, %v", text, got, err)
			}
		}
	}
	for _, files := range []map[string][]byte{
		{}, {"EFI/BOOT/BOOTX64.EFI": nil}, {"EFI/FREEBSD/LOADER.EFI": nil},
	} {
		if got, err := RootDevice(bytes.NewReader(esptest.Make(2000, false, files)), 2000*512); err != nil ||
			got != "" {
			t.Errorf("%v: %q, %v", files, got, err)
		}
	}
}
