package overlay

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// What a live filesystem refuses when it is populated is no edit: nothing is unsaved, nothing is written, and
// an edit of such a file loses none of it. A later start on another filesystem has all of it.
func TestAttributesThatLiveRefuses(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	var populating, refusing atomic.Bool
	var changes atomic.Int32
	hook := func(op dirfd.Op) error {
		changes.Add(1)
		if op.Kind == "xattr" && op.To == "user.big" && populating.Load() && refusing.Load() {
			return unix.EOPNOTSUPP
		}
		return nil
	}
	start := func() *Population {
		b.must(b.o.Clear(context.Background()))
		b.o = b.overlay()
		b.o.Hook = hook
		populating.Store(true)
		defer populating.Store(false)
		return b.populate()
	}
	idle := func(when string) {
		t.Helper()
		b.o = b.overlay() // another process
		b.o.Hook = hook
		for range 2 {
			if v := b.look(); len(v.Unsaved) > 0 {
				t.Errorf("%s: unsaved %s", when, paths(v.Unsaved))
			}
			was := changes.Load()
			if r := b.save(); len(r.Saved) > 0 || changes.Load() != was {
				t.Errorf("%s: saved %s, %d changes", when, paths(r.Saved), changes.Load()-was)
			}
		}
	}
	b.must(os.Link(b.path("base/hosts"), b.path("base/periodic/hosts")))
	all := []string{"hosts", "periodic/hosts", "ssh", "ssh/sshd_config", "local/nginx", "mine", "mine/file"}
	for _, p := range []string{"hosts", "ssh", "ssh/sshd_config"} {
		setXattr(t, b.path("base/"+p), "user.big", p)
	}
	start()
	b.edit("mine/file", "x\n")
	for _, p := range []string{"local/nginx", "mine", "mine/file"} {
		setXattr(t, b.path("jail/etc/"+p), "user.big", p)
	}
	b.save()
	refusing.Store(true)
	if p := start(); len(p.Notices) != 1 {
		t.Errorf("notices %q", p.Notices)
	}
	for _, p := range all {
		if got := getXattr(b.path("jail/etc/"+p), "user.big"); got != "(none)" {
			t.Errorf("%s has %q", p, got)
		}
	}
	idle("after a start")
	b.edit("ssh/sshd_config", "edited\n")
	b.edit("mine/file", "edited\n")
	b.must(os.Chmod(b.path("jail/etc/ssh"), 0o700))
	b.save()
	idle("after an edit")
	// A new file of the same name is another file, and has only its own attributes.
	full := b.path("jail/etc/mine/file")
	b.must(errors.Join(os.WriteFile(full+".new", []byte("new\n"), 0o644), os.Rename(full+".new", full)))
	b.save()
	idle("after another file came")
	refusing.Store(false)
	start()
	for _, p := range all {
		want := p
		switch p {
		case "mine/file":
			want = "(none)"
		case "periodic/hosts":
			want = "hosts"
		}
		if got := getXattr(b.path("jail/etc/"+p), "user.big"); got != want {
			t.Errorf("%s has %q, want %q", p, got, want)
		}
	}
	if b.read("jail/etc/ssh/sshd_config")+b.read("jail/etc/mine/file") != "edited\nnew\n" {
		t.Error("edits are lost")
	}
	idle("at the end")
}

// The same for flags that a live filesystem does not have. Linux has none of them.
func TestFlagsThatLiveLacks(t *testing.T) {
	t.Parallel()
	for _, links := range []bool{true, false} {
		from, flagged := flaggedTree(t)
		if !links {
			for i := range flagged.Entries {
				flagged.Entries[i].ClearStamp()
			}
		}
		base, err := dirfd.Open(from, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer base.Close()
		live, err := dirfd.Open(t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = live.Clear(); live.Close() })
		refused, err := tree.Copy{Saved: flagged, Base: base, To: live}.Run(context.Background())
		if err != nil {
			t.Skipf("flags that can't be set: %v", err)
		}
		now, err := tree.Scan(t.Context(), live, tree.ScanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if c := tree.Delta(flagged, now.WithRefused(refused, flagged)); len(c) > 0 {
			t.Errorf("links %v: %s", links, paths(c))
		}
	}
}
