package overlay

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cfgd/merge"
	"cfgd/overlay/tree"
)

// mknod makes a fifo, a socket or a device. It skips the test if that needs root.
func (b *box) mknod(path string, kind uint32) {
	b.Helper()
	b.must(os.MkdirAll(b.path(path[:strings.LastIndexByte(path, '/')]), 0o755))
	err := unix.Mknod(b.path(path), kind|0o600, 3<<8|1)
	if err == unix.EPERM && kind != unix.S_IFIFO {
		b.Skip("devices and sockets need root")
	}
	b.must(err)
}

// A default that cfgd does not make is no deletion, and no start is silent about it. If something else made
// it in live, it is no addition either.
func TestDefaultsThatAreNotMade(t *testing.T) {
	for word, kind := range map[string]uint32{
		"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK, "device": unix.S_IFCHR,
	} {
		for _, byOthers := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, made by others %t", word, byOthers), func(t *testing.T) {
				b := newBox(t, map[string]string{"rc.conf": "a\n", "d/x": "x\n"})
				b.mknod("base/odd", kind)
				b.mknod("base/d/odd", kind)
				p := b.populate()
				said := fmt.Sprint(p.Notices)
				if !strings.Contains(said, "d/odd ("+word+"), odd ("+word+")") {
					t.Errorf("said %q", said)
				}
				left := 2
				if byOthers {
					b.mknod("jail/etc/odd", kind)
					left = 1
				}
				v := b.look()
				if all := append(append(v.Local, v.Unsaved...), v.Stored...); len(all) > 0 {
					t.Errorf("changes: %s", paths(all))
				}
				if n := len(v.LeftOut()); n != left {
					t.Errorf("%d are left out, want %d", n, left)
				}
				var archive bytes.Buffer
				_, err := b.o.Rescue(t.Context(), &archive, RescueOptions{})
				b.must(err)
				x := &extract{contents: map[tree.Digest][]byte{}, unknown: map[string]bool{}}
				if err := x.read(&archive); err != nil || len(x.removed) > 0 {
					t.Errorf("the archive says that %q were removed, %v", x.removed, err)
				}
				b.edit("rc.conf", "b\n")
				r := b.save()
				gone := b.look().Current.Removals
				if len(r.Kept) > 0 || paths(r.Saved) != "M rc.conf" || len(gone) > 0 {
					t.Errorf("kept %v, saved %s, removals %v", r.Kept, paths(r.Saved), gone)
				}
				if _, err := b.o.Restore(t.Context(), From{Base: true}, nil, ""); err != nil {
					t.Error(err)
				}
				if _, err := os.Lstat(b.path("jail/etc/odd")); (err == nil) != byOthers {
					t.Errorf("after a restore: %v", err)
				}
				if _, err := b.o.Restore(t.Context(), From{}, []string{"d/odd"}, ""); err == nil ||
					!strings.Contains(err.Error(), "the default is a "+word) {
					t.Error(err)
				}
			})
		}
	}
}

// What was saved, or removed, under a default that becomes a fifo stays what it is, in words that are true.
func TestDefaultBecomesAFifo(t *testing.T) {
	b := newBox(t, map[string]string{"mine": "m\n", "gone": "g\n", "plain": "p\n", "other": "o\n"})
	b.write("base2/other", "o\n")
	for _, path := range []string{"mine", "gone", "plain"} {
		b.mknod("base2/"+path, unix.S_IFIFO)
	}
	b.populate()
	b.edit("mine", "edited\n")
	b.remove("gone")
	b.save()
	p := b.upgrade("/base2")
	if got := verdicts(p.Merge); got["mine"] != merge.VerdictGone || got["gone"] != merge.VerdictEqual {
		t.Errorf("%v", got)
	}
	for _, u := range p.Merge.Outcomes {
		if !strings.Contains(fmt.Sprint(u.Notes), "the default is a fifo now") {
			t.Errorf("%s: %q", u.Path, u.Notes)
		}
	}
	b.holds(map[string]string{"mine": "edited\n", "gone": "(absent)", "plain": "(absent)"})
	if said := fmt.Sprint(p.Notices); !strings.Contains(said, "gone (fifo), plain (fifo)") ||
		strings.Contains(said, "mine") {
		t.Errorf("said %q", said)
	}
}
