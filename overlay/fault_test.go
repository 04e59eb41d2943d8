package overlay

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"cfgd/internal/dirfd"
	"cfgd/internal/machinetest"
)

// failing is a Hook that fails call number at, and if always is set, all later ones too.
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

// reset makes cfg as it was before the recorded changes.
func (c *crash) reset(m *image, b *box) {
	c.Helper()
	b.must(os.RemoveAll(b.path("jail/cfg")))
	m.write(c, b.path("jail/cfg"))
}

// faults fails every call of act in every way, and checks the result and what act does the next time.
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
				c.afterFault(fmt.Sprintf("%v at call %d, always %v: %v", errno, at, always, err), b, o, err,
					act)
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
		c.Errorf("%s: neither old nor new:\nagainst old:\n%s\nagainst new:\n%s", where, lineDiff(c.old, got),
			lineDiff(c.new, got))
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

// liveBox returns a crash whose box has the live tree that its act saved.
func liveBox(t *testing.T, prepare, change func(b *box)) (*crash, *box, *image) {
	b := newBoxIn(t, machinetest.MemDir(t), etc)
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

func TestFaultsDuringMerge(t *testing.T) {
	t.Parallel()
	c, b, start := liveBox(t, newDefaults, func(b *box) { b.must(mergeNow(b.o)) })
	c.faults(b, start, mergeNow)
}

// An interrupted save that cannot be finished now is finished later.
func TestFaultsDuringRecovery(t *testing.T) {
	t.Parallel()
	c := recordCrash(t, firstSaves, manyChanges)
	ended := slices.IndexFunc(c.ops,
		func(op dirfd.Op) bool { return op.Kind == "unlink" && op.Path == ".cfgd/journal" })
	journalled := slices.IndexFunc(c.ops,
		func(op dirfd.Op) bool { return op.Kind == "rename" && op.To == ".cfgd/journal" }) + 2
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
