package nano

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cfgd/config"
	"cfgd/internal/disk"
	"cfgd/internal/disk/disktest"
	"cfgd/internal/mount"
	"cfgd/internal/run"
)

// sliceLen is the length of each of two slices, in sectors.
const sliceLen = 1200

// tinyImage is a system of a few files.
func tinyImage(t testing.TB) []byte { return systemImage(t, 1024) }

// bootFiles are what the loaders need to boot a system.
var bootFiles = []string{"boot/loader", "boot/loader.efi", "boot/defaults/loader.conf", "boot/kernel/kernel"}

// systemImage is a system of a few files in a filesystem of so many sectors.
func systemImage(t testing.TB, sectors int) []byte {
	if _, err := exec.LookPath("makefs"); err != nil {
		t.Skip("no makefs here")
	}
	tree, file := t.TempDir(), filepath.Join(t.TempDir(), "image")
	if err := os.MkdirAll(filepath.Join(tree, baseEtc), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range bootFiles {
		full := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("makefs", "-t", "ffs", "-o", "version=2", "-s", fmt.Sprint(sectors*sector), file,
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

// world is the state between two commands: the disk, the running slice, the run directory, and the note in
// cfg.
type world struct {
	disk    string
	running int
	chosen  string
	failed  string
	trial   string
}

// host is a machine of one kind. Each operation starts from a world.
type host struct {
	testing.TB
	kind    string // boot0, old boot0, mbr, GPT
	command bool
	dir     string
	image   []byte
	before  int    // number of slices before the systems in the table: cfg
	failAt  int    // the command that fails, counted from 1; 0 for none
	idle    string // the command that does nothing, and succeeds
	ran     int
	now     world
}

func (h *host) machine() *Disk {
	kind := "s"
	if h.kind == "GPT" {
		kind = "p"
	}
	n := config.Nano{Drive: "ada0", Kind: kind, Running: h.now.running}
	for i := range h.before {
		n.Others = append(n.Others, i+1)
	}
	return &Disk{Nano: n, File: h.path("ada0"),
		RunDir: h.path("run"), Run: h, Command: h.command,
		Mounted: func() ([]mount.Mount, error) { return nil, nil }}
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// Run does what gpart(8) does to the disk. Commands that only read are not counted.
func (h *host) Run(_ context.Context, c run.Cmd) (string, error) {
	if c.Name == "sysctl" {
		return "BIOS\n", nil
	}
	if h.ran++; h.ran == h.failAt {
		return "", errDisk
	}
	if h.idle != "" && strings.Contains(c.String(), h.idle) {
		return "", nil
	}
	d, err := os.ReadFile(h.path("ada0"))
	h.must(err)
	h.must(disktest.Command(d, strings.Fields(c.String())...))
	h.must(os.WriteFile(h.path("ada0"), d, 0o600))
	return "", nil
}

func newHost(t testing.TB, kind string, command bool, image []byte) *host {
	return newHostAfter(t, kind, 0, command, image)
}

// newHostAfter makes a host with one slice or none before the systems in the table, for cfg.
func newHostAfter(t testing.TB, kind string, before int, command bool, image []byte) *host {
	h := &host{TB: t, kind: kind, before: before, command: command, dir: t.TempDir(), image: image}
	d := make([]byte, (2*sliceLen+200)*sector)
	first := disktest.Slice{Index: 1 + before, Start: 63, Count: sliceLen, Type: 0xa5, Active: true}
	second := disktest.Slice{Index: 2 + before, Start: 100 + sliceLen, Count: sliceLen, Type: 0xa5}
	all := []disktest.Slice{first, second}
	if before > 0 {
		all = append(all, disktest.Slice{Index: 1, Start: 110 + 2*sliceLen, Count: 10, Type: 0xa5})
	}
	letter := "s"
	if kind == "GPT" {
		letter = "p"
		disktest.GPT(d, all...)
	} else {
		copy(d, disktest.MBR(1+before, all...))
		disktest.Code(d, kind, 1+before)
	}
	for i, s := range []disktest.Slice{first, second} {
		copy(d[s.Start*sector:], image)
		name := fmt.Sprintf("ada0%s%d", letter, i+1+before)
		h.must(os.WriteFile(h.path(name), make([]byte, sliceLen*sector), 0o600))
	}
	h.set(world{disk: string(d), running: 1 + before})
	return h
}

func (h *host) set(w world) {
	h.now, h.ran = w, 0
	h.must(os.WriteFile(h.path("ada0"), []byte(w.disk), 0o600))
	h.must(os.RemoveAll(h.path("run")))
	h.must(os.MkdirAll(h.path("run"), 0o755))
	if w.chosen != "" {
		h.must(os.WriteFile(h.path("run/nano.next"), []byte(w.chosen), 0o600))
	}
	if w.failed != "" {
		h.must(os.WriteFile(h.path("run/nano.failed"), []byte(w.failed), 0o600))
	}
}

// world returns the present state, without the contents of the slices, on which the boot choice does not
// depend.
func (h *host) world() world {
	d, err := os.ReadFile(h.path("ada0"))
	h.must(err)
	for _, at := range []int{63, 100 + sliceLen} {
		copy(d[at*sector:], h.image)
		clear(d[at*sector+len(h.image) : (at+sliceLen)*sector])
	}
	chosen, err := os.ReadFile(h.path("run/nano.next"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.Fatal(err)
	}
	failed, err := os.ReadFile(h.path("run/nano.failed"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.Fatal(err)
	}
	return world{string(d), h.now.running, string(chosen), string(failed), h.now.trial}
}

func (h *host) trials() *Trials {
	return &Trials{Disk: h.machine(),
		Read: func(context.Context) ([]byte, error) {
			if h.now.trial == "" {
				return nil, fs.ErrNotExist
			}
			return []byte(h.now.trial), nil
		},
		Write:   func(_ context.Context, b []byte) error { h.now.trial = string(b); return nil },
		Restart: func(context.Context) error { h.boot(h.up); return nil },
	}
}

func (h *host) up(int) bool { return true }

// boot starts the machine: by its loader, by host early, and by rc.d/gptboot, in that order.
func (h *host) boot(loads func(int) bool) {
	h.start(loads)
	if d, err := os.ReadFile(h.path("ada0")); h.kind == "GPT" {
		h.must(err)
		disktest.RCGPTBoot(d)
		h.must(os.WriteFile(h.path("ada0"), d, 0o600))
	}
}

func (h *host) start(loads func(int) bool) {
	d, err := os.ReadFile(h.path("ada0"))
	h.must(err)
	switch h.kind {
	case "GPT":
		h.now.running = disktest.GPTBoot(d, loads)
	case "mbr":
		h.now.running = disktest.PlainMBR(d, h.up)
	default:
		h.now.running = disktest.Boot0(d, h.up)
	}
	h.must(os.WriteFile(h.path("ada0"), d, 0o600))
	h.must(os.RemoveAll(h.path("run"))) // rc.d/cleanvar
	for range 2 {                       // host early may be repeated
		_, err = h.machine().NoteFailed(h.Context())
		h.must(err)
	}
}

// resets starts the machine and resets it before rc.d/gptboot runs.
func (h *host) resets() {
	if d, err := os.ReadFile(h.path("ada0")); h.kind == "GPT" {
		h.must(err)
		disktest.GPTBoot(d, h.up)
		h.must(os.WriteFile(h.path("ada0"), d, 0o600))
	}
}

func (h *host) install(activate bool) {
	_, err := h.machine().Install(h.Context(),
		Install{Progress: func(int64) {}, From: bytes.NewReader(h.image),
			Activate: activate, Trials: h.trials(), Within: time.Nanosecond})
	h.must(err)
}

// named picks the first or the second system.
func (h *host) named(n int) Pick { return Named(strconv.Itoa(n + h.before)) }

func (h *host) decide(pick Pick) {
	_, err := h.machine().Decide(h.Context(), pick, h.trials())
	h.must(err)
}

// said is the state that the manual promises after a sequence of operations.
type said struct {
	running, stays, tried int // stays boots when nothing is tried; tried boots next, once
	onTrial               bool
	// its bootonce was not cleared after it came up, or was found at a later start
	left        int
	noted, from int // cfgd's own trial
	// the slice that the loader failed to start, now or in an earlier start that did not report it
	failed int
}

func (s *said) next() int {
	if s.tried != 0 {
		return s.tried
	}
	return s.stays
}

func (s *said) decided(n int) {
	s.stays, s.tried, s.onTrial, s.left, s.noted, s.failed = n, 0, false, 0, 0, 0
}

func (s *said) started() {
	s.onTrial = s.tried != 0
	s.running, s.tried, s.left, s.failed = s.next(), 0, 0, s.left
}

// gaveUp starts the machine after the loader failed to start a slice.
func (s *said) gaveUp() {
	given := s.tried
	s.tried = 0
	s.started()
	if given != 0 {
		s.failed = given
	}
}

// operations has what each operation does, and what the manual says that it does.
var operations = map[string]struct {
	do  func(h *host)
	say func(s *said, once bool)
}{
	"install": {func(h *host) {
		h.install(true)
	}, func(s *said, once bool) {
		other := 3 - s.running
		s.decided(s.running)
		if s.noted, s.from = other, s.running; once {
			s.tried = other
		} else {
			s.stays = other
		}
	}},
	"install, and nothing else": {func(h *host) {
		h.install(false)
	}, func(s *said, _ bool) { s.decided(s.running) }},
	"activate 1": {func(h *host) { h.decide(h.named(1)) }, func(s *said, _ bool) { s.decided(1) }},
	"activate 2": {func(h *host) { h.decide(h.named(2)) }, func(s *said, _ bool) { s.decided(2) }},
	"confirm": {func(h *host) {
		_, err := h.machine().Decide(h.Context(), Confirm, h.trials())
		if err != nil && !errors.Is(err, ErrUntried) {
			h.Fatal(err)
		}
	}, func(s *said, _ bool) {
		if s.next() == s.running || s.onTrial { // else it changes nothing
			s.decided(s.running)
		}
	}},
	"rollback": {func(h *host) { h.decide(Rollback) }, func(s *said, _ bool) {
		if s.next() == s.running || s.onTrial {
			s.decided(3 - s.running)
		} else {
			s.decided(s.running)
		}
	}},
	"boot": {func(h *host) { h.boot(h.up) }, func(s *said, _ bool) { s.started() }},
	"a boot without rc.d/gptboot": {func(h *host) { h.start(h.up) }, func(s *said, _ bool) {
		left := s.left
		if s.tried != 0 {
			left = s.tried
		}
		s.started()
		s.left = left
	}},
	"a boot that is reset, and the next": {func(h *host) { h.resets(); h.boot(h.up) }, func(s *said, _ bool) {
		s.gaveUp()
	}},
	"a boot of a slice without a loader": {func(h *host) {
		d, err := os.ReadFile(h.path("ada0"))
		h.must(err)
		bad := disktest.GPTBoot(bytes.Clone(d), h.up)
		if h.kind != "GPT" || disktest.Attrs(d, bad)>>58&1 == 0 {
			h.boot(h.up) // otherwise no slice could be started
			return
		}
		h.boot(func(i int) bool { return i != bad })
	}, func(s *said, _ bool) { s.gaveUp() }},
	"the trial's time is over": {func(h *host) {
		_, err := h.trials().Run(h.Context())
		h.must(err)
	}, func(s *said, _ bool) {
		if s.noted == s.running {
			s.decided(s.from)
			s.started()
		}
	}},
}

// Every sequence of five operations has the result that the manual promises, on every kind of disk, with and
// without commands. No attribute is left half set.
func TestEverySequence(t *testing.T) {
	t.Parallel()
	image := tinyImage(t)
	names := slices.Sorted(maps.Keys(operations))
	for layout, c := range map[string]struct {
		kind   string
		before int
	}{
		"GPT": {"GPT", 0}, "boot0": {"boot0", 0}, "old boot0": {"old boot0", 0}, "mbr": {"mbr", 0},
		"GPT, cfg first": {"GPT", 1}, "boot0, cfg first": {"boot0", 1},
	} {
		kind := c.kind
		for _, command := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, commands %v", layout, command), func(t *testing.T) {
				t.Parallel()
				h := newHostAfter(t, kind, c.before, command, image)
				type edge struct {
					from int
					name string
				}
				type end struct {
					world int
					said  said
				}
				// The result of an operation on a world is computed only once.
				ids, done, right := map[world]int{}, map[edge]int{}, map[end]bool{}
				var worlds []world
				id := func(w world) int {
					n, ok := ids[w]
					if !ok {
						n = len(worlds)
						ids[w], worlds = n, append(worlds, w)
					}
					return n
				}
				sequences := 0
				var walk func(w int, s said, words []string)
				walk = func(w int, s said, words []string) {
					if len(words) == 5 {
						sequences++
						return
					}
					for _, name := range names {
						next, ok := done[edge{w, name}]
						if !ok {
							h.set(worlds[w])
							operations[name].do(h)
							next = id(h.world())
							done[edge{w, name}] = next
						}
						now := s
						operations[name].say(&now, kind == "GPT")
						all := append(slices.Clone(words), name)
						if !right[end{next, now}] {
							if wrong := h.differs(worlds[next], now); wrong != "" {
								t.Errorf("%s: %s", strings.Join(all, ", "), wrong)
								continue
							}
							right[end{next, now}] = true
						}
						walk(next, now, all)
					}
				}
				walk(id(h.world()), said{running: 1, stays: 1}, nil)
				t.Logf("%d sequences, %d different steps", sequences, len(done))
				if !t.Failed() && sequences != 161051 {
					t.Errorf("%d sequences", sequences)
				}
			})
		}
	}
}

// differs compares a world with what the manual promises.
func (h *host) differs(w world, s said) string {
	d := []byte(w.disk)
	t, err := disk.Read(bytes.NewReader(d), int64(len(d)))
	h.must(err)
	if w.running-h.before != s.running || t.Next()-h.before != s.next() {
		return fmt.Sprintf("%d runs and %d is next, and not %d and %d, after %d", w.running, t.Next(),
			s.running,
			s.next(), h.before)
	}
	if h.kind == "GPT" && h.before > 0 && disktest.Attrs(d, 1) != 0 {
		return "cfg has a mark"
	}
	for i := 1; i <= 2; i++ {
		noted := strings.Contains(w.failed, fmt.Sprintf("%d\n", i+h.before))
		if noted != (i == s.failed) {
			return fmt.Sprintf("slice %d is noted as failed: %v, and %d is", i, noted, s.failed)
		}
		want := uint64(0)
		switch i {
		case s.tried:
			want = 1<<59 | 1<<58
		case s.stays:
			want = 1 << 59
		}
		got := want
		if h.kind == "GPT" {
			got = disktest.Attrs(d, i+h.before)
		}
		if got != want && !(i == s.left && want == 0 && (got == 1<<58 || got == 1<<57)) {
			return fmt.Sprintf("slice %d has marks %#x, and not %#x", i, got>>57, want>>57)
		}
	}
	if doubts := t.Doubts(); doubts != nil ||
		strings.Contains(h.kind, "boot0") && t.Boot0 != s.stays+h.before {
		return fmt.Sprintf("boot0's default is %d, %q", t.Boot0, doubts)
	}
	return ""
}

// After an installation that ends early, the running slice boots next: if the input is cut off, and if any
// command fails. The slice that is half written never boots next.
func TestInstallThatEndsEarly(t *testing.T) {
	t.Parallel()
	image := tinyImage(t)
	for _, kind := range []string{"GPT", "boot0", "old boot0", "mbr"} {
		for _, before := range [][]string{nil, {"activate 2"}, {"install"}, {"install", "boot"},
			{"install", "boot", "confirm", "activate 1"}} {
			h := newHost(t, kind, true, image)
			for _, name := range before {
				operations[name].do(h)
			}
			start := h.world()
			for fail := range 20 {
				h.set(start)
				from := &watchedInput{h: h, b: image}
				if fail == 0 {
					from.b = image[:len(image)/2]
				}
				h.failAt = fail
				_, err := h.machine().Install(h.Context(),
					Install{Progress: func(int64) {}, From: from, Activate: true,
						Begin: func(int64, string) { from.begun = true }})
				tab := h.table()
				other := 3 - h.now.running
				if fail == 19 {
					t.Errorf("%s, %v: no end of commands", kind, before)
				}
				if fail > 0 && err == nil {
					if tab.Next() != other {
						t.Errorf("%s, %v: whole, and %d is next", kind, before, tab.Next())
					}
					break
				}
				whole := err != nil && strings.Contains(err.Error(), "written and whole")
				if err == nil || from.begun && !whole && tab.Next() != h.now.running {
					t.Errorf("%s, %v, command %d fails: %v; %d is next, and %d runs",
						kind, before, fail, err, tab.Next(), h.now.running)
				}
			}
		}
	}
}

// watchedInput is an image that checks the table at each read.
type watchedInput struct {
	h     *host
	b     []byte
	begun bool
}

func (w *watchedInput) Read(p []byte) (int, error) {
	if tab := w.h.table(); w.begun && (tab.Next() != w.h.now.running || tab.Doubts() != nil) {
		w.h.Errorf("%d is next while the other slice is written, and %d runs: %q",
			tab.Next(), w.h.now.running, tab.Doubts())
	}
	if len(w.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, w.b[:min(len(w.b), 64<<10)])
	w.b = w.b[n:]
	return n, nil
}

func (h *host) table() *disk.Table {
	d, err := os.ReadFile(h.path("ada0"))
	h.must(err)
	t, err := disk.Read(bytes.NewReader(d), int64(len(d)))
	h.must(err)
	return t
}

// A loader that ignores the table: the installation is refused before a byte is written.
func TestLoaderThatCannotBeTold(t *testing.T) {
	t.Parallel()
	h := newHost(t, "boot0", false, tinyImage(t))
	d := []byte(h.now.disk)
	d[0x1b7] = 0x81 // boot0cfg -m 1
	h.set(world{disk: string(d), running: 1})
	before := h.world()
	_, err := h.machine().Install(t.Context(), Install{
		Progress: func(int64) {}, From: bytes.NewReader(h.image), Activate: true,
	})
	if !errors.Is(err, disk.ErrLoader) || h.world() != before {
		t.Errorf("%v", err)
	}
	if _, err := h.machine().Decide(t.Context(), Named("ada0s2"), nil); !errors.Is(err, disk.ErrLoader) {
		t.Errorf("%v", err)
	}
	if _, err := h.machine().Decide(t.Context(), Named("3"), nil); !errors.Is(err, ErrNoSlice) {
		t.Errorf("%v", err)
	}
}

// The results of commands are read back from the disk: the flag and boot0's default.
func TestCommandsAreReadBack(t *testing.T) {
	t.Parallel()
	image := tinyImage(t)
	for idle, kinds := range map[string][]string{"gpart": {"GPT", "boot0", "old boot0", "mbr"},
		"bootcode": {"boot0", "old boot0"}} {
		for _, kind := range kinds {
			h := newHost(t, kind, true, image)
			h.idle = idle
			if _, err := h.machine().Decide(t.Context(), Named("2"), nil); err == nil ||
				!strings.Contains(err.Error(), "the table") {
				t.Errorf("%s does nothing to %s: %v", idle, kind, err)
			}
		}
	}
}

// A choice that somebody made with gpart(8) counts too: a rollback before the start removes it.
func TestRollbackOfWhatGpartMarked(t *testing.T) {
	t.Parallel()
	h := newHost(t, "GPT", false, tinyImage(t))
	d := []byte(h.now.disk)
	h.must(disktest.Command(d, "gpart", "set", "-a", "bootonce", "-i", "2", "ada0"))
	h.set(world{disk: string(d), running: 1})
	dec, err := h.machine().Decide(t.Context(), Rollback, nil)
	if err != nil || dec.Slice.Index != 1 || dec.Off != "ada0p2" || h.table().Next() != 1 {
		t.Errorf("%+v, %v", dec, err)
	}
}

// A third partition with bootme before the two slices boots next. A message says so, and activating one of
// the two clears its bootme.
func TestThirdPartitionMarked(t *testing.T) {
	t.Parallel()
	h := newHost(t, "GPT", true, tinyImage(t))
	d := make([]byte, len(h.now.disk))
	disktest.GPT(d, disktest.Slice{Index: 1, Start: 63, Count: sliceLen},
		disktest.Slice{Index: 2, Start: 100 + sliceLen, Count: sliceLen},
		disktest.Slice{Index: 3, Start: 110 + 2*sliceLen, Count: 10})
	for _, at := range []int{63, 100 + sliceLen} {
		copy(d[at*sector:], h.image)
	}
	disktest.SetAttrs(d, 3, 1<<59)
	h.set(world{disk: string(d), running: 1})
	m := h.machine()
	tab, err := m.Table(t.Context())
	h.must(err)
	if tab.NextName() != "ada0p3" || len(tab.Doubts()) != 1 ||
		!strings.Contains(tab.Doubts()[0], "ada0p3 boots next") {
		t.Errorf("%s, %q", tab.NextName(), tab.Doubts())
	}
	dec, err := m.Decide(t.Context(), Rollback, nil)
	if err != nil || dec.Off != "ada0p3" || len(dec.Commands) != 2 {
		t.Errorf("%+v, %v", dec, err)
	}
	if tab, err = m.Table(t.Context()); err != nil || tab.Next() != 1 || tab.Doubts() != nil {
		t.Errorf("%+v, %v", tab, err)
	}
}

// If the note of what boots next can't be written, there is only a warning, because the disk is right.
func TestNoteThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"GPT", "boot0"} {
		h := newHost(t, kind, true, tinyImage(t))
		h.must(os.Mkdir(h.path("run/nano.next"), 0o755)) // in the place of the file
		var said []string
		m := h.machine()
		m.Warn = func(text string) { said = append(said, text) }
		if _, err := m.Decide(t.Context(), Named("2"), nil); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		want := m.Name(2) + " boots next, but the note"
		if h.table().Next() != 2 || len(said) != 1 || !strings.Contains(said[0], want) {
			t.Errorf("%s: %d is next, %q", kind, h.table().Next(), said)
		}
		if m.Warn = nil; m.Activate(t.Context(), Activation{Slice: 1}) != nil {
			t.Error("without anybody who is warned")
		}
	}
}

// An installation from a system on trial ends that trial, and reports it. From another system it reports
// nothing.
func TestInstallWhileOnTrial(t *testing.T) {
	t.Parallel()
	image := tinyImage(t)
	for _, kind := range []string{"GPT", "boot0", "mbr"} {
		for _, c := range []struct {
			before []string
			kept   bool
		}{{nil, false}, {[]string{"install"}, false}, {[]string{"install", "boot"}, true},
			{[]string{"install", "boot", "confirm"}, false}, {[]string{"install", "boot", "install", "boot"},
				true},
			{[]string{"install", "boot", "rollback", "boot"}, false}} {
			h := newHost(t, kind, true, image)
			for _, name := range c.before {
				operations[name].do(h)
			}
			done, err := h.machine().Install(t.Context(), Install{
				From: bytes.NewReader(image), Trials: h.trials(),
			})
			if err != nil || done.Kept != c.kept || h.table().Next() != h.now.running || h.now.trial != "" {
				t.Errorf("%s, %v: %+v, %v, %q", kind, c.before, done, err, h.now.trial)
			}
		}
	}
	// If the note can't be removed, the error names it, before a byte is written.
	h := newHost(t, "mbr", true, image)
	operations["install"].do(h)
	before := h.world()
	trials := h.trials()
	trials.Write = func(context.Context, []byte) error { return errDisk }
	_, err := h.machine().Install(t.Context(), Install{From: bytes.NewReader(image), Trials: trials})
	if !errors.Is(err, errDisk) || !strings.Contains(err.Error(), "the note of a trial in cfg") {
		t.Errorf("%v", err)
	}
	if d := h.world(); d.trial != before.trial {
		t.Error("the note went")
	}
}
