package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"cfgd/internal/disk"
	"cfgd/internal/disk/disktest"
	"cfgd/internal/esp/esptest"
	"cfgd/internal/ufs"
)

// layout describes the table of a disk, and how fstab names its systems.
type layout struct {
	drive  string // NANO_DRIVE
	source string // of a system, with its number
	scheme string
	label  bool // its slices have BSD labels
	inside bool // the labels are inside the filesystems: partition a begins where the slice does
	fs     string
	firmware
}

// firmware is what a GPT has before its systems.
type firmware struct{ efi, boot string }

const (
	roomSectors = 6 << 11 // of a slice
	fsSectors   = roomSectors - 128
)

var layouts = map[string]layout{
	"MBR": {drive: "ada0", source: "/dev/ada0s%da", scheme: "MBR", label: true},
	"MBR, label": {drive: "ufs/BSD", source: "/dev/ufs/BSDs%da", scheme: "MBR", label: true,
		fs: "BSDs1a"},
	"MBR, label inside": {drive: "ada0", source: "/dev/ada0s%da", scheme: "MBR", label: true, inside: true},
	"MBR, bare":         {drive: "ufs/BSD", source: "/dev/ufs/BSD%d", scheme: "MBR", fs: "BSD1"},
	"GPT":               {drive: "ada0", source: "/dev/ada0p%d", scheme: "GPT"},
	"GPT, label": {drive: "gpt/BSD", source: "/dev/gpt/BSD%d", scheme: "GPT", fs: "BSD",
		firmware: firmware{"gptboot.efi", "gptboot"}},
	"GPT, label of fs": {drive: "ufs/BSD", source: "/dev/ufs/BSD%d", scheme: "GPT", fs: "BSD1"},
}

// systemFS is a filesystem with a system.
func systemFS(t testing.TB, l layout, release string, sectors int) []byte {
	tree := t.TempDir()
	for p, content := range map[string]string{"fstab": "# Device\n" + fmt.Sprintf(l.source, 1) +
		" / ufs ro 1 1\n", "issue": "release " + release + "\n", "nanobsd.conf": "NANO_DRIVE=" + l.drive +
		"\n"} {
		for _, dir := range []string{"etc", "conf/base/etc"} {
			full := filepath.Join(tree, dir, p)
			if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	bootFiles(&server{TB: t, dir: tree})
	b := makeFS(t, tree, sectors)
	if l.fs == "" {
		return b
	}
	f, err := ufs.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	edits, err := f.Relabel(l.fs, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		copy(b[e.At:], e.Bytes)
	}
	return b
}

// bootFiles makes what the loaders need to boot a system.
func bootFiles(s *server) {
	s.Helper()
	for _, name := range []string{"boot/loader", "boot/loader.efi", "boot/defaults/loader.conf",
		"boot/kernel/kernel"} {
		s.write(name, "x\n")
	}
}

// makeFS makes a filesystem of a tree.
func makeFS(t testing.TB, tree string, sectors int) []byte {
	t.Helper()
	if _, err := exec.LookPath("makefs"); err != nil {
		t.Skip("no makefs here")
	}
	file := filepath.Join(t.TempDir(), "fs")
	out, err := exec.Command("makefs", "-t", "ffs", "-o", "version=2", "-s", fmt.Sprint(sectors*512), file,
		tree).CombinedOutput()
	if err != nil {
		t.Fatalf("makefs: %v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// labelled puts boot blocks and a BSD label before a filesystem.
func labelled(fs []byte, release string) []byte {
	return append(bootBlocks(release, partStart, len(fs)), fs...)
}

// labelledInside puts them into what a filesystem leaves free, as gpart(8) does.
func labelledInside(fs []byte, release string) []byte {
	boot := bootBlocks(release, 0, len(fs))
	return append(boot, fs[len(boot):]...)
}

func bootBlocks(release string, start uint32, size int) []byte {
	boot := make([]byte, max(start*512, 8192))
	copy(boot, "boot1 of release "+release)
	boot[510], boot[511] = 0x55, 0xaa
	count := uint32(size / 512)
	copy(boot[512:], disktest.Label(0, start+count,
		map[byte]disktest.Part{'a': {Start: start, Count: count}}))
	return boot
}

// medium is a whole disk with a system in its first slice.
func (l layout) medium(content []byte) []byte {
	first, second := uint32(4096), uint32(4096+roomSectors+64)
	d := make([]byte, (int(second)+roomSectors+4096)*512)
	if l.scheme == "MBR" {
		copy(d, disktest.MBR(1, disktest.Slice{Index: 1, Start: first, Count: roomSectors, Type: 0xa5,
			Active: true}, disktest.Slice{Index: 2, Start: second, Count: roomSectors, Type: 0xa5},
			disktest.Slice{Index: 3, Start: second + roomSectors, Count: 1024, Type: 0xa5}))
	} else {
		parts := []disktest.Slice{{Index: 3, Start: first, Count: roomSectors, Active: true, Label: "BSD1"},
			{Index: 4, Start: second, Count: roomSectors, Label: "BSD2"},
			{Index: 5, Start: second + roomSectors, Count: 1024, Label: "cfg"}}
		if l.drive == "ada0" || strings.HasPrefix(l.drive, "ufs/") {
			parts[0].Index, parts[1].Index, parts[0].Label, parts[1].Label = 1, 2, "", ""
		}
		if l.efi != "" {
			parts = append(parts, disktest.Slice{
				Index: 1, Start: 64, Count: 1600, Kind: "efi", Label: "efiboot",
			})
			copy(d[64*512:], esptest.Make(1600, false,
				map[string][]byte{"EFI/BOOT/BOOTX64.EFI": esptest.Program(l.efi)}))
		}
		if l.boot != "" {
			parts = append(parts, disktest.Slice{Index: 2, Start: 1700, Count: 1000, Kind: "freebsd-boot"})
			copy(d[1700*512+3000:], l.boot)
		}
		disktest.GPT(d, parts...)
	}
	copy(d[int(first)*512:], content)
	return d
}

// machine makes a machine of a layout that runs release 1.
func (l layout) machine(t *testing.T) *server {
	s := &server{TB: t, dir: t.TempDir(), scheme: l.scheme}
	fs := systemFS(t, l, "1", fsSectors)
	switch {
	case l.inside:
		fs = labelledInside(systemFS(t, l, "1", roomSectors), "1")
	case l.label:
		fs = labelled(fs, "1")
	case l.fs != "":
		fs = systemFS(t, l, "1", roomSectors)
	}
	s.write("dev/ada0", string(l.medium(fs)))
	s.write("etc/fstab", fmt.Sprintf(l.source, 1)+" / ufs ro 1 1\n")
	s.write("etc/nanobsd.conf", "NANO_DRIVE="+l.drive+"\n")
	s.write("conf/base/etc/fstab", s.read("etc/fstab"))
	s.write("conf/base/etc/nanobsd.conf", s.read("etc/nanobsd.conf"))
	s.must(os.MkdirAll(s.path("cfg"), 0o755))
	return s
}

// Images of every form are installed into every layout, or refused with a message. The fstabs and the
// filesystem of what is installed have the names of that layout.
func TestNanoLayouts(t *testing.T) {
	t.Parallel()
	for name, l := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := l.machine(t)
			one, two := fmt.Sprintf(l.source, 1), fmt.Sprintf(l.source, 2)
			s.says(s.cfgd(0, "nano status"), "running, boots next")
			if out := s.cfgd(0, "check"); strings.Contains(out, "nano") {
				t.Errorf("check: %s", out)
			}
			fs := systemFS(t, l, "2", fsSectors)
			boots := bytes.Clone(fs)
			boots[510], boots[511] = 0x55, 0xaa
			forms := map[string][]byte{
				"bare": fs, "bare with boot blocks": boots, "slice": labelled(fs, "2"),
				"slice, label inside": labelledInside(fs, "2"),
				"medium of MBR": layouts["MBR"].medium(labelled(fs,
					"2")), "medium of GPT": layouts["GPT, label"].medium(fs),
			}
			for _, form := range slices.Sorted(maps.Keys(forms)) {
				before := s.read("dev/ada0")
				s.says(s.cfgdWith(bytes.NewReader(forms[form]), 0, "nano", "install", "-"), "written",
					"/etc/fstab names it for /")
				tab, d := s.table()
				x := tab.Slices[slices.IndexFunc(tab.Slices,
					func(p disk.Slice) bool { return p.Start == (4096+roomSectors+64)*512 })]
				content := d[x.Start : x.Start+x.Size]
				base, hasLabel := int64(0), false
				if parts, err := disk.ReadLabel(bytes.NewReader(content), x.Size); err == nil {
					base, hasLabel = parts[0].Start, true
					if !bytes.HasPrefix(content, []byte("boot1 of release ")) {
						t.Errorf("%s: %q", form, content[:20])
					}
				}
				if kept := l.scheme == "MBR" && !strings.HasPrefix(form, "bare") &&
					form != "medium of GPT"; hasLabel != (l.label || kept) {
					t.Errorf("%s: its filesystem begins at %d, label: %v", form, base, hasLabel)
				}
				f, err := ufs.Open(bytes.NewReader(content[base:]), x.Size-base)
				if err != nil {
					t.Errorf("%s: %v", form, err)
					continue
				}
				want := two
				if l.drive == "ada0" && l.scheme == "MBR" && !hasLabel {
					want = strings.TrimSuffix(two, "a")
				}
				for _, p := range []string{"etc/fstab", "conf/base/etc/fstab"} {
					e, err := f.Stat(p)
					s.must(err)
					in, err := f.Open(e)
					s.must(err)
					text, err := io.ReadAll(in)
					s.must(err)
					if string(text) != "# Device\n"+want+" / ufs ro 1 1\n" {
						t.Errorf("%s: %s: %q", form, p, text)
					}
				}
				if label, ok := strings.CutPrefix(two, "/dev/ufs/"); ok && f.Label != label ||
					!ok && f.Label != l.fs {
					t.Errorf("%s: label %q", form, f.Label)
				}
				// The running system is as it was, and the other one is the next.
				first := tab.Slices[slices.IndexFunc(tab.Slices,
					func(p disk.Slice) bool { return p.Start == 4096*512 })]
				if !bytes.Equal(d[first.Start:first.Start+first.Size],
					[]byte(before[first.Start:first.Start+first.Size])) {
					t.Errorf("%s: the running system was touched", form)
				}
				s.says(s.cfgd(0, "nano status"), "boots next")
				s.cfgd(0, "nano activate "+strings.TrimPrefix(one, "/dev/"))
			}
		})
	}
}

// A filesystem without boot blocks is refused for a slice of an MBR that boots by boot blocks without a
// label. A slice is not activated if the loader ignores the table.
func TestNanoLayoutsThatDoNotFit(t *testing.T) {
	t.Parallel()
	l := layouts["MBR, bare"]
	s := l.machine(t)
	d := []byte(s.read("dev/ada0"))
	copy(d[4096*512+510:], "\x55\xaa")
	s.write("dev/ada0", string(d))
	fs := systemFS(t, l, "2", fsSectors)
	s.says(s.cfgdWith(bytes.NewReader(fs), 2, "nano", "install", "-"),
		"a bare filesystem without boot blocks")
	if s.read("dev/ada0") != string(d) {
		t.Error("the disk was touched")
	}
	copy(fs[510:], "\x55\xaa")
	s.says(s.cfgdWith(bytes.NewReader(fs), 0, "nano", "install", "-"), "written")

	for name, c := range map[string]struct {
		layout string
		image  layout
		want   string
	}{
		"an image of a label": {"MBR", layouts["GPT, label"],
			"its / is /dev/gpt/BSD1, and not of /dev/ada0"},
		"an image of a disk": {"GPT, label", layouts["GPT"],
			"its / is /dev/ada0p1, and not of /dev/gpt/BSD"},
		"a label of another kind": {"MBR, label", layouts["GPT, label"],
			"its / is /dev/gpt/BSD1, and not of /dev/ufs/BSD"},
		"a longer name of a label": {"MBR, label", layouts["MBR, bare"],
			"no room for /dev/ufs/BSDs2a in the place of /dev/ufs/BSD1"},
		"no room for boot blocks": {"MBR", layout{drive: "ada0", source: "/dev/ada0s%da"},
			"larger than the slice"},
	} {
		s := layouts[c.layout].machine(t)
		sectors := fsSectors
		if name == "no room for boot blocks" {
			sectors = roomSectors
		}
		s.says(s.cfgdWith(bytes.NewReader(systemFS(t, c.image, "2", sectors)), 2, "nano", "install", "-"),
			c.want)
		tab, _ := s.table()
		if first := tab.Next(); first != 1 && first != 3 {
			t.Errorf("%s: slice %d boots next", name, first)
		}
	}
}

// Which attributes a loader honours: gptboot and gptboot.efi honour bootonce, loader.efi none. If the loader
// is not known, none is used.
func TestNanoLoaders(t *testing.T) {
	t.Parallel()
	const loaderEFI, gptbootEFI = " EFI loader, Revision 1.1", "gptboot.efi"
	for _, c := range []struct {
		firmware
		status, install string
		once            bool
	}{
		{firmware{"", "gptboot"}, "booted by gptboot, which can boot a system once", "boots next, once",
			true},
		{firmware{gptbootEFI, ""}, "booted by gptboot.efi, which can boot a system once", "boots next, once",
			true},
		{firmware{gptbootEFI, "gptboot"}, "booted by gptboot, which can boot a system once",
			"boots next, once", true},
		{firmware{"", "gptzfsboot"}, "booted by a loader that is not known, which cannot",
			"nothing goes back by itself", false},
		{firmware{loaderEFI, "gptboot"}, "booted by a loader that is not known, which cannot",
			"nothing goes back by itself", false},
		{firmware{"GRUB", ""}, "booted by a loader that is not known, which cannot",
			"nothing goes back by itself", false},
		{firmware{loaderEFI, ""}, "booted by loader.efi, which cannot boot a system once: a trial is " +
			"cfgd's own", "", false},
	} {
		l := layouts["GPT, label"]
		l.firmware = c.firmware
		s := l.machine(t)
		s.says(s.cfgd(0, "nano status"), c.status)
		fs := systemFS(t, l, "2", fsSectors)
		if c.install == "" {
			s.says(s.cfgdWith(bytes.NewReader(fs), 2, "nano", "install", "-"), "could not be activated",
				"it ignores the marks")
			continue
		}
		s.says(s.cfgdWith(bytes.NewReader(fs), 0, "nano", "install", "-"), c.install)
		tab, _ := s.table()
		if tab.Slices[3].Once != c.once && tab.Slices[2].Once != c.once && tab.Slices[1].Once != c.once {
			t.Errorf("%+v: %+v", c, tab.Slices)
		}
	}
}

// The disk is the one that has the label. If none or two have it, a message says so.
func TestNanoFindsTheDisk(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"GPT, label", "MBR, label"} {
		s := layouts[name].machine(t)
		disk := s.read("dev/ada0")
		s.must(os.Remove(s.path("dev/ada0")))
		s.write("dev/null.txt", "no disk")
		for _, line := range []string{"nano status", "nano confirm", "nano rollback"} {
			s.says(s.cfgd(2, line), "/etc/fstab:1: the disk cannot be found: none below")
		}
		s.says(s.cfgd(1, "check"), "/etc/fstab:1: warning: cfgd nano does not serve this machine: the "+
			"disk cannot be found")
		s.write("dev/da7", disk)
		s.says(s.cfgd(0, "nano status"), "da7")
		s.write("dev/nda0", disk)
		s.says(s.cfgd(2, "nano status"), "da7", " and nda0", "all have the label")
	}
}

// The machine's settings for its loader are copied, or the new system is not activated.
func TestNanoCarries(t *testing.T) {
	t.Parallel()
	l := layouts["MBR"]
	s := l.machine(t)
	img := labelled(systemFS(t, l, "2", fsSectors), "2")
	s.write("boot.config", "-S115200 -D\n")
	out := s.cfgdWith(bytes.NewReader(img), 2, "nano", "install", "-")
	s.says(out, "ada0s2 is written and whole, but not activated: /boot.config of the running system",
		"--no-carry")
	if tab, _ := s.table(); tab.Next() != 1 {
		t.Error("it was activated")
	}
	s.says(s.cfgdWith(bytes.NewReader(img), 0, "nano", "install", "--no-carry", "-"), "ada0s2 boots next")
}

// host prepare reads every form of image, packed or not, and leaves nothing behind.
func TestPrepareForms(t *testing.T) {
	t.Parallel()
	l := layouts["MBR"]
	s := l.machine(t)
	s.write("conf/base/etc/issue", "release 1\n")
	s.write("etc/issue", "release 1\n")
	s.write("etc/local.conf", "mine\n")
	s.cfgd(0, "save host")
	fs := systemFS(t, l, "2", fsSectors)
	first := ""
	other, err := exec.LookPath("xz")
	if err != nil {
		t.Log("no xz here")
	}
	for form, img := range map[string][]byte{"bare": fs, "slice": labelled(fs, "2"),
		"MBR": layouts["MBR"].medium(labelled(fs, "2")), "GPT": layouts["GPT, label"].medium(fs)} {
		for packing, pack := range map[string]func(io.Writer) (io.WriteCloser, error){
			"plain": func(w io.Writer) (io.WriteCloser, error) { return unclosed{w}, nil },
			"gz":    func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
			"zst":   func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
			"xz":    func(w io.Writer) (io.WriteCloser, error) { return unclosed{w}, nil },
		} {
			var b bytes.Buffer
			w, err := pack(&b)
			s.must(err)
			_, err = w.Write(img)
			s.must(errors.Join(err, w.Close()))
			if s.write("tmp/image", b.String()); packing == "xz" && other != "" {
				if out, err := exec.Command(other, "-9", "-T2", "--block-size=1MiB", "-f",
					s.path("tmp/image")).CombinedOutput(); err != nil {
					t.Fatalf("xz: %v: %s", err, out)
				}
				s.must(os.Rename(s.path("tmp/image.xz"), s.path("tmp/image")))
			}
			out := s.cfgd(0, "host prepare --all /tmp/image")
			s.says(out, "kept  local.conf")
			if first = cmp.Or(first, out); out != first { // the digest of the new base is in it
				t.Errorf("%s, %s: %s, not %s", form, packing, out, first)
			}
			if left, _ := filepath.Glob(s.path("tmp/cfgd-image-*")); len(left) > 0 {
				t.Errorf("%s, %s: left %q", form, packing, left)
			}
		}
	}
	s.must(exec.Command("mkfifo", s.path("tmp/pipe")).Run())
	go func() { _ = os.WriteFile(s.path("tmp/pipe"), labelled(fs, "2"), 0) }()
	s.says(s.cfgd(2, "host prepare /tmp/pipe"), "is no file that can be read more than once")
}

type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

// If there is no room for an image's defaults, a message says how much is needed, before anything is written.
func TestPrepareHasNoRoom(t *testing.T) {
	t.Parallel()
	s := layouts["GPT"].machine(t)
	m, err := (&session{root: s.dir}).machine()
	s.must(err)
	_, err = newScratch(t.Context(), m, 1<<60)
	if err == nil {
		t.Fatal("there is room for an exbibyte")
	}
	s.says(err.Error(), "no room for the image's defaults: they take 1.1E", "TMPDIR names another directory")
	if left, _ := filepath.Glob(s.path("tmp/*")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
	x, err := newScratch(t.Context(), m, 1000)
	s.must(err)
	if !strings.HasPrefix(x.dir, s.path("tmp")) || x.note != "" {
		t.Errorf("%s, %s", x.dir, x.note)
	}
	s.must(x.remove())
}
