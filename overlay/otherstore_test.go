package overlay

import (
	"cfgd/internal/machinetest"
	"cfgd/overlay/store"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// elsewhere returns an overlay that reaches cfg at another directory.
func (b *box) elsewhere(dir string) *Overlay {
	b.o.Forget()
	b.o = b.overlay()
	b.o.CfgAt = b.path(dir)
	return b.o
}

// other makes the store of another target, with n generations.
func (b *box) other(dir string, n int) {
	b.Helper()
	x := newBoxIn(b, machinetest.MemDir(b), etc)
	x.populate()
	for i := 1; i <= n; i++ {
		x.edit("rc.conf", fmt.Sprintf("of the other, %d\n", i))
		x.save()
	}
	b.must(os.Rename(x.path("jail/cfg"), b.path(dir)))
}

// A store is written only if it continues the one that live was populated from or last saved to.
func TestStoreContinues(t *testing.T) {
	t.Parallel()
	nothing := func(*box) {}
	for name, c := range map[string]struct {
		saved int // generations before
		spoil func(b *box)
		other bool
	}{
		"the same, moved": {3,
			func(b *box) { b.must(os.Rename(b.path("jail/cfg"), b.path("at"))) }, false},
		"a copy": {3, func(b *box) { b.carry("jail/cfg", "at") }, false},
		"a copy, edited by hand": {3,
			func(b *box) { b.carry("jail/cfg", "at"); b.write("at/own", "by hand\n") }, false},
		"a copy, and nothing saved": {0, func(b *box) { b.carry("jail/cfg", "at") }, false},
		"another's":                 {3, func(b *box) { b.other("at", 3) }, true},
		"another's, longer":         {3, func(b *box) { b.other("at", 7) }, true},
		"another's, shorter":        {3, func(b *box) { b.other("at", 1) }, true},
		"another's, of nothing":     {0, func(b *box) { b.other("at", 2) }, true},
		"an empty .cfgd": {3, func(b *box) { b.must(os.MkdirAll(b.path("at/.cfgd"), 0o700)) },
			true},
		"an empty .cfgd, and nothing": {0, func(b *box) { b.must(os.MkdirAll(b.path("at/.cfgd"), 0o700)) },
			true},
		"the manifest is torn": {3,
			func(b *box) { b.carry("jail/cfg", "at"); b.must(os.Truncate(b.path("at/.cfgd/manifest"), 9)) },
			true},
		"a copy of before": {3, func(b *box) { b.must(os.Rename(b.path("copy1"), b.path("at"))) },
			true},
		"another's, without a record": {3,
			func(b *box) { b.other("at", 3); b.must(os.Remove(b.o.lastStorePath())) }, false},
		"another's, a damaged record": {3,
			func(b *box) { b.other("at", 3); b.must(os.Truncate(b.o.lastStorePath(), 1)) }, false},
		"a copy, older than its edits": {3,
			func(b *box) { b.carry("jail/cfg", "at"); b.edit("hosts", "edited\n") }, false},
		"no store": {3, func(b *box) { b.must(os.Mkdir(b.path("at"), 0o755)) }, true},
		"its own":  {3, nothing, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBoxIn(t, machinetest.MemDir(t), etc)
			b.populate()
			for i := 1; i <= c.saved; i++ {
				b.edit("rc.conf", fmt.Sprintf("generation %d\n", i))
				b.save()
				if i == 1 {
					b.carry("jail/cfg", "copy1")
				}
			}
			c.spoil(b)
			at := "at"
			if _, err := os.Stat(b.path(at)); err != nil {
				at = "jail/cfg"
			}
			b.edit("issue", "unsaved\n")
			o := b.elsewhere(at)
			before := b.shape(at)
			_, err := o.Save(context.Background(), SaveOptions{})
			switch {
			case !c.other && err != nil:
				t.Fatal(err)
			case !c.other:
				if got := b.read(at + "/issue"); got != "unsaved\n" {
					t.Errorf("not saved: %q", got)
				}
				return
			case errors.Is(err, ErrNoStore):
			case !errors.Is(err, ErrOtherStore) || !errors.Is(err, store.ErrHeld):
				t.Fatalf("saved: %v", err)
			case !strings.Contains(err.Error(), b.path(at)) || !strings.Contains(err.Error(), "/jail/cfg"):
				t.Errorf("the directories are not named: %v", err)
			}
			b.same(before, b.shape(at))
			if _, err := o.Save(context.Background(), SaveOptions{DryRun: true}); err == nil {
				t.Error("a dry run tells nothing")
			}
			b.same(before, b.shape(at))
		})
	}
}

// Another filesystem at cfg's own place is not written either, unless forced.
func TestOtherStoreInItsPlace(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 2} {
		b := newBoxIn(t, machinetest.MemDir(t), etc)
		b.populate()
		for i := range n {
			b.edit("rc.conf", fmt.Sprint(i))
			b.save()
		}
		b.must(os.Rename(b.path("jail/cfg"), b.path("own")))
		b.must(os.Mkdir(b.path("jail/cfg"), 0o755)) // as a filesystem that was mounted over it
		b.edit("hosts", "edited\n")
		b.o = b.overlay()
		if _, err := b.o.Save(context.Background(), SaveOptions{}); !errors.Is(err, ErrOtherStore) {
			t.Fatalf("%d: %v", n, err)
		}
		if names, err := os.ReadDir(b.path("jail/cfg")); err != nil || len(names) > 0 {
			t.Errorf("%d: written: %v, %v", n, names, err)
		}
		if _, err := b.o.Save(context.Background(), SaveOptions{Force: true}); err != nil ||
			b.read("jail/cfg/hosts") != "edited\n" {
			t.Errorf("%d: forced: %v", n, err)
		}
		b.edit("hosts", "edited again\n")
		b.save() // from now on the store is the one that was forced
	}
}

// Whatever happens to a store while live is in use, live may still be saved to it, and to a copy of it made
// at any moment.
func TestStoreContinuesThrough(t *testing.T) {
	t.Parallel()
	b := newBoxIn(t, machinetest.MemDir(t), etc)
	b.populate()
	at := 0
	check := func(what string) {
		t.Helper()
		at++
		copied := fmt.Sprintf("copy%d", at)
		b.carry("jail/cfg", copied)
		d := b.elsewhere(copied)
		dir, err := d.OpenCfg()
		b.must(err)
		defer dir.Close()
		if err := d.continues(dir); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		b.o = b.overlay()
	}
	check("populated")
	b.o.Target.KeepGenerations = 1
	for i := range 5 {
		b.edit("rc.conf", fmt.Sprint(i))
		_, err := b.o.Save(context.Background(), SaveOptions{})
		b.must(err)
		check("saved, and the one before pruned")
		b.o.Target.KeepGenerations = 1
	}
	for i := range 3 {
		b.write("jail/cfg/hosts", fmt.Sprintf("by hand %d\n", i))
		if _, err := b.o.Look(context.Background(), LookOptions{}); err != nil {
			t.Fatal(err)
		}
		check("edited by hand, and looked at")
		if _, err := b.o.Look(context.Background(), LookOptions{Lock: true}); err != nil {
			t.Fatal(err)
		}
		check("edited by hand, and adopted")
	}
	_, _, err := b.o.Rollback(context.Background(), b.look().Current.Generation)
	b.must(err)
	check("rolled back")
	b.restart()
	check("populated again")
}
