package overlay

import (
	"context"
	"os"
	"strings"
	"testing"

	"cfgd/internal/ctxio"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// onDemand makes the box's cfg one that is mounted only while a save needs it.
func (b *box) onDemand() {
	b.o.MountCfg = func(context.Context, bool) (func() error, error) {
		return func() error { return nil },
			nil
	}
}

func (b *box) quiet() *Result { return b.o.Unchanged(context.Background(), LookOptions{}) }

func TestQuietOnlyWhereNothingIsToSave(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.onDemand()
	b.populate()
	b.edit("huge", strings.Repeat("x", 2<<20))
	if r := b.save(); len(r.Kept) != 1 {
		t.Fatalf("kept %v", r.Kept)
	}
	if r := b.quiet(); r == nil || len(r.Kept) != 1 {
		t.Errorf("nothing happened, but %+v", r)
	}
	b.edit("rc.conf", "x\n")
	if r := b.quiet(); r != nil {
		t.Errorf("an edit, and %v is quiet", paths(r.View.Unsaved))
	}
	b.save()
	b.remove("huge")
	if r := b.quiet(); r != nil {
		t.Errorf("what was left out is gone, and still told: %v", r.Kept)
	}
}

// A change made by hand in cfg that live takes later is not held for ever: the next edit is no conflict.
func TestQuietForgetsWhatLiveHasTaken(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.onDemand()
	b.populate()
	b.edit("rc.conf", "one\n")
	b.save()
	b.write("jail/cfg/rc.conf", "by hand\n")
	if r := b.save(); len(r.Pending) != 1 {
		t.Fatalf("pending %q", r.Pending)
	}
	b.edit("rc.conf", "by hand\n")
	if r := b.quiet(); r != nil {
		t.Errorf("quiet, with pending %q", r.Pending)
	}
	b.save()
	b.edit("rc.conf", "by hand, and more\n")
	if r := b.save(); len(r.Conflicts) != 0 || b.read("jail/cfg/rc.conf") != "by hand, and more\n" {
		t.Errorf("conflicts %q", r.Conflicts)
	}
}

// A file that could not be read is tried again at every look, because nothing else shows when it can be.
func TestQuietDoesNotRestOnWhatCouldNotBeRead(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.onDemand()
	b.populate()
	r := b.save()
	e := *mustGet(t, r.View.Live, "rc.conf")
	e.Unread = "input/output error"
	r.View.Unsaved = []tree.Change{{Path: "rc.conf", Kind: tree.Modified, New: &e}}
	b.o.cache.remember(r, SaveOptions{}, false)
	if b.o.cache.last.paths != nil {
		t.Error("remembered as left")
	}
	e.Unread = tree.TooLarge
	b.o.cache.remember(r, SaveOptions{}, false)
	if b.o.cache.last.paths == nil {
		t.Error("what is too large is not remembered")
	}
}

func mustGet(t *testing.T, tree *tree.Tree, path string) *tree.Entry {
	t.Helper()
	e, ok := tree.Get(path)
	if !ok {
		t.Fatalf("no %s", path)
	}
	return e
}

// A look that may not write adopts only in memory. The next save adopts on disk and loses no generation.
func TestAdoptionInMemoryIsNotTakenForTheStore(t *testing.T) {
	t.Parallel()
	for name, look := range map[string]func(b *box){
		"a look": func(b *box) { b.look() },
		"a live tree taken over": func(b *box) {
			b.must(b.o.DropRecord())
			b.o = b.overlay()
			_, err := b.o.AdoptLive(context.Background())
			b.must(err)
		},
	} {
		b := newBox(t, etc)
		b.populate()
		b.edit("rc.conf", "one\n")
		b.save()
		b.edit("rc.conf", "two\n")
		b.save()
		b.write("jail/cfg/issue", "by hand\n")
		look(b)
		if r := b.save(); len(r.Conflicts) != 0 || len(r.View.Adopted) != 1 || r.Generation != 3 {
			t.Errorf("%s: adopted %q, conflicts %q, generation %d", name, r.View.Adopted, r.Conflicts,
				r.Generation)
		}
		log, err := b.overlay().History().Log(context.Background())
		b.must(err)
		if len(log) != 3 {
			t.Errorf("%s: %d generations are kept", name, len(log))
		}
		if _, c, err := b.overlay().History().Show(context.Background(), 2, "rc.conf"); err != nil ||
			string(c) != "two\n" {
			t.Errorf("%s: generation 2: %q, %v", name, c, err)
		}
	}
}

// Targets with different max_file share the scan of a base, because max_file does not apply to it.
func TestBaseIsComparedByContentWhateverMaxFileOthersHave(t *testing.T) {
	t.Parallel()
	b := newBox(t, map[string]string{"big": strings.Repeat("x", 2000), "rc.conf": "a\n"})
	b.populate()
	small := b.overlay()
	small.Target.MaxFile, small.Bases = 1000, b.o.Bases
	_, err := small.Look(context.Background(), LookOptions{})
	b.must(err)
	b.edit("big", strings.Repeat("x", 2000)) // equal to the default, with another time
	if r := b.save(); len(r.Saved) != 0 {
		t.Errorf("saved what equals base: %s", paths(r.Saved))
	}
	st, err := os.Stat(b.path("base/big"))
	b.must(err)
	b.edit("big", strings.Repeat("y", 2000))
	b.must(os.Chtimes(b.path("jail/etc/big"), st.ModTime(), st.ModTime()))
	if b.save(); b.read("jail/cfg/big") != strings.Repeat("y", 2000) {
		t.Error("a change of the same size and time is not saved")
	}
}

// A restore that cannot restore everything does not begin. Otherwise the daemon would save half of it.
func TestRestoreChangesNothingUnlessAllIsThere(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	b.edit("local/a", "one\n")
	b.save()
	b.edit("local/a", "two\n")
	b.edit("local/new", "precious\n")
	b.save()
	b.must(os.RemoveAll(b.path("jail/cfg/.cfgd/objects")))
	if _, err := b.o.Restore(context.Background(), From{Generation: 1}, []string{"local"}, ""); err == nil ||
		!strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("%v", err)
	}
	if got := b.read("jail/etc/local/new") + b.read("jail/etc/local/a"); got != "precious\ntwo\n" {
		t.Errorf("live: %q", got)
	}
}

// What a jail puts into its cfg, or forges there, costs neither time nor memory.
func TestHugeContentsInCfg(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	b.edit("rc.conf", "one\n")
	b.save()
	b.must(os.WriteFile(b.path("jail/cfg/big"), nil, 0o644))
	b.must(os.Truncate(b.path("jail/cfg/big"), 1<<40)) // reading it would take an hour
	b.edit("rc.conf", "two\n")
	if r := b.save(); len(r.Saved) != 1 {
		t.Errorf("saved %s", paths(r.Saved))
	}
	m, err := store.ParseManifest([]byte(b.read("jail/cfg/.cfgd/generations/1")))
	b.must(err)
	m.Overrides[0].Size = 1 << 40
	text, err := m.Encode()
	b.must(err)
	b.write("jail/cfg/.cfgd/generations/1", string(text))
	if _, _, err := b.overlay().History().Show(context.Background(), 1, "rc.conf"); err == nil ||
		!strings.Contains(err.Error(), "more than a save keeps") {
		t.Errorf("a forged size: %v", err)
	}
}

func TestScanEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	ctx, cancel := context.WithCancel(context.Background())
	r := ctxio.Reader(ctx, strings.NewReader(strings.Repeat("x", 100)))
	cancel()
	if _, err := tree.DigestOf(r, 100); err == nil {
		t.Error("read on")
	}
	b.populate()
	if _, err := b.o.Save(ctx, SaveOptions{DryRun: true}); err == nil {
		t.Error("a look of which the context has ended")
	}
}
