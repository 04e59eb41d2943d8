package overlay

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/machinetest"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// If cfg's filesystem refuses one attribute or all, none is lost: what is saved counts as saved, is not saved
// again, and is there after a start. This is true of files, of saved directories, and of directories that
// only hold others.
func TestAttributesThatCfgRefuses(t *testing.T) {
	t.Parallel()
	const slash, plain = "user.a/b", "user.plain"
	for name, refuses := range map[string]func(string) bool{
		"one": func(x string) bool { return x == slash }, "all": func(string) bool { return true },
		"none": func(string) bool { return false },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, etc)
			var saving atomic.Bool
			var changes atomic.Int32
			hook := func(op dirfd.Op) error {
				if !saving.Load() {
					return nil
				}
				changes.Add(1)
				if op.Kind == "xattr" && refuses(op.To) {
					return unix.EOPNOTSUPP
				}
				return nil
			}
			start := func() { b.o = b.overlay(); b.o.Hook = hook; b.populate() }
			save := func() {
				t.Helper()
				saving.Store(true)
				r := b.save()
				saving.Store(false)
				if len(r.Kept)+len(r.Conflicts) > 0 {
					t.Errorf("kept %v, conflicts %v", r.Kept, r.Conflicts)
				}
			}
			idle := func(when string) {
				t.Helper()
				if v := b.look(); len(v.Unsaved)+len(v.Adopted) > 0 {
					t.Errorf("%s: unsaved %s, adopted %q", when, paths(v.Unsaved), v.Adopted)
				}
				was := changes.Load()
				save()
				if n := changes.Load() - was; n > 0 {
					t.Errorf("%s: a save without changes changes %d things in cfg", when, n)
				}
			}
			want := map[string][2]string{}
			set := func(p, a, c string) {
				t.Helper()
				for _, full := range []string{b.path("jail/etc/" + p)} {
					setXattr(t, full, slash, a)
					setXattr(t, full, plain, c)
				}
				want[p] = [2]string{a, c}
			}
			check := func(when string) {
				t.Helper()
				for p, w := range want {
					full := b.path("jail/etc/" + p)
					if got := [2]string{getXattr(full, slash), getXattr(full, plain)}; got != w {
						t.Errorf("%s: %s has %q, want %q", when, p, got, w)
					}
				}
			}
			setXattr(t, b.path("base/periodic"), slash, "base")
			setXattr(t, b.path("base/periodic"), plain, "base")
			want["periodic"] = [2]string{"base", "base"}
			start()
			idle("after a start")
			b.edit("periodic/daily/100.clean", "mine\n") // so that periodic is in cfg
			b.edit("new/one", "1\n")
			for _, p := range []string{"hosts", "ssh", "new", "new/one"} {
				set(p, "1", "2")
			}
			save()
			for range 2 {
				idle("saved")
				b.must(b.o.Clear(t.Context()))
				start()
				check("after a start")
				idle("after a start")
			}
			set("hosts", "other", "2")
			set("ssh", "other", "2")
			save()
			idle("changed")
			// Somebody edits the file in cfg in place, and another file beside it.
			b.write("jail/cfg/hosts", "by hand\n")
			b.write("jail/cfg/other", "by hand\n")
			b.must(b.o.Clear(t.Context()))
			start()
			check("after an edit in cfg")
			idle("after an edit in cfg")
			for _, p := range []string{"hosts", "ssh"} {
				b.must(unix.Removexattr(b.path("jail/etc/"+p), slash))
				want[p] = [2]string{"(none)", "2"}
			}
			save()
			idle("removed")
			b.must(b.o.Clear(t.Context()))
			start()
			check("removed")
			idle("removed, after a start")
		})
	}
}

// An attribute that cfg could hold and that somebody removed there is not brought back.
func TestAttributeRemovedInCfg(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	setXattr(t, b.path("jail/etc/hosts"), "user.one", "1")
	b.save()
	b.must(unix.Removexattr(b.path("jail/cfg/hosts"), "user.one"))
	b.restart()
	if got := getXattr(b.path("jail/etc/hosts"), "user.one"); got != "(none)" {
		t.Errorf("%q", got)
	}
}

// crowd gives a file or directory more attributes than can be listed, if the filesystem allows it.
func crowd(t *testing.T, full string) {
	t.Helper()
	for i := range 300 {
		name := fmt.Sprintf("user.%04d%s", i, strings.Repeat("x", 240))
		if err := unix.Lsetxattr(full, name, nil, 0); err != nil {
			t.Skipf("this filesystem holds fewer: %v", err)
		}
	}
	if _, err := unix.Llistxattr(full, make([]byte, 1<<20)); err == nil {
		t.Skip("this system lists as many attributes as there are")
	}
}

// If the attributes of a directory can't be listed, what is below it is saved, and so is all else of the
// directory, and of such a file. Attributes that were saved stay. The path is listed and counts as unsaved.
// An archive has all of it except the attributes, and lists those.
func TestAttributesThatCanNotBeListed(t *testing.T) {
	t.Parallel()
	b := newBoxIn(t, machinetest.MemDir(t), etc)
	b.populate()
	live := func(p string) string { return b.path("jail/etc/" + p) }
	setXattr(t, live("ssh"), "user.kept", "1")
	b.save()
	b.edit("new/deep/file", "new\n")
	b.edit("ssh/sshd_config", "edited\n")
	b.edit("hosts", "edited\n")
	b.remove("local/nginx/mime.types")
	b.must(os.Chmod(live("ssh"), 0o750))
	crowded := []string{"hosts", "local/nginx", "new", "new/deep", "ssh"}
	for _, p := range crowded {
		crowd(t, live(p))
	}
	for range 2 {
		r := b.save()
		var kept []string
		for _, k := range r.Kept {
			kept = append(kept, k.Path)
			if !strings.Contains(string(k.Reason), "attributes can't all be read") ||
				k.Class == config.Report {
				t.Errorf("%+v", k)
			}
		}
		if !slices.Equal(kept, crowded) {
			t.Errorf("kept %q", kept)
		}
		var unsaved []string
		for _, c := range r.View.Visible(r.View.Unsaved) {
			unsaved = append(unsaved, c.Path)
		}
		if !slices.Equal(unsaved, crowded) {
			t.Errorf("unsaved %q", unsaved)
		}
	}
	g := b.o.cache.store.Manifest.Generation
	if r := b.save(); r.Generation != g || len(r.Saved) > 0 {
		t.Errorf("saved again: %+v", r)
	}
	saved := map[string]string{"new/deep/file": "new\n", "ssh/sshd_config": "edited\n", "hosts": "edited\n"}
	for p, want := range saved {
		if got := b.read("jail/cfg/" + p); got != want {
			t.Errorf("in cfg %s: %q", p, got)
		}
	}
	var archive strings.Builder
	if _, err := b.o.Rescue(t.Context(), &archive, RescueOptions{}); err != nil {
		t.Error(err)
	}
	for _, p := range append(crowded, "new/deep/file") {
		if !strings.Contains(archive.String(), p) {
			t.Errorf("the archive has no %s", p)
		}
	}
	if n := strings.Count(archive.String(), "attributes can't all be read"); n != len(crowded) {
		t.Errorf("the archive names %d of %d", n, len(crowded))
	}
	b.restart()
	if st, err := os.Stat(live("ssh")); err != nil || st.Mode().Perm() != 0o750 {
		t.Errorf("ssh: %v, %v", st, err)
	}
	if got := getXattr(live("ssh"), "user.kept"); got != "1" {
		t.Errorf("user.kept is %q", got)
	}
	if got := b.read("jail/etc/local/nginx/mime.types"); got != "(absent)" {
		t.Errorf("removed below it, and %q", got)
	}
	if v := b.look(); len(v.Unsaved) > 0 {
		t.Errorf("unsaved %s", paths(v.Unsaved))
	}
}

// The same in cfg prevents no save and no start.
func TestAttributesInCfgThatCanNotBeListed(t *testing.T) {
	t.Parallel()
	b := newBoxIn(t, machinetest.MemDir(t), etc)
	b.populate()
	setXattr(t, b.path("jail/etc/ssh"), "user.kept", "1")
	b.edit("ssh/sshd_config", "1\n")
	b.save()
	crowd(t, b.path("jail/cfg/ssh"))
	crowd(t, b.path("jail/cfg/ssh/sshd_config"))
	b.edit("ssh/sshd_config", "2\n")
	b.must(os.Chmod(b.path("jail/etc/ssh"), 0o700))
	b.save()
	b.restart()
	got := b.read("jail/etc/ssh/sshd_config") + getXattr(b.path("jail/etc/ssh"), "user.kept")
	if got != "2\n1" {
		t.Errorf("%q", got)
	}
	if v := b.look(); len(v.Unsaved) > 0 {
		t.Errorf("unsaved %s", paths(v.Unsaved))
	}
}

// A directory that can't be read or is too deep is listed, counts as unsaved, and makes an archive
// incomplete, because what is in it is nowhere else.
func TestDirectoryThatCanNotBeRead(t *testing.T) {
	t.Parallel()
	deep := "deep" + strings.Repeat("/d", tree.MaxDepth+1)
	for _, p := range []string{"shut", deep} {
		if p == "shut" && tree.Privileged {
			continue // root ignores modes
		}
		b := newBox(t, etc)
		b.populate()
		b.edit(p+"/file", "x\n")
		b.edit("hosts", "edited\n")
		if p == "shut" {
			b.must(os.Chmod(b.path("jail/etc/shut"), 0))
			t.Cleanup(func() { os.Chmod(b.path("jail/etc/shut"), 0o700) })
		}
		r := b.save()
		if b.read("jail/cfg/hosts") != "edited\n" {
			t.Error("what can be read is not saved")
		}
		if len(r.Kept) != 1 || r.Kept[0].Class == config.Report || !pathname.Within(p, r.Kept[0].Path) {
			t.Errorf("kept %+v", r.Kept)
		}
		if len(r.View.Visible(r.View.Unsaved)) == 0 {
			t.Error("nothing is unsaved")
		}
		if _, err := b.o.Rescue(t.Context(), &strings.Builder{}, RescueOptions{}); err == nil {
			t.Errorf("%s: an archive without it is said to be whole", p)
		}
	}
}
