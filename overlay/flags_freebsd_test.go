package overlay

import (
	"context"
	"os"
	"path"
	"testing"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

// flag sets flags in live. It skips the test if they can't be set or the filesystem has none.
func (b *box) flag(t *testing.T, p string, flags uint32) {
	t.Helper()
	d, name := b.above(t, p)
	defer d.Close()
	if err := d.SetFlags(name, flags); err != nil {
		t.Skipf("%s of %s can't be set: %v", dirfd.FlagNames(flags), p, err)
	}
	if st, err := d.Stat(name); err != nil || st.Flags != flags {
		t.Skipf("this filesystem has no %s: %v", dirfd.FlagNames(flags), err)
	}
}

// above is the directory in live that holds p.
func (b *box) above(t *testing.T, p string) (*dirfd.Dir, string) {
	t.Helper()
	d, err := dirfd.OpenBelow(b.path("jail/etc"), pathname.Parent(p), nil)
	if err != nil {
		t.Fatal(err)
	}
	return d, path.Base(p)
}

func (b *box) flagged(t *testing.T, want map[string]uint32) {
	t.Helper()
	for p, flags := range want {
		d, name := b.above(t, p)
		st, err := d.Stat(name)
		d.Close()
		if err != nil || st.Flags != flags {
			t.Errorf("%s has flags %q, want %q, %v", p, dirfd.FlagNames(st.Flags), dirfd.FlagNames(flags),
				err)
		}
	}
}

// Flags of files with two names, of links and of directories are saved, are set again after a start, and go
// when they are removed. A jail with an immutable file starts like any other.
func TestFlagsTravel(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct {
		name         string
		file, closed uint32
	}{{"system", schg, schg}, {"user", uchg, uchg}} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, etc)
			t.Cleanup(func() { // the testing package's own removal would fail
				if err := dirfd.RemoveTree(b.path("jail"), nil); err != nil {
					t.Error(err)
				}
			})
			b.populate()
			b.edit("one", "linked\n")
			b.must(os.Mkdir(b.path("jail/etc/other"), 0o755))
			b.must(os.Link(b.path("jail/etc/one"), b.path("jail/etc/other/two")))
			b.must(os.Symlink("one", b.path("jail/etc/other/link")))
			b.edit("other/plain", "x\n")
			want := map[string]uint32{
				"one":         kind.file,
				"other/two":   kind.file,
				"other/link":  kind.file,
				"rc.conf":     kind.file,
				"other":       kind.closed,
				"ssh":         kind.closed,
				"other/plain": 0,
			}
			for _, p := range []string{"one", "other/link", "rc.conf", "other", "ssh"} {
				b.flag(t, p, want[p])
			}
			b.save()
			for range 2 {
				b.restart()
				b.flagged(t, want)
				if v := b.look(); len(v.Unsaved) != 0 {
					t.Errorf("unsaved %s", paths(v.Unsaved))
				}
			}
			// A restore works below and on them.
			if _, err := b.o.Restore(context.Background(), From{Base: true},
				[]string{"rc.conf", "ssh", "other/plain"}, ""); err != nil {
				t.Fatal(err)
			}
			want["rc.conf"], want["ssh"] = 0, 0
			delete(want, "other/plain")
			b.flagged(t, want)
			b.restart()
			b.flagged(t, want)
			for _, p := range []string{"other", "one", "other/link"} {
				b.flag(t, p, 0)
			}
			b.save()
			b.restart()
			b.flagged(t, map[string]uint32{"one": 0, "other/two": 0, "other/link": 0, "other": 0})
		})
	}
}
