package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"cfgd/internal/machinetest"
)

// carry copies a tree with all times, as cp(1) and a populate do.
func (b *files) carry(from, to string) {
	b.Helper()
	if out, err := exec.Command("cp", "-Rp", b.path(from), b.path(to)).CombinedOutput(); err != nil {
		b.Fatalf("cp: %v: %s", err, out)
	}
}

// strange puts another directory in live's place and drops the record.
func (b *box) strange(tree string) {
	b.Helper()
	b.must(os.RemoveAll(b.path("jail/etc")))
	b.must(os.Rename(b.path(tree), b.path("jail/etc")))
	b.must(os.RemoveAll(b.o.RunDir))
	b.o = b.overlay()
}

// isEarlier checks that nobody takes over live or saves it, and that each error says why.
func (b *box) isEarlier(what string) {
	b.Helper()
	before := b.shape("jail/cfg")
	for range 2 {
		var e *EarlierError
		if _, err := b.o.AdoptLive(context.Background()); !errors.As(err, &e) ||
			!errors.Is(err, ErrNotPopulated) {
			b.Errorf("%s: adopted: %v", what, err)
		}
		if _, err := b.o.Save(context.Background(), SaveOptions{Force: true, Times: true}); !errors.As(
			err,
			&e,
		) {
			b.Errorf("%s: saved: %v", what, err)
		}
		if err := b.o.Earlier(); !errors.As(err, &e) || e.Record.Identity == "" {
			b.Errorf("%s: %v", what, err)
		}
		b.o = b.overlay() // of another process
	}
	b.same(before, b.shape("jail/cfg"))
}

// generationTrees returns a target with generations that each rewrite a file and add one. Tree N is a copy of
// live after generation N.
func generationTrees(t *testing.T, n int) *box {
	b := newBoxIn(t, machinetest.MemDir(t), etc)
	b.populate()
	for i := 1; i <= n; i++ {
		b.edit("rc.conf", fmt.Sprintf("generation %d\n", i))
		b.edit(fmt.Sprintf("new%d", i), "new\n")
		if r := b.save(); r.Generation != i {
			t.Fatalf("generation %d, want %d", r.Generation, i)
		}
		b.carry("jail/etc", fmt.Sprintf("tree%d", i))
	}
	return b
}

// Every tree of an older generation is recognized, and the one of the present generation is taken over.
func TestTreesOfOlderGenerations(t *testing.T) {
	t.Parallel()
	const n = 5
	b := generationTrees(t, n)
	for i := 1; i < n; i++ {
		b.strange(fmt.Sprintf("tree%d", i))
		b.isEarlier(fmt.Sprint("generation ", i))
	}
	b.strange(fmt.Sprintf("tree%d", n))
	if _, err := b.o.AdoptLive(context.Background()); err != nil {
		t.Error(err)
	}
}

// Edits in an old tree do not hide that it is old. Edits in the present one, or files put back by hand, do
// not make it old.
func TestOldAndEdited(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tree string
		edit func(b *box)
		old  bool
	}{
		"old, and edited": {"tree2", func(b *box) { b.edit("hosts", "edited\n"); b.remove("new1") },
			true},
		"old, and edited alike": {"tree2", func(b *box) { b.edit("new3", "new\n") }, true},
		"edited": {"tree4",
			func(b *box) { b.edit("rc.conf", "edited\n"); b.edit("more", "more\n") }, false},
		"put back by hand":      {"tree4", func(b *box) { b.edit("rc.conf", "generation 3\n") }, false},
		"the last file removed": {"tree4", func(b *box) { b.remove("new4") }, false},
		"all of the last undone": {"tree4",
			func(b *box) { b.edit("rc.conf", "generation 3\n"); b.remove("new4") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := generationTrees(t, 4)
			b.strange(c.tree)
			c.edit(b)
			if c.old {
				b.isEarlier(name)
				return
			}
			if _, err := b.o.AdoptLive(context.Background()); err != nil {
				t.Fatal(err)
			}
			b.save()
			b.o = b.overlay()
			if v := b.look(); len(v.Unsaved) > 0 {
				t.Errorf("unsaved: %s", paths(v.Unsaved))
			}
		})
	}
}

// A stock tool that copies base and cfg brings back what was removed. That is not an old tree.
func TestPlainCopyIsNotOld(t *testing.T) {
	t.Parallel()
	b := generationTrees(t, 2)
	b.remove("issue")
	b.remove("new1")
	b.save()
	b.carry("base", "plain")
	b.must(os.Chmod(b.path("plain"), 0o755))
	if out, err := exec.Command("cp", "-Rp", b.path("jail/cfg")+"/.",
		b.path("plain")).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	b.must(os.RemoveAll(b.path("plain/.cfgd")))
	b.strange("plain")
	if _, err := b.o.AdoptLive(context.Background()); err != nil {
		t.Error(err)
	}
}

// A tree that was hidden is recognized by its identity, whatever is in it, even if its record can't be read.
// A directory that is populated again is no longer an old tree.
func TestHiddenIsKnown(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(file string) error{
		"kept":    func(string) error { return nil },
		"damaged": func(file string) error { return os.WriteFile(file, []byte("{"), 0o600) },
		"empty":   func(file string) error { return os.Truncate(file, 0) },
	} {
		b := generationTrees(t, 2)
		r, err := b.o.Record()
		b.must(err)
		b.must(b.o.KeepHidden(r))
		b.must(b.o.DropRecord())
		b.must(spoil(b.o.hiddenRecord(r.Identity)))
		b.o = b.overlay()
		b.isEarlier(name)
		b.must(b.o.WriteRecord(&Record{Identity: "of a later start", State: Populated, Time: time.Now()}))
		b.isEarlier(name + ", beside a later one's record")
		live, err := b.o.OpenLive()
		b.must(err)
		b.must(live.Clear())
		live.Close()
		b.populate()
		b.save()
		b.must(b.o.DropRecord())
		if err := b.o.Earlier(); err != nil {
			t.Errorf("%s: populated anew: %v", name, err)
		}
	}
}
