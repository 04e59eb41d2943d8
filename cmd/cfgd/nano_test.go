package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cfgd/internal/disk"
	"cfgd/internal/disk/disktest"
	"cfgd/nano"
)

// server is a NanoBSD server in a directory: a disk with two slices, /cfg, and an /etc that a boot makes.
type server struct {
	testing.TB
	dir    string
	scheme string
}

const (
	sliceSectors = 12 << 11 // 12 MiB
	// of partition a, in sectors; FreeBSD's makefs(8) rounds a filesystem up to blocks of 32 KiB
	partStart = 64
)

func (s *server) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *server) path(p string) string { return filepath.Join(s.dir, p) }

func (s *server) write(p, content string) {
	s.Helper()
	s.must(os.MkdirAll(filepath.Dir(s.path(p)), 0o755))
	s.must(os.WriteFile(s.path(p), []byte(content), 0o644))
}

func (s *server) read(p string) string {
	s.Helper()
	b, err := os.ReadFile(s.path(p))
	if errors.Is(err, os.ErrNotExist) {
		return "(absent)"
	}
	s.must(err)
	return string(b)
}

// kind is the letter in the name of a slice: ada0s1 or ada0p1.
func (s *server) kind() string {
	if s.scheme == "GPT" {
		return "p"
	}
	return "s"
}

// image makes an image of a slice with a system of a release. It names the first slice for /, as NanoBSD's
// do.
func (s *server) image(release, drive string) []byte {
	s.Helper()
	if _, err := exec.LookPath("makefs"); err != nil {
		s.Skip("no makefs here")
	}
	tree := s.TB.TempDir()
	part := "a"
	if s.scheme == "GPT" {
		part = ""
	}
	for p, content := range map[string]string{
		"fstab": fmt.Sprintf("# Device\n/dev/%s%s1%s / ufs ro 1 1\n/dev/%[1]s%[2]s3 /cfg ufs rw,noauto 2 2\n",
			drive, s.kind(), part),
		"rc.conf": "hostname=\"image\"\n#\nrelease=\"" + release + "\"\n#\nsshd_enable=\"NO\"\n",
		"hosts":   "127.0.0.1 localhost\n", "issue": "release " + release + "\n",
		"nanobsd.conf": "NANO_DRIVE=" + drive + "\n",
	} {
		for _, dir := range []string{"etc", "conf/base/etc"} {
			full := filepath.Join(tree, dir, p)
			s.must(os.MkdirAll(filepath.Dir(full), 0o755))
			s.must(os.WriteFile(full, []byte(content), 0o644))
		}
	}
	bootFiles(&server{TB: s.TB, dir: tree})
	file := filepath.Join(s.TB.TempDir(), "fs")
	size := sliceSectors - partStart
	if s.scheme == "GPT" {
		size = sliceSectors
	}
	if out, err := exec.Command("makefs", "-t", "ffs", "-o", "version=2", "-s", fmt.Sprint(size*512), file,
		tree).CombinedOutput(); err != nil {
		s.Fatalf("makefs: %v: %s", err, out)
	}
	fs, err := os.ReadFile(file)
	s.must(err)
	if s.scheme == "GPT" {
		return fs
	}
	boot := make([]byte, partStart*512)
	copy(boot, "boot1 of release "+release)
	boot[510], boot[511] = 0x55, 0xaa
	copy(boot[512:], disktest.Label(0, sliceSectors,
		map[byte]disktest.Part{'a': {Start: partStart, Count: uint32(size)}}))
	return append(boot, fs...)
}

// newServer has release 1 in its first slice, and runs from it.
func newServer(t *testing.T, scheme string) *server {
	s := &server{TB: t, dir: t.TempDir(), scheme: scheme}
	d := make([]byte, (2*sliceSectors+4096)*512)
	first, second := uint32(63), uint32(100+sliceSectors)
	if scheme == "GPT" {
		disktest.GPT(d, disktest.Slice{Index: 1, Start: first, Count: sliceSectors, Active: true},
			disktest.Slice{Index: 2, Start: second, Count: sliceSectors})
	} else {
		copy(d, disktest.MBR(1, disktest.Slice{Index: 1, Start: first, Count: sliceSectors, Type: 0xa5,
			Active: true}, disktest.Slice{Index: 2, Start: second, Count: sliceSectors, Type: 0xa5}))
	}
	copy(d[first*512:], s.image("1", "ada0"))
	s.write("dev/ada0", string(d))
	s.must(os.Mkdir(s.path("cfg"), 0o755))
	s.boot()
	return s
}

// table reads the disk's table, which says what boots next.
func (s *server) table() (*disk.Table, []byte) {
	s.Helper()
	d := []byte(s.read("dev/ada0"))
	t, err := disk.Read(bytes.NewReader(d), int64(len(d)))
	s.must(err)
	return t, d
}

// boot starts the machine. The loader takes the slice that the table names, rc.initdiskless copies its
// /conf/base/etc and then all of /cfg to an /etc in memory, and cfgd_early does the rest.
func (s *server) boot() string {
	s.Helper()
	return s.bootThat(func(int) bool { return true })
}

// bootThat starts the machine with a loader that can load only those slices.
func (s *server) bootThat(loads func(int) bool) string {
	s.Helper()
	_, d := s.table()
	next := map[string]func() int{"MBR": func() int { return disktest.Boot0(d, loads) },
		"GPT": func() int { return disktest.GPTBoot(d, loads) }}[s.scheme]()
	s.write("dev/ada0", string(d))
	t, _ := s.table()
	x, ok := t.Slice(next)
	if !ok {
		s.Fatalf("nothing boots: %+v", t)
	}
	for _, p := range []string{"conf/base", "etc", "var/run"} {
		s.must(os.RemoveAll(s.path(p)))
	}
	s.must(os.MkdirAll(s.path("conf/base"), 0o755))
	_, err := nano.ExtractBase(s.Context(), bytes.NewReader(d[x.Start:x.Start+x.Size]), x.Size,
		s.path("conf/base"))
	s.must(err)
	s.must(os.Mkdir(s.path("etc"), 0o755))
	for _, from := range []string{"conf/base/etc", "cfg"} {
		if out, err := exec.Command("cp", "-Rp", s.path(from)+"/.",
			s.path("etc")).CombinedOutput(); err != nil {
			s.Fatalf("cp: %v: %s", err, out)
		}
	}
	out := s.cfgd(0, "host early")
	if s.scheme == "GPT" { // rc.d/gptboot comes later in the start
		_, d := s.table()
		disktest.RCGPTBoot(d)
		s.write("dev/ada0", string(d))
	}
	return out
}

// cfgdWith runs a command line with standard input, and returns what it printed.
func (s *server) cfgdWith(in io.Reader, status int, words ...string) string {
	s.Helper()
	var out bytes.Buffer
	ss := &session{in: in, out: &out, err: &out, args: append([]string{"cfgd", "--root", s.dir}, words...)}
	if got := runLine(context.Background(), ss); got != status {
		s.Fatalf("cfgd %s ended with %d, want %d:\n%s", strings.Join(words, " "), got, status, out.String())
	}
	return out.String()
}

func (s *server) cfgd(status int, line string) string {
	s.Helper()
	return s.cfgdWith(strings.NewReader(""), status, strings.Fields(line)...)
}

func (s *server) says(out string, words ...string) {
	s.Helper()
	for _, w := range words {
		if !strings.Contains(out, w) {
			s.Errorf("%q is not in\n%s", w, out)
		}
	}
}

// Sections 2.5 and 1.1 of the paper: the host is upgraded and goes back, with edits made before, between and
// after.
func TestNanoUpgradeAndRollback(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"MBR", "GPT"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, scheme)
			one, two := "ada0"+s.kind()+"1", "ada0"+s.kind()+"2"
			s.says(s.cfgd(0, "nano status"), one, "running, boots next", two)

			// Before: an edit and a removal.
			s.write("etc/rc.conf", strings.Replace(s.read("etc/rc.conf"), `sshd_enable="NO"`,
				`sshd_enable="YES"`, 1))
			s.must(os.Remove(s.path("etc/hosts")))
			s.cfgd(0, "save host")

			// What the new image will come to, and the image into the other slice, from standard input.
			img := s.image("2", "ada0")
			s.write("tmp/_.disk.image", string(img))
			s.says(s.cfgd(0, "host prepare /tmp/_.disk.image"), "merged  rc.conf")
			before := s.read("dev/ada0")
			out := s.cfgdWith(bytes.NewReader(img), 0, "nano", "install", "-")
			s.says(out, two+" plain image written, 12M", two+" /etc/fstab names it for /",
				two+" /conf/base/etc/fstab names it for /", two+" boots next")
			tab, d := s.table()
			first, _ := tab.Slice(1)
			if !bytes.Equal(d[first.Start:first.Start+first.Size],
				[]byte(before[first.Start:first.Start+first.Size])) {
				t.Error("the running slice was written to")
			}
			s.says(s.cfgd(0, "nano status"), "running", "boots next")
			if s.read("etc/issue") != "release 1\n" {
				t.Error("the running system changed")
			}

			// The start on it merges: both the edit and what is new are there.
			s.says(s.boot(), "1 merged")
			want := func(words ...string) {
				t.Helper()
				s.says(s.read("etc/rc.conf"), words...)
				if s.read("etc/hosts") != "(absent)" {
					t.Error("the removal is forgotten")
				}
				if got := s.cfgd(0, "diff --unsaved host"); got != "" {
					t.Errorf("unsaved: %s", got)
				}
			}
			want(`release="2"`, `sshd_enable="YES"`)
			s.says(s.read("etc/fstab"), "/dev/"+two)
			s.says(s.cfgd(0, "nano status"), two)
			if scheme == "GPT" {
				s.says(s.cfgd(0, "nano confirm"), two+" boots next")
				s.boot()
				want(`release="2"`)
			}

			// Between: another edit. Then back to the old image: it finds its own form again, with what was
			// edited since.
			s.write("etc/rc.conf", s.read("etc/rc.conf")+"#\nbetween=\"1\"\n")
			s.cfgd(0, "save host")
			s.says(s.cfgd(0, "nano rollback"), one+" boots next")
			s.boot()
			want(`release="1"`, `sshd_enable="YES"`, `between="1"`)

			// After: and forth once more.
			s.write("etc/rc.conf", s.read("etc/rc.conf")+"#\nafter=\"1\"\n")
			s.cfgd(0, "save host")
			s.cfgd(0, "nano activate "+two)
			s.boot()
			want(`release="2"`, `sshd_enable="YES"`, `between="1"`, `after="1"`)
		})
	}
}

// A loader that can boot a slice once goes back by itself.
func TestNanoTriesOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t, "GPT")
	s.says(s.cfgdWith(bytes.NewReader(s.image("2", "ada0")), 0, "nano", "install", "-"),
		"ada0p2 boots next, once: cfgd nano confirm keeps it when it runs")
	s.boot()
	s.says(s.read("etc/issue"), "release 2")
	s.says(s.cfgd(0, "nano status"), "running, on trial")
	s.says(s.cfgd(0, "--json nano status"), `"trial":true`)
	s.says(s.cfgd(1, "report --always"), "the system on ada0p2 is on trial")
	s.boot() // nobody confirmed it
	s.says(s.read("etc/issue"), "release 1")
	s.saysNot("nano status", "on trial", "failed")
	s.cfgdWith(bytes.NewReader(s.image("2", "ada0")), 0, "nano", "install", "-")
	s.says(s.cfgd(0, "nano rollback"), "ada0p2, which was to boot next, is called off")
	s.cfgd(0, "nano activate 2")
	s.boot()
	s.saysNot("nano confirm", "called off")
	s.saysNot("nano rollback", "called off") // what runs was tried
}

// A system that the loader can't start is reported until somebody decides what boots, although rc.d/gptboot
// clears the loader's attribute in the same start.
func TestNanoTellsOfFailedBoot(t *testing.T) {
	t.Parallel()
	s := newServer(t, "GPT")
	for _, decide := range []string{"nano confirm", "nano activate 1", ""} {
		s.cfgdWith(bytes.NewReader(s.image("2", "ada0")), 0, "nano", "install", "-")
		s.saysNot("nano status", "failed")
		s.says(s.bootThat(func(i int) bool { return i != 2 }),
			"the system on ada0p2 did not boot: ada0p1 runs")
		s.says(s.read("etc/issue"), "release 1")
		s.cfgd(0, "host early")
		if tab, _ := s.table(); tab.Slices[1].Failed {
			t.Error("rc.d/gptboot left its mark")
		}
		s.says(s.cfgd(0, "nano status"), "failed to boot")
		s.says(s.cfgd(0, "--json nano status"), `"failed":true`)
		s.says(s.cfgd(1, "report --always"), "the system on ada0p2 did not boot")
		if decide != "" {
			s.cfgd(0, decide)
			s.saysNot("nano status", "failed")
		}
	}
	s.boot()
	s.saysNot("nano status", "failed")
}

// saysNot runs a command that succeeds and must print none of some words.
func (s *server) saysNot(command string, words ...string) {
	s.Helper()
	out := s.cfgd(0, command)
	for _, w := range words {
		if strings.Contains(out, w) {
			s.Errorf("%s says %q:\n%s", command, w, out)
		}
	}
}

// If boot0's default and the active flag differ, or the default is no slice, a warning says so, and one
// command makes them agree.
func TestNanoStatusOfBoot0(t *testing.T) {
	t.Parallel()
	s := newServer(t, "MBR")
	for form, at := range map[string]int{"boot0": 0x1b5, "old boot0": 0x1b9} {
		for option, c := range map[byte]struct{ next, says string }{
			0: {"ada0s1", ""}, 1: {"ada0s1",
				"boot0's default is slice 2 and the active one is slice 1"}, 4: {"?", "F5, another disk"},
			5: {"?", "F6, the network"},
			3: {"?", "slice 4, which is not there"}, 9: {"?", "9, which is nothing"},
		} {
			_, d := s.table()
			disktest.Code(d, form, 1)
			d[at] = option
			s.write("dev/ada0", string(d))
			out := s.cfgd(0, "nano status")
			s.says(out, c.says)
			if strings.Contains(out, "boots next") != (c.next != "?") ||
				strings.Contains(out, "ada0: ") != (c.says != "") {
				t.Errorf("%s, default %d:\n%s", form, option, out)
			}
			s.says(s.cfgd(0, "--json nano status"), `"loader":"boot0","next":"`+c.next+`"`)
			s.says(s.cfgd(0, "nano confirm"), "ada0s1 boots next")
			if tab, _ := s.table(); tab.Boot0 != 1 || tab.Doubts() != nil {
				t.Errorf("%s, default %d: %+v", form, option, tab)
			}
		}
	}
}

// Before the restart nothing is on trial yet. Confirm changes nothing, and says so. Rollback keeps the
// running system, and says what it calls off. A second rollback takes the first one back.
func TestNanoBeforeTheRestart(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"MBR", "GPT"} {
		s := newServer(t, scheme)
		one, two := "ada0"+s.kind()+"1", "ada0"+s.kind()+"2"
		s.write("usr/local/etc/cfgd.toml", "[host]\ntrial = \"1h\"\n")
		s.cfgdWith(bytes.NewReader(s.image("2", "ada0")), 0, "nano", "install", "-")
		before, note := s.read("dev/ada0"), s.read("cfg/.cfgd/trial")
		for _, line := range []string{"nano confirm", "nano confirm --plan"} {
			s.says(s.cfgd(2, line), "nothing is on trial, and nothing was changed: "+two+" boots next")
			if s.read("dev/ada0") != before || s.read("cfg/.cfgd/trial") != note {
				t.Errorf("%s: %s changed something", scheme, line)
			}
		}
		s.says(s.cfgd(0, "nano rollback"), one+" boots next\n", two+", which was to boot next, is called off")
		if out := s.cfgd(0, "nano confirm"); out != one+" boots next\n" {
			t.Errorf("%s: %s", scheme, out)
		}
		s.says(s.cfgd(0, "nano rollback"), two+" boots next")
		s.says(s.cfgd(0, "nano rollback"), one+" boots next", two+", which was to boot next, is called off")
	}
}

// Bad images and slices in use are refused with a message. The running system is unchanged, and nothing is
// activated.
func TestNanoRefuses(t *testing.T) {
	t.Parallel()
	s := newServer(t, "MBR")
	good := s.image("2", "ada0")
	damaged := bytes.Clone(good)
	copy(damaged[partStart*512:], make([]byte, 200<<10))
	tab, before := s.table()
	first, _ := tab.Slice(1)
	for name, c := range map[string]struct {
		img   []byte
		words []string
		want  string
	}{
		"no image":            {[]byte(strings.Repeat("text\n", 100000)), nil, "no image of NanoBSD"},
		"nothing":             {nil, nil, "no image of NanoBSD"},
		"no filesystem":       {damaged, nil, "no image of NanoBSD"},
		"cut off":             {good[:len(good)-1<<20], nil, "it ends in the middle"},
		"cut off in a sector": {good[:len(good)-1<<20-7], nil, "it ends in the middle"},
		"another drive":       {s.image("2", "da9"), nil, "its / is /dev/da9s1a, and not of /dev/ada0"},
		"another digest": {good, []string{"--sha256", strings.Repeat("0", 64)},
			"another image, or a damaged one"},
		"the running slice": {good, []string{"--slice", "1"},
			"ada0s1 is in use: the machine runs from it"},
		"a slice that is not": {good, []string{"--slice", "3"}, "is no slice for a system"},
		"larger than the slice": {append(bytes.Clone(good), make([]byte, 4<<20)...), nil,
			"larger than the slice"},
		"an archive of nonsense": {append([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"),
			bytes.Repeat([]byte{7}, 5000)...), nil, "gzip: "},
	} {
		words := append(append([]string{"nano", "install"}, c.words...), "-")
		s.says(s.cfgdWith(bytes.NewReader(c.img), 2, words...), c.want)
		tab, d := s.table()
		if tab.Next() != 1 || !bytes.Equal(d[:first.Start+first.Size], before[:first.Start+first.Size]) {
			t.Fatalf("%s: the running system was touched, or another boots next", name)
		}
		second, _ := tab.Slice(2)
		if bytes.HasPrefix(d[second.Start:], []byte("boot1")) {
			t.Errorf("%s: what stands in the slice boots", name)
		}
	}
	s.says(s.cfgd(2, "nano activate 2"), "ada0s2 cannot boot: no filesystem that can be read")
	s.says(s.cfgd(2, "nano rollback"), "ada0s2 cannot boot: no filesystem that can be read")
	s.cfgd(64, "nano activate 3")
	s.cfgd(64, "nano install")
	s.says(s.cfgdWith(bytes.NewReader(good), 64, "nano", "install", "--sha256", "12", "-"),
		"64 hexadecimal digits")
	s.says(s.cfgdWith(bytes.NewReader(good), 0, "nano", "install", "--no-activate", "-"), "ada0s1 boots next")
	s.write("etc/nanobsd.conf", "NANO_DRIVE=da0\n")
	s.says(s.cfgd(78, "nano status"),
		"/etc/nanobsd.conf:1: NANO_DRIVE is da0, but /etc/fstab:2 mounts / from ada0")
}

// Images as they are kept: packed, and of a whole medium.
func TestNanoForms(t *testing.T) {
	t.Parallel()
	s := newServer(t, "MBR")
	img := s.image("2", "ada0")
	full := make([]byte, (2*sliceSectors+200)*512)
	copy(full, disktest.MBR(1, disktest.Slice{Index: 1, Start: 63, Count: sliceSectors, Type: 0xa5,
		Active: true}, disktest.Slice{Index: 2, Start: 100 + sliceSectors, Count: sliceSectors, Type: 0xa5}))
	copy(full[63*512:], img)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write(img)
	s.must(errors.Join(err, z.Close()))
	for name, c := range map[string]struct {
		img  []byte
		want string
	}{"plain": {img, "plain image written"}, "gzip": {packed.Bytes(), "gzip image written"}, "medium": {full,
		"plain image of a whole medium written"}} {
		sum := sha256.Sum256(c.img)
		s.write("tmp/"+name, string(c.img))
		digest := hex.EncodeToString(sum[:])
		out := s.cfgd(0, "nano install --no-activate --sha256 "+digest+" "+s.path("tmp/"+name))
		s.says(out, c.want, digest)
		tab, d := s.table()
		second, _ := tab.Slice(2)
		got := d[second.Start : second.Start+second.Size]
		if !bytes.HasPrefix(got, []byte("boot1 of release 2")) {
			t.Errorf("%s: %q", name, got[:20])
		}
		differ := 0
		for i := range got {
			if got[i] != img[i] {
				differ++
			}
		}
		if differ != 2 && differ != 1 { // the digit in two fstabs, or one with two names
			t.Errorf("%s: %d bytes differ from the image", name, differ)
		}
		s.says(s.cfgd(0, "host prepare /tmp/"+name), "host to ", "no overrides")
		if left, _ := filepath.Glob(s.path("tmp/cfgd-image-*")); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}

	// By the name of NanoBSD's script, from standard input.
	args := legacy([]string{"/root/upgradep2", "--no-activate"})
	s.says(s.cfgdWith(bytes.NewReader(img), 0, args[1:]...), "ada0s2 plain image written")
	s.says(s.cfgdWith(bytes.NewReader(img), 2, legacy([]string{"updatep1"})[1:]...),
		"the machine runs from it")

	// Two at once: the second is refused.
	block, release := io.Pipe()
	begun, done := make(chan struct{}), make(chan string)
	in := io.MultiReader(told{begun}, bytes.NewReader(img[:2<<20]), block)
	go func() { done <- s.cfgdWith(in, 2, "nano", "install", "-") }()
	<-begun // it holds the lock before it reads
	s.says(s.cfgdWith(bytes.NewReader(img), 2, "nano", "install", "-"),
		"another cfgd is at work on this disk: process ")
	s.must(release.CloseWithError(errors.New("the network broke")))
	s.says(<-done, "the network broke", "does not boot until it is installed again")
}

// told is an empty reader that tells when it is read.
type told struct{ begun chan struct{} }

func (r told) Read([]byte) (int, error) {
	close(r.begun)
	return 0, io.EOF
}

// If cfgd.toml has a trial, a new image is on trial. The report says so, and a confirmation ends it.
func TestNanoTrial(t *testing.T) {
	t.Parallel()
	s := newServer(t, "MBR")
	s.write("usr/local/etc/cfgd.toml", "[host]\ntrial = \"1h\"\nhealth = \"true\"\n")
	s.cfgd(0, "save host")
	s.cfgdWith(bytes.NewReader(s.image("2", "ada0")), 0, "nano", "install", "-")
	s.says(s.read("cfg/.cfgd/trial"), `{"slice":2,"from":1,"within":3600000000000}`)
	if out := s.cfgd(1, "report --always"); strings.Contains(out, "on trial") {
		t.Errorf("it does not run yet: %s", out)
	}
	s.boot()
	s.says(s.cfgd(1, "report --always"), "the system on ada0s2 is on trial", "cfgd nano confirm")
	s.cfgd(0, "save host")
	s.says(s.cfgd(0, "nano confirm"), "ada0s2 boots next")
	if got := s.read("cfg/.cfgd/trial"); got != "(absent)" {
		t.Errorf("left: %s", got)
	}
	if out := s.cfgd(1, "report --always"); strings.Contains(out, "on trial") {
		t.Errorf("%s", out)
	}
	s.write("usr/local/etc/cfgd.toml", "[jail.x]\nroot = \"/jail/x\"\ntrial = \"1h\"\n")
	s.says(s.cfgd(78, "check"), "trial")
}
