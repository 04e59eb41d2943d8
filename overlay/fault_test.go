package overlay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cfgd/internal/dirfd"
)

// failing is a Hook that fails the call number at, and with always all after it.
type failing struct {
	at     int
	err    error
	always bool

	mu    sync.Mutex // guards calls
	calls int
}

func (f *failing) hook(dirfd.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if n := f.calls - 1; n == f.at || f.always && n > f.at {
		return f.err
	}
	return nil
}

// reset makes cfg what it was before the recorded changes.
func (c *crash) reset(m *image, b *box) {
	c.Helper()
	b.must(os.RemoveAll(b.path("jail/cfg")))
	m.write(c, b.path("jail/cfg"))
}

// faults fails every call of act in every way, and checks what is found after it and what act does then.
func (c *crash) faults(b *box, start *image, act func(o *Overlay) error) {
	stride := 1
	if testing.Short() {
		stride = 7
	}
	for _, errno := range []error{unix.ENOSPC, unix.EIO, unix.EROFS} {
		for _, always := range []bool{false, true} {
			for at := 0; !c.Failed(); at += stride {
				f := &failing{at: at, err: errno, always: always}
				c.reset(start, b)
				o := b.fresh()
				o.Hook = f.hook
				err := act(o)
				if f.calls <= at {
					c.Logf("%v, always %v: %d calls", errno, always, at)
					break
				}
				c.afterFault(fmt.Sprintf("%v at call %d, always %v: %v", errno, at, always, err), b, o, err, act)
			}
		}
	}
}

func (c *crash) afterFault(where string, b *box, o *Overlay, err error, act func(*Overlay) error) {
	c.Helper()
	if err != nil && !strings.Contains(err.Error(), "jail/cfg") {
		c.Errorf("%s: the error does not say where", where)
	}
	c.wholeFiles(where, readDisk(c, b.path("jail/cfg")).torn().plainFiles())
	keep := readDisk(c, b.path("jail/cfg")).torn()
	got, v := b.savedState(true)
	if got != c.new && (got != c.old || err == nil) {
		c.Errorf("%s: neither old nor new:\nagainst old:\n%s\nagainst new:\n%s", where, lineDiff(c.old, got), lineDiff(c.new, got))
	}
	if len(v.Adopted) > 0 && !c.mendable {
		c.Errorf("%s: adopted %q", where, v.Adopted)
	}
	c.reset(keep, b) // the same process tries again, with what it remembers
	o.Hook = nil
	if err := act(o); err != nil {
		c.Errorf("%s: tried again: %v", where, err)
	}
	if got, _ := b.savedState(true); got != c.new {
		c.Errorf("%s: tried again:\n%s", where, lineDiff(c.new, got))
	}
}

// liveBox is a crash whose box has the live tree that its act saved.
func liveBox(t *testing.T, prepare, change func(b *box)) (*crash, *box, *image) {
	b := newBoxIn(t, memDir(t), etc)
	b.populate()
	prepare(b)
	c := &crash{T: t}
	start := readDisk(t, b.path("jail/cfg")).torn()
	c.oldPlain = start.plainFiles()
	c.old, _ = b.savedState(false)
	change(b)
	c.new, _ = b.savedState(true)
	c.newPlain = readDisk(t, b.path("jail/cfg")).torn().plainFiles()
	return c, b, start
}

func TestFaultsDuringSave(t *testing.T) {
	t.Parallel()
	c, b, start := liveBox(t, firstSaves, manyChanges)
	c.faults(b, start, func(o *Overlay) error {
		_, err := o.Save(context.Background(), SaveOptions{})
		return err
	})
}

func TestFaultsDuringAdoption(t *testing.T) {
	t.Parallel()
	look := func(o *Overlay) error {
		_, err := o.Look(context.Background(), LookOptions{Lock: true})
		return err
	}
	c, b, start := liveBox(t, func(b *box) {
		firstSaves(b)
		b.write("jail/cfg/rc.conf", "by hand\n")
	}, func(b *box) { b.must(look(b.o)) })
	c.mendable = true
	c.faults(b, start, look)
}

// An interrupted save that cannot be finished now is finished later.
func TestFaultsDuringRecovery(t *testing.T) {
	t.Parallel()
	c := recordCrash(t, firstSaves, manyChanges)
	ended := slices.IndexFunc(c.ops, func(op dirfd.Op) bool { return op.Kind == "unlink" && op.Path == ".cfgd/journal" })
	journalled := slices.IndexFunc(c.ops, func(op dirfd.Op) bool { return op.Kind == "rename" && op.To == ".cfgd/journal" }) + 2
	c.old = c.new
	for _, at := range []int{journalled, (journalled + ended) / 2, ended} {
		d := c.start()
		for _, op := range c.ops[:at] {
			d.apply(t, op)
		}
		c.faults(c.box, d.torn(), func(o *Overlay) error {
			_, err := o.Look(context.Background(), LookOptions{Lock: true})
			return err
		})
	}
}

const inNamespace = "CFGD_TEST_NAMESPACE"

// namespaced runs the test again in a mount namespace of its own, and reports whether this is that run.
func namespaced(t *testing.T) bool {
	if os.Getenv(inNamespace) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) {
		t.Skip("no mount namespace to be had here")
	}
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	return false
}

func (b *box) mount(p, options string) {
	b.Helper()
	b.must(os.MkdirAll(b.path(p), 0o755))
	b.must(unix.Mount("tmpfs", b.path(p), "tmpfs", 0, options))
	b.Cleanup(func() { _ = unix.Unmount(b.path(p), unix.MNT_DETACH) })
}

// noise is content that does not compress.
func noise(seed uint64, n int) string {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return string(b)
}

func (b *box) saveFails(want error, word string) {
	b.Helper()
	before := b.shape("jail/cfg")
	_, err := b.o.Save(context.Background(), SaveOptions{})
	if !errors.Is(err, want) || !strings.Contains(err.Error(), word) {
		b.Errorf("save: %v; want %v, and the word %q", err, want, word)
	}
	after := b.shape("jail/cfg")
	for _, m := range []map[string]string{before, after} {
		for _, p := range []string{".cfgd", ".cfgd/tmp", ".cfgd/objects", ".cfgd/generations"} { // their times may move
			delete(m, p)
		}
	}
	b.same(before, after)
}

func TestFullCfg(t *testing.T) {
	if !namespaced(t) {
		return
	}
	b := newBox(t, etc)
	b.mount("jail/cfg", "size=256k")
	b.populate()
	b.edit("big", noise(1, 400<<10))
	b.saveFails(ErrNoSpace, "KiB")
	b.edit("big", noise(2, 40<<10))
	b.save()

	b.must(os.WriteFile(b.path("jail/cfg/.cfgd/filler"), []byte(noise(3, 150<<10)), 0o600))
	b.edit("big", noise(4, 45<<10))
	b.edit("rc.conf", "small\n")
	b.saveFails(ErrNoSpace, "KiB")
	b.must(os.Remove(b.path("jail/cfg/.cfgd/filler")))
	b.save()
	want := b.shape("jail/etc")
	b.restart()
	got := b.shape("jail/etc")
	delete(want, ".") // the store has no room for the root's own time
	delete(got, ".")
	b.same(want, got)

	// History gives way to what is to be saved, for as long as there is any.
	for i := range uint64(20) {
		b.edit("big", noise(10+i, 45<<10))
		b.save()
	}
	if got := b.read("jail/cfg/big"); got != noise(29, 45<<10) {
		t.Error("cfg does not hold the last version")
	}
}

// Room in bytes is no room in inodes: the kernel says so in the middle of the save.
func TestCfgOutOfInodes(t *testing.T) {
	if !namespaced(t) {
		return
	}
	b := newBox(t, etc)
	b.mount("jail/cfg", "size=4m,nr_inodes=40")
	b.populate()
	b.edit("rc.conf", "first\n")
	b.save()
	for i := range 60 {
		b.edit(fmt.Sprintf("many/%d", i), fmt.Sprint(i))
	}
	b.saveFails(ErrNoSpace, "no space left")
	b.must(unix.Mount("", b.path("jail/cfg"), "", unix.MS_REMOUNT, "size=4m,nr_inodes=400"))
	if r := b.save(); r.Generation != 2 || b.read("jail/cfg/many/59") != "59" {
		t.Errorf("with room: generation %d", r.Generation)
	}
}

func TestReadOnlyCfg(t *testing.T) {
	if !namespaced(t) {
		return
	}
	b := newBox(t, etc)
	b.mount("jail/cfg", "size=1m")
	b.populate()
	b.edit("rc.conf", "one\n")
	b.save()
	b.write("jail/cfg/hosts", "by hand\n")
	b.must(unix.Mount("", b.path("jail/cfg"), "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=1m"))
	b.edit("issue", "unsaved\n")
	b.o = b.overlay()
	v := b.look()
	if !v.ReadOnly || v.Current.Generation != 2 || paths(v.Unsaved) != "M hosts, M issue" {
		t.Errorf("read-only %v, generation %d, unsaved %s", v.ReadOnly, v.Current.Generation, paths(v.Unsaved))
	}
	b.saveFails(ErrReadOnly, "read-only")
	b.restart()
	if got := b.read("jail/etc/rc.conf") + b.read("jail/etc/hosts"); got != "one\nby hand\n" {
		t.Errorf("populated from a read-only cfg: %q", got)
	}
	// A cfg without a store, read-only, is still what live is populated from.
	b.must(b.o.Clear(context.Background()))
	b.must(unix.Mount("", b.path("jail/cfg"), "", unix.MS_REMOUNT, "size=1m"))
	b.must(os.RemoveAll(filepath.Join(b.path("jail/cfg"), metaName)))
	b.must(unix.Mount("", b.path("jail/cfg"), "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=1m"))
	b.o = b.overlay()
	b.populate()
	if got := b.read("jail/etc/rc.conf"); got != "one\n" {
		t.Errorf("populated from a read-only cfg without a store: %q", got)
	}
	b.edit("issue", "unsaved\n")
	b.saveFails(ErrReadOnly, "read-only")
}
