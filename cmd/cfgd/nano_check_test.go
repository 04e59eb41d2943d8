package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"cfgd/internal/disk"
	"cfgd/internal/disk/disktest"
)

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// cfgFirst is a medium whose first slice is cfg, and whose second one holds the system.
func cfgFirst(t testing.TB, scheme string, content []byte) []byte {
	cfg := systemless(t)
	d := make([]byte, 4096*512+len(cfg)+len(content)+512*512)
	second := uint32(4096 + len(cfg)/512)
	a := disktest.Slice{Index: 1, Start: 4096, Count: uint32(len(cfg) / 512), Type: 0xa5, Label: "cfg"}
	count := uint32(len(content) / 512)
	b := disktest.Slice{Index: 2, Start: second, Count: count, Type: 0xa5, Label: "BSD1", Active: true}
	if scheme == "GPT" {
		disktest.GPT(d, a, b)
	} else {
		copy(d, disktest.MBR(2, a, b))
	}
	copy(d[4096*512:], cfg)
	copy(d[int(second)*512:], content)
	return d
}

// systemless is a filesystem without a system.
func systemless(t testing.TB) []byte {
	s := &server{TB: t, dir: t.TempDir()}
	s.write("tree/host/rc.conf", "x\n")
	return makeFS(t, s.path("tree"), 2<<11)
}

// Faults of an image in a file are found before a byte is written, packed or not, with and without
// activation: the disk is unchanged. Faults of an image from standard input are found at the end; the running
// system still boots then.
func TestImageIsCheckedBeforeItIsWritten(t *testing.T) {
	t.Parallel()
	l := layouts["MBR"]
	s := l.machine(t)
	good := labelled(systemFS(t, l, "2", fsSectors), "2")
	garbled := bytes.Clone(good)
	at := bytes.Index(garbled, []byte("/dev/ada0s1a / ufs"))
	for ; at >= 0; at = bytes.Index(garbled, []byte("/dev/ada0s1a / ufs")) {
		copy(garbled[at:], "/dev/da17s1a / uf")
	}
	none := strings.Repeat("0", 64)
	bad := map[string]struct {
		img    []byte
		words  []string
		want   string
		stream string // the message for standard input, if it is another one
	}{
		"another digest":      {good, []string{"--sha256", none}, "another image, or a damaged one", ""},
		"cut off":             {good[:len(good)-1<<20], nil, "it ends in the middle", ""},
		"cut off in a sector": {good[:len(good)-7], nil, "it ends in the middle", ""},
		"an fstab of a disk":  {garbled, nil, "its / is /dev/da17s1a, and not of /dev/ada0", ""},
		"no system": {labelled(systemless(t), "2"), nil, "neither /conf/base/etc nor an fstab",
			""},
		"larger than the slice": {slices.Concat(good, make([]byte, 4<<20)), nil, "larger than the slice", ""},
		"a medium without one": {cfgFirst(t, "MBR", labelled(systemless(t), "2")), nil,
			"neither /conf/base/etc nor an fstab", ""},
		"a medium that is cut": {cfgFirst(t, "MBR", good)[:9<<20], nil, "it ends in the middle",
			"it has neither"},
	}
	before := s.read("dev/ada0")
	for name, c := range bad {
		for packing, img := range map[string][]byte{"plain": c.img, "gzip": gzipped(t, c.img)} {
			for _, activate := range []string{"--activate", "--no-activate"} {
				s.write("tmp/image", string(img))
				words := append(append([]string{"nano", "install", activate}, c.words...),
					s.path("tmp/image"))
				out := s.cfgdWith(strings.NewReader(""), 2, words...)
				s.says(out, c.want, "nothing was written")
				if s.read("dev/ada0") != before {
					t.Fatalf("%s, %s, %s: the disk was touched:\n%s", name, packing, activate, out)
				}
			}
		}
		words := append(append([]string{"nano", "install"}, c.words...), "-")
		s.says(s.cfgdWith(bytes.NewReader(c.img), 2, words...), cmp.Or(c.stream, c.want))
		if tab, _ := s.table(); tab.Next() != 1 {
			t.Errorf("%s: %d boots next", name, tab.Next())
		}
		s.write("dev/ada0", before)
	}
	cut := gzipped(t, good)
	s.write("tmp/image", string(cut[:len(cut)/2]))
	s.says(s.cfgd(2, "nano install "+s.path("tmp/image")), "gzip: it ends in the middle",
		"nothing was written")
	if s.read("dev/ada0") != before {
		t.Error("the disk was touched")
	}
}

// Images in files go into every layout as they do from standard input. Of a medium with cfg first, the slice
// with the system is taken, and host prepare reads the same.
func TestInstallFromFiles(t *testing.T) {
	t.Parallel()
	for name, l := range layouts {
		if testing.Short() && name != "MBR" && name != "GPT, label" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := l.machine(t)
			fs := systemFS(t, l, "2", fsSectors)
			boots := bytes.Clone(fs)
			boots[510], boots[511] = 0x55, 0xaa
			for form, img := range map[string][]byte{
				"bare": boots, "slice": labelled(fs, "2"), "GPT": layouts["GPT, label"].medium(fs),
				"MBR, cfg first": cfgFirst(t, "MBR", labelled(fs, "2")), "GPT, cfg first": cfgFirst(t, "GPT",
					boots),
			} {
				for packing, b := range map[string][]byte{"plain": img, "gzip": gzipped(t, img)} {
					s.write("tmp/image", string(b))
					sum := sha256.Sum256(b)
					out := s.cfgd(0,
						"nano install --sha256 "+hex.EncodeToString(sum[:])+" "+s.path("tmp/image"))
					s.says(out, packing+" image", "/conf/base/etc/fstab names it for /", "boots next")
					s.cfgd(0, "host prepare --all /tmp/image")
					s.cfgd(0, "nano rollback")
					if t.Failed() {
						t.Fatalf("%s, %s", form, packing)
					}
				}
			}
		})
	}
}

// An image without a kernel or without what its loader starts does not boot next. In a file it is refused
// before a byte is written. From standard input it is found when it is written, and is not activated. With
// --no-activate it is written, with a warning. Neither activate nor rollback take its slice.
func TestImageThatCannotBoot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files []string
		want  string // "" if it boots
	}{
		"nothing":               {nil, "no /boot/loader, no kernel in a directory of /boot"},
		"a loader":              {[]string{"boot/loader"}, "no kernel in a directory of /boot"},
		"a kernel":              {[]string{"boot/kernel/kernel"}, "no /boot/loader"},
		"a kernel of no name":   {[]string{"boot/loader", "boot/kernel/kernel.old"}, "no kernel"},
		"both":                  {[]string{"boot/loader", "boot/kernel/kernel"}, ""},
		"a packed kernel":       {[]string{"boot/loader", "boot/kernel/kernel.gz"}, ""},
		"a kernel of one's own": {[]string{"boot/loader", "boot/kernel/x.ko", "boot/MINE/kernel"}, ""},
		"another loader":        {[]string{"boot.config", "boot/mine", "boot/kernel/kernel"}, ""},
	} {
		s := layouts["MBR"].machine(t)
		tree := t.TempDir()
		w := &server{TB: t, dir: tree}
		for _, f := range append(c.files, "conf/base/etc/x") {
			w.write(f, "x")
		}
		w.write("etc/fstab", "/dev/ada0s1a / ufs ro 1 1\n")
		img := labelled(makeFS(t, tree, fsSectors), "2")
		s.write("tmp/image", string(img))
		s.write("tmp/image.gz", string(gzipped(t, img)))
		before := s.read("dev/ada0")
		if c.want == "" {
			if out := s.cfgd(0, "nano install "+s.path("tmp/image")); strings.Contains(out, "cannot boot: ") {
				t.Errorf("%s: %s", name, out)
			}
			s.saysNot("nano status", "cannot boot: ")
			continue
		}
		for _, file := range []string{"tmp/image", "tmp/image.gz"} {
			s.says(s.cfgd(2, "nano install "+s.path(file)), "cannot boot: ", c.want, "--no-activate",
				"nothing was written")
			if s.read("dev/ada0") != before {
				t.Errorf("%s, %s: the disk was touched", name, file)
			}
		}
		s.says(s.cfgdWith(bytes.NewReader(img), 2, "nano", "install", "-"),
			"written and whole, but not activated: ada0s2 cannot boot: ", c.want)
		s.says(s.cfgd(0, "nano install --no-activate "+s.path("tmp/image")), "cannot boot: ", c.want,
			"ada0s1 boots next")
		s.says(s.cfgd(0, "nano status"), "ada0s2: cannot boot: ", c.want)
		for _, line := range []string{"nano activate 2", "nano rollback", "nano rollback --plan"} {
			s.says(s.cfgd(2, line), "ada0s2 cannot boot: ", c.want)
		}
		if tab, _ := s.table(); tab.Next() != 1 {
			t.Errorf("%s: %d boots next", name, tab.Next())
		}
	}
}

// If what boots next cannot boot, nano status, check and the report say so, with the command that settles it.
func TestNextThatCannotBoot(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"MBR", "GPT"} {
		s := newServer(t, scheme)
		two := "ada0" + s.kind() + "2"
		words := two + " boots next, and cannot boot: "
		img := s.image("2", "ada0")
		spoiled := map[string]func(slice []byte){
			"cleared": func(slice []byte) { clear(slice[:1<<20]) },
			"short": func(slice []byte) { // a filesystem that claims to be larger than its partition
				at := 0
				if scheme == "MBR" {
					at = partStart * 512
				}
				grow(t, slice[at:])
			},
		}
		for name, spoil := range spoiled {
			s.cfgdWith(bytes.NewReader(img), 0, "nano", "install", "-")
			s.cfgd(0, "nano activate 2")
			for _, line := range []string{"nano status", "report --always", "check"} {
				if out := s.cfgdAny(line); strings.Contains(out, "cannot boot: ") {
					t.Errorf("%s: %s", line, out)
				}
			}
			tab, d := s.table()
			x, _ := tab.Slice(2)
			spoil(d[x.Start : x.Start+x.Size])
			s.write("dev/ada0", string(d))
			s.says(s.cfgd(0, "nano status"), two+": boots next, and cannot boot: ")
			s.says(s.cfgd(0, "--json nano status"), `"trouble":"`)
			s.says(s.cfgd(1, "report --always"), words, "cfgd nano rollback")
			s.says(s.cfgd(1, "check"), words, "cfgd nano rollback")
			s.cfgd(0, "nano rollback")
			for _, line := range []string{"report --always", "check"} {
				if out := s.cfgdAny(line); strings.Contains(out, "cannot boot: ") {
					t.Errorf("%s, %s, %s: %s", scheme, name, line, out)
				}
			}
		}
	}
}

// grow makes a filesystem of UFS2 claim twice its size. Its superblock is where a makefs(8) puts it.
func grow(t testing.TB, fs []byte) {
	t.Helper()
	le := binary.LittleEndian
	super := fs[65536:]
	if le.Uint32(fs[8192+1372:]) == 0x19540119 {
		super = fs[8192:]
	}
	if le.Uint32(super[1372:]) != 0x19540119 {
		t.Fatal("no superblock of UFS2")
	}
	le.PutUint32(super[188:], le.Uint32(super[188:])*2) // fs_fpg
	le.PutUint64(super[1080:], le.Uint64(super[1080:])*2)
}

// cfgdAny runs a command line, whatever its exit status, and returns what it printed.
func (s *server) cfgdAny(line string, in ...io.Reader) string {
	var out bytes.Buffer
	words := append([]string{"cfgd", "--root", s.dir}, strings.Fields(line)...)
	runLine(s.Context(), &session{in: io.MultiReader(in...), out: &out, err: &out, args: words})
	return out.String()
}

// smallSlice is a medium whose slice is half as large as the filesystem in it.
func smallSlice(fs []byte) []byte {
	d := make([]byte, 64*512+len(fs))
	copy(d, disktest.MBR(1, disktest.Slice{Index: 1, Start: 64, Count: uint32(len(fs) / 1024), Type: 0xa5,
		Active: true}))
	copy(d[64*512:], fs)
	return d
}

// The size of the filesystem is known from the first bytes of an image, wherever that comes from. If it is
// larger than the slice or than its own partition, nothing is written.
func TestFilesystemLargerThanItsPlace(t *testing.T) {
	t.Parallel()
	for name, l := range layouts {
		s := l.machine(t)
		big := systemFS(t, l, "2", roomSectors+2048)
		grown := systemFS(t, l, "2", fsSectors)
		grow(t, grown)
		big[510], big[511], grown[510], grown[511] = 0x55, 0xaa, 0x55, 0xaa
		good := systemFS(t, l, "2", fsSectors)
		good[510], good[511] = 0x55, 0xaa
		s.cfgdWith(bytes.NewReader(good), 0, "nano", "install", "--no-activate", "-")
		before := s.read("dev/ada0")
		for kind, img := range map[string][]byte{
			"bare": big, "label": labelled(grown, "2"), "medium": l.medium(labelled(grown, "2")),
			"medium, bare": l.medium(grown), "small slice": smallSlice(good),
			"small partition": append(bootBlocks("2", partStart, len(good)/2), good...),
		} {
			s.write("tmp/image", string(img))
			out := s.cfgdAny("nano install -", bytes.NewReader(img))
			out += s.cfgdAny("nano install " + s.path("tmp/image"))
			if s.read("dev/ada0") != before {
				t.Errorf("%s, %s: the disk was touched: %s", name, kind, out)
				s.write("dev/ada0", before)
			}
		}
	}
}

// A slice of an MBR boots by its first sector. An image without a boot sector is refused, even if it has a
// label, and nothing is written. If EFI boots the disk, the sector is not needed.
func TestSliceWithoutBootBlocks(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"MBR", "MBR, label"} {
		l := layouts[name]
		s := l.machine(t)
		img := labelled(systemFS(t, l, "2", fsSectors), "2")
		img[510], img[511] = 0, 0
		before := s.read("dev/ada0")
		s.write("tmp/image", string(img))
		medium := layouts["MBR"].medium(img)
		for _, out := range []string{
			s.cfgdWith(bytes.NewReader(img), 2, "nano", "install", "-"),
			s.cfgdWith(bytes.NewReader(img), 2, "nano", "install", "--no-activate", "-"),
			s.cfgdWith(bytes.NewReader(medium), 2, "nano", "install", "-"),
			s.cfgd(2, "nano install "+s.path("tmp/image")),
		} {
			s.says(out, "does not end with 55aa")
		}
		if s.read("dev/ada0") != before {
			t.Errorf("%s: the disk was touched", name)
		}
	}
	l := layouts["GPT"] // whose partitions have no boot blocks
	s := l.machine(t)
	img := labelled(systemFS(t, l, "2", fsSectors), "2")
	img[510], img[511] = 0, 0
	s.says(s.cfgdWith(bytes.NewReader(img), 0, "nano", "install", "-"), "written")
	if tab, _ := s.table(); tab.Honours() == disk.Active {
		t.Error("no GPT")
	}
}

// A system on trial that installs another one is confirmed, and a message says so.
func TestInstallWhileOnTrialIsSaid(t *testing.T) {
	t.Parallel()
	s := newServer(t, "GPT")
	img := s.image("2", "ada0")
	if out := s.cfgdWith(bytes.NewReader(img), 0, "nano", "install", "-"); strings.Contains(out, "on trial") {
		t.Errorf("nothing is on trial: %s", out)
	}
	s.boot()
	out := s.cfgdWith(bytes.NewReader(img), 0, "nano", "install", "-")
	s.says(out, "ada0p2, which runs, was on trial and stays")
	s.cfgd(0, "nano rollback") // calls the installation off
	s.cfgd(0, "nano rollback")
	s.boot()
	s.cfgdWith(bytes.NewReader(img), 0, "nano", "install", "-")
	s.boot()
	s.says(s.cfgdWith(bytes.NewReader(img), 0, "--json", "nano", "install", "-"), `"kept":true`)
}

// At boot the daemon waits for the disk, which may appear later. The trial has begun nevertheless.
func TestTrialOfADiskThatAppearsLate(t *testing.T) {
	t.Parallel()
	s := newServer(t, "MBR")
	s.write("usr/local/etc/cfgd.toml", "[host]\ntrial = \"1ns\"\n")
	s.cfgd(0, "save host")
	s.cfgdWith(bytes.NewReader(s.image("2", "ada0")), 0, "nano", "install", "-")
	s.boot()
	d := s.read("dev/ada0")
	s.must(os.Remove(s.path("dev/ada0")))
	said := make(chan string, 100) // more than are sent
	ss := &session{out: io.Discard, err: writes(func(p []byte) {
		said <- string(p)
	}), root: s.dir}
	ended := make(chan struct{})
	go func() { defer close(ended); settleTrial(t.Context(), ss) }()
	if line := <-said; !strings.Contains(line, "no such file") {
		t.Errorf("%s", line)
	}
	s.write("dev/new", d)
	s.must(os.Rename(s.path("dev/new"), s.path("dev/ada0")))
	<-ended
	if tab, _ := s.table(); tab.Next() != 1 {
		t.Errorf("%d boots next", tab.Next())
	}
	if got := s.read("cfg/.cfgd/trial"); got != "(absent)" {
		t.Errorf("left: %s", got)
	}
}

type writes func(p []byte)

func (w writes) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// The messages for a place without room, a missing one, and one that is no directory differ.
func TestWhyThereIsNoRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for place, want := range map[string]string{
		dir: "has no room for", filepath.Join(dir, "none"): "no such file", file: "not a directory",
	} {
		_, err := makeIn(place, 1<<60)
		if err == nil || !strings.Contains(err.Error(), want) ||
			place != dir && strings.Contains(err.Error(), "room") {
			t.Errorf("%s: %v", place, err)
		}
	}
	if made, err := makeIn(dir, 1000); err != nil || filepath.Dir(made) != dir {
		t.Errorf("%s, %v", made, err)
	}
}

// A user who may not read the disk gets no message about it.
func TestCheckMayNotReadTheDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	s := newServer(t, "MBR")
	s.must(os.Chmod(s.path("dev/ada0"), 0))
	if out := s.cfgd(0, "check"); strings.Contains(out, "nano") {
		t.Errorf("%s", out)
	}
	s.must(os.Chmod(s.path("dev/ada0"), 0o600))
	s.write("dev/ada0", strings.Repeat(fmt.Sprintf("%512s", ""), 100))
	s.says(s.cfgd(1, "check"), "cfgd nano does not serve this machine")
}
