package overlay

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

func TestPopulateThenScanFindsNothing(t *testing.T) {
	b := newBox(t, etc)
	b.populate()
	v := b.look()
	if v.NotPopulated != nil || len(v.Unsaved) != 0 || len(v.Local) != 0 {
		t.Errorf("after populate: %v, unsaved %s, local %s", v.NotPopulated, paths(v.Unsaved), paths(v.Local))
	}
}

func TestEditDeleteReleaseAcrossRestarts(t *testing.T) {
	b := newBox(t, etc)
	b.populate()
	b.edit("rc.conf", "hostname=\"vhost1\"\n")
	b.edit("local/new/app.conf", "x\n")
	b.remove("hosts")
	b.remove("local/nginx")
	if got := paths(b.look().Visible(b.look().Unsaved)); got != "D hosts, A local/new/app.conf, D "+
		"local/nginx/mime.types, D local/nginx/nginx.conf, M rc.conf" {
		t.Errorf("unsaved: %s", got)
	}
	if r := b.save(); r.Generation != 1 || len(r.View.Unsaved) != 0 {
		t.Errorf("save: generation %d, unsaved %s", r.Generation, paths(r.View.Unsaved))
	}
	want := b.shape("jail/etc")
	b.restart()
	b.same(want, b.shape("jail/etc"))
	if v := b.look(); len(v.Unsaved) != 0 {
		t.Errorf("after restart: unsaved %s", paths(v.Unsaved))
	}

	b.edit("rc.conf", "hostname=\"proto\"\n")
	b.edit("hosts", "127.0.0.1 localhost\n")
	if r := b.save(); len(r.Released) != 1 || r.Released[0] != "rc.conf" {
		t.Errorf("released %v", r.Released)
	}
	if got := b.read("jail/cfg/rc.conf"); got != "(absent)" {
		t.Errorf("cfg still holds what equals base: %q", got)
	}
	if got := b.read("jail/cfg/.cfgd/removed"); got != "local/nginx\n" {
		t.Errorf("removed: %q", got)
	}
	want = b.shape("jail/etc")
	b.restart()
	// their times are base's again, because a time alone is no change
	for _, p := range []string{"rc.conf", "hosts", "ssh", "."} {
		delete(want, p)
	}
	got := b.shape("jail/etc")
	for _, p := range []string{"rc.conf", "hosts", "ssh", "."} {
		delete(got, p)
	}
	b.same(want, got)
}

func TestRestore(t *testing.T) {
	b := newBox(t, etc)
	b.populate()
	b.edit("rc.conf", "one\n")
	b.save()
	b.edit("rc.conf", "two\n")
	b.edit("local/extra", "x\n")
	b.remove("ssh")
	b.save()
	ctx := context.Background()
	if _, err := b.o.Restore(ctx, From{Generation: 1}, []string{"rc.conf", "ssh"}, ""); err != nil {
		t.Fatal(err)
	}
	if got := b.read("jail/etc/rc.conf") + b.read("jail/etc/ssh/sshd_config") +
		b.read("jail/cfg/rc.conf"); got != "one\nPort 22\none\n" {
		t.Errorf("from generation 1: %q", got)
	}
	r, err := b.o.Restore(ctx, From{Base: true}, []string{"rc.conf", "local"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := b.read("jail/etc/rc.conf") + b.read("jail/etc/local/extra") +
		b.read("jail/cfg/rc.conf"); got != etc["rc.conf"]+"(absent)(absent)" {
		t.Errorf("from base: %q", got)
	}
	if len(r.Released) != 1 || len(b.look().Unsaved) != 0 {
		t.Errorf("released %v, unsaved %s", r.Released, paths(b.look().Unsaved))
	}
	b.edit("issue", "unsaved\n")
	if _, err := b.o.Restore(ctx, From{}, []string{"issue"}, ""); err != nil {
		t.Fatal(err)
	}
	if got := b.read("jail/etc/issue"); got != etc["issue"] {
		t.Errorf("from saved: %q", got)
	}
	if _, err := b.o.Restore(ctx, From{}, []string{"no/such"}, ""); err == nil {
		t.Error("a path that is nowhere was restored")
	}
	log, err := b.o.History().Log(ctx)
	if err != nil || len(log) != 4 || log[0].Generation != 4 {
		t.Fatalf("log: %v, %v", log, err)
	}
	if e, c, err := b.o.History().Show(ctx, 2, "rc.conf"); err != nil || e == nil || string(c) != "two\n" {
		t.Errorf("show 2 rc.conf: %v %q %v", e, c, err)
	}
}

func TestGuardHoldsMassLoss(t *testing.T) {
	b := newBox(t, etc)
	b.populate()
	b.edit("rc.conf", "one\n")
	b.save()
	entries, _ := os.ReadDir(b.path("jail/etc"))
	for _, e := range entries {
		b.remove(e.Name())
	}
	_, err := b.o.Save(context.Background(), SaveOptions{})
	if !errors.Is(err, store.ErrHeld) {
		t.Fatalf("an emptied tree was saved: %v", err)
	}
	if got := b.read("jail/cfg/rc.conf"); got != "one\n" {
		t.Errorf("cfg: %q", got)
	}
	b.must(os.Remove(b.path("jail/etc")))
	b.must(os.Mkdir(b.path("jail/etc"), 0o755))
	if _, err := b.o.Save(context.Background(), SaveOptions{Force: true}); !errors.Is(err, ErrNotPopulated) {
		t.Errorf("a live tree that was not populated was saved: %v", err)
	}
}

func TestHandEditedCfgIsAdoptedAndNotOverwritten(t *testing.T) {
	b := newBox(t, etc)
	b.populate()
	b.edit("rc.conf", "one\n")
	b.save()
	b.write("jail/cfg/rc.conf", "by hand\n")
	b.edit("issue", "other\n")
	if r := b.save(); len(r.Conflicts) != 0 || !slices.Equal(r.Pending, []string{"rc.conf"}) {
		t.Errorf("changed in cfg alone: conflicts %v, pending %v", r.Conflicts, r.Pending)
	}
	b.edit("rc.conf", "in live\n")
	if r := b.save(); len(r.Pending) != 0 || !slices.Equal(r.Conflicts, []string{"rc.conf"}) {
		t.Errorf("changed in both: conflicts %v, pending %v", r.Conflicts, r.Pending)
	}
	if got := b.read("jail/cfg/rc.conf") + b.read("jail/cfg/issue"); got != "by hand\nother\n" {
		t.Errorf("cfg: %q", got)
	}
	b.restart()
	if got := b.read("jail/etc/rc.conf"); got != "by hand\n" {
		t.Errorf("live after restart: %q", got)
	}
	b.edit("rc.conf", "again\n")
	if r := b.save(); len(r.Conflicts) != 0 || b.read("jail/cfg/rc.conf") != "again\n" {
		t.Errorf("after live took it: conflicts %v", r.Conflicts)
	}
}

// The fstab of a running jail may already name the next snapshot. Live is still compared with the base it was
// populated from.
func TestLiveStandsOnTheBaseItWasPopulatedFrom(t *testing.T) {
	b := newBox(t, etc)
	b.populate()
	b.edit("rc.conf", "one\n")
	for p, text := range etc {
		b.write("base2/"+p, text+"# of the next release\n")
	}
	b.o.Target.Base, b.o.Target.BaseID = "/base2", "proto/etc@2"
	if r, err := b.o.Save(context.Background(), SaveOptions{}); err != nil || len(r.Saved) != 1 ||
		r.View.Base.ID != "proto/etc@1" {
		t.Fatalf("saved %s against %s, %v", paths(r.Saved), r.View.Base.ID, err)
	}
	b.must(b.o.Clear(context.Background()))
	b.populate()
	v := b.look()
	if v.Base.ID != "proto/etc@2" || paths(v.Local) != paths(v.Stored) || len(v.Unsaved) != 0 {
		t.Errorf("started on %s: local %s, unsaved %s", v.Base.ID, paths(v.Local), paths(v.Unsaved))
	}
}

// A scan of one directory must not give another directory, which changed meanwhile, its new stamp: its names
// were not listed.
func TestPartialScanBelievesNoStampOfWhatItDidNotList(t *testing.T) {
	b := newBox(t, etc)
	later := func() time.Time { return time.Now().Add(time.Hour) } // nothing is fresh
	scan := func(prev *tree.Tree, dirty ...string) *tree.Tree {
		b.Helper()
		d, err := dirfd.Open(b.path("base"), nil)
		b.must(err)
		defer d.Close()
		o := tree.ScanOptions{Prev: prev, Now: later}
		for _, p := range dirty {
			if o.Dirty == nil {
				o.Dirty = map[string]bool{}
			}
			o.Dirty[p] = true
		}
		tree, err := tree.Scan(context.Background(), d, o)
		b.must(err)
		return tree
	}
	first := scan(nil)
	b.write("base/new", "n")
	b.write("base/local/new", "n")
	b.write("base/local/nginx/new", "n")
	part := scan(first, "local/nginx")
	if !part.Has("local/nginx/new") || part.Has("new") || part.Has("local/new") {
		t.Fatalf("a look at local/nginx alone: %v", part.Dirs())
	}
	again := scan(part, "local/nginx")
	if all := scan(again); !all.Has("new") || !all.Has("local/new") {
		t.Error("what appeared in directories that were not looked at is never found")
	}
}

// What a filesystem keeps at its own top is no override, is not copied to live, and stays where it is.
func TestFilesystemsOwnNames(t *testing.T) {
	b := newBox(t, etc)
	for _, name := range []string{".snap/1", ".sujournal", "lost+found/#1"} {
		b.write("base/"+name, "the filesystem's\n")
		b.write("jail/cfg/"+name, "the filesystem's\n")
	}
	b.populate()
	b.edit("rc.conf", "edited\n")
	b.edit("local/.sujournal", "a person's\n") // below the top the name means nothing special
	r := b.save()
	if got := paths(r.View.Stored); got != "A local/.sujournal, M rc.conf" {
		t.Errorf("stored %s", got)
	}
	b.restart()
	for _, name := range []string{".snap/1", ".sujournal", "lost+found/#1"} {
		if live, cfg := b.read("jail/etc/"+name), b.read("jail/cfg/"+name); live != "(absent)" ||
			cfg != "the filesystem's\n" {
			t.Errorf("%s: live %q, cfg %q", name, live, cfg)
		}
	}
}
