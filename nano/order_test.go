package nano

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/internal/disk/disktest"
	"cfgd/internal/mount"
	"cfgd/internal/run"
)

// step is something that is done to a disk: a write, or what brings all writes before it to stable storage.
type step struct {
	file string
	at   int64
	data []byte
	sync bool
}

// recorded is a machine whose disk records the order of the steps.
type recorded struct {
	testing.TB
	kind    string
	command bool
	dir     string
	running int
	start   map[string][]byte // the files as they are before the first step
	steps   []step
	failAt  int // the step that fails, counted from 1; 0 for none
}

// recorder is a device that records what is done to it.
type recorder struct {
	device
	r    *recorded
	name string
}

func (r *recorded) take(s step) error {
	if len(r.steps)+1 == r.failAt {
		return errDisk
	}
	r.steps = append(r.steps, s)
	return nil
}

func (x recorder) WriteAt(b []byte, at int64) (int, error) {
	if err := x.r.take(step{file: x.name, at: at, data: bytes.Clone(b)}); err != nil {
		return 0, err
	}
	return x.device.WriteAt(b, at)
}

func (x recorder) Sync() error {
	if err := x.r.take(step{sync: true}); err != nil {
		return err
	}
	return x.device.Sync()
}

// Run imitates gpart(8). The kernel writes the table, and leaves it in the disk's cache.
func (r *recorded) Run(_ context.Context, c run.Cmd) (string, error) {
	if c.Name == "sysctl" {
		return "BIOS\n", nil
	}
	name := filepath.Join(r.dir, "ada0")
	d, err := os.ReadFile(name)
	if err == nil {
		err = disktest.Command(d, strings.Fields(c.String())...)
	}
	if err != nil {
		r.Fatal(err)
	}
	if err := r.take(step{file: "ada0", data: bytes.Clone(d)}); err != nil {
		return "", err
	}
	return "", os.WriteFile(name, d, 0o600)
}

// Slices of the recorded machine, in sectors: more than a block, so that the boot blocks are not all.
const (
	recordedFS    = 2304
	recordedFirst = 63
	recordedNext  = 100 + recordedFS
)

func (r *recorded) letter() string {
	if r.kind == "GPT" {
		return "p"
	}
	return "s"
}

func newRecorded(t testing.TB, kind string, command bool, image []byte) *recorded {
	r := &recorded{TB: t, kind: kind, command: command, dir: t.TempDir(), running: 1}
	d := make([]byte, (2*recordedFS+200)*sector)
	first := disktest.Slice{Index: 1, Start: recordedFirst, Count: recordedFS, Type: 0xa5, Active: true}
	second := disktest.Slice{Index: 2, Start: recordedNext, Count: recordedFS, Type: 0xa5}
	if kind == "GPT" {
		disktest.GPT(d, first, second)
	} else {
		copy(d, disktest.MBR(1, first, second))
		disktest.Code(d, kind, 1)
	}
	r.start = map[string][]byte{"ada0": d}
	for i, at := range []int{recordedFirst, recordedNext} {
		copy(d[at*sector:], image)
		r.start[fmt.Sprintf("ada0%s%d", r.letter(), i+1)] = bytes.Clone(image)
	}
	r.begin()
	return r
}

// begin puts the files as they were, and forgets the steps.
func (r *recorded) begin() {
	for name, b := range r.start {
		if err := os.WriteFile(filepath.Join(r.dir, name), b, 0o600); err != nil {
			r.Fatal(err)
		}
	}
	r.steps = nil
}

func (r *recorded) machine() *Disk {
	n := config.Nano{Drive: "ada0", Kind: r.letter(), Running: r.running}
	return &Disk{Nano: n, File: filepath.Join(r.dir, "ada0"), RunDir: filepath.Join(r.dir, "run"), Run: r,
		Command: r.command, Mounted: func() ([]mount.Mount, error) { return nil, nil },
		watch: func(name string, d device) device { return recorder{d, r, filepath.Base(name)} }}
}

// slice returns the content of a slice.
func (r *recorded) slice(files map[string][]byte, index int) []byte {
	if r.command {
		return files[fmt.Sprintf("ada0%s%d", r.letter(), index)]
	}
	at := recordedFirst * sector
	if index == 2 {
		at = recordedNext * sector
	}
	return files["ada0"][at : at+recordedFS*sector]
}

// boots starts a machine with these files, and returns the slice that its loader takes, and whether that
// slice holds a whole system.
func (r *recorded) boots(files map[string][]byte, systems ...[]byte) (n int, whole bool) {
	d := bytes.Clone(files["ada0"])
	// gptboot does not see that a system is half written, and boot0 looks at a boot sector alone
	any := func(int) bool { return true }
	sector := func(i int) bool { return boots(r.slice(files, i)) }
	switch r.kind {
	case "GPT":
		n = disktest.GPTBoot(d, any)
	case "mbr":
		n = disktest.PlainMBR(d, sector)
	default:
		n = disktest.Boot0(d, sector)
	}
	for _, s := range systems {
		whole = whole || n != 0 && bytes.Equal(r.slice(files, n)[:len(s)], s)
	}
	return n, whole
}

// cuts calls check with each state of the files that a power cut during the steps can leave: what was done
// before the last sync is there, and of what was done since each part. It begins after a number of steps.
func (r *recorded) cuts(first int, check func(after int, files map[string][]byte)) {
	stable := map[string][]byte{}
	for name, b := range r.start {
		stable[name] = bytes.Clone(b)
	}
	apply := func(files map[string][]byte, s step) { copy(files[s.file][s.at:], s.data) }
	var open []step
	for after, s := range append([]step{{sync: true}}, r.steps...) {
		if s.sync {
			for _, o := range open {
				apply(stable, o)
			}
			open = nil
			if after >= first {
				check(after, stable)
			}
			continue
		}
		open = append(open, s)
		if after < first {
			continue
		}
		for chosen := range 1 << len(open) {
			if chosen>>(len(open)-1) == 0 && chosen != 0 {
				continue // this cut was checked before the last step
			}
			files := map[string][]byte{}
			for name, b := range stable {
				files[name] = bytes.Clone(b)
			}
			for i, o := range open {
				if chosen>>i&1 == 1 {
					apply(files, o)
				}
			}
			check(after, files)
		}
	}
}

// recordedImage is a system of more than one block. Two differ in their boot blocks and at their end.
func recordedImage(t testing.TB, mark byte) []byte {
	b := make([]byte, recordedFS*sector)
	copy(b, systemImage(t, recordedFS))
	b[100], b[len(b)-100] = mark, mark
	b[510], b[511] = 0x55, 0xaa
	return b
}

// From before the first byte of an image until it was read back, the running slice boots next: whichever
// slice was next before, and whatever marks a trial left. Cut after each write, and whichever of the writes
// that were not yet synced a power cut loses, the loader takes a slice with a whole system.
func TestNoCutBootsHalfASystem(t *testing.T) {
	t.Parallel()
	old, img := recordedImage(t, 'o'), recordedImage(t, 'n')
	for _, kind := range []string{"GPT", "boot0", "old boot0", "mbr"} {
		for name, before := range marksBefore(kind) {
			for _, command := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, commands %v", kind, name, command), func(t *testing.T) {
					t.Parallel()
					r := newRecorded(t, kind, command, old)
					before(r.start["ada0"])
					for fail := 0; fail < 60; fail++ {
						r.begin()
						r.failAt = fail
						var from io.Reader = bytes.NewReader(img)
						if fail == 1 {
							from = io.LimitReader(from, int64(len(img)-64<<10))
						}
						_, err := r.machine().Install(t.Context(), Install{From: from, Activate: true})
						if fail > 1 && err == nil {
							return
						}
						if (fail == 0) != (err == nil) {
							t.Fatalf("step %d fails: %v", fail, err)
						}
						first := 0
						if fail > 1 {
							first = fail - 1 // the steps before are those of the first installation
						}
						r.cuts(first, func(after int, files map[string][]byte) {
							if n, whole := r.boots(files, old, img); !whole && !t.Failed() {
								t.Errorf("step %d fails, cut after %d of %d: slice %d boots, "+
									"which is half written", fail, after, len(r.steps), n)
							}
						})
						if t.Failed() {
							return
						}
					}
					t.Error("no end of steps")
				})
			}
		}
	}
}

// marksBefore returns what may stand in a table before an installation while slice 1 runs.
func marksBefore(kind string) map[string]func(d []byte) {
	const failed, once, bootMe = 1 << 57, 1 << 58, 1 << 59
	all := map[string]func(d []byte){"the running one is next": func([]byte) {}}
	if kind == "GPT" {
		for name, marks := range map[string][2]uint64{
			"the other is next": {0, bootMe}, "the other is next once": {bootMe, bootMe | once},
			"the other failed": {bootMe, failed}, "the running one is on trial": {once, bootMe},
			"both": {bootMe, bootMe}, "none": {0, 0}, "the other was tried": {bootMe, once},
		} {
			all[name] = func(d []byte) {
				disktest.SetAttrs(d, 1, marks[0])
				disktest.SetAttrs(d, 2, marks[1])
			}
		}
		return all
	}
	all["the other is next"] = func(d []byte) {
		_ = disktest.Command(d, "gpart", "set", "-a", "active", "-i", "2", "ada0")
		if kind != "mbr" {
			disktest.Code(d, kind, 2)
		}
	}
	if kind != "mbr" {
		all["boot0 names the other"] = func(d []byte) { disktest.Code(d, kind, 2) }
	}
	return all
}
