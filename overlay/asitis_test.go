package overlay

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// A file that changes between the scan and the copy, or while it is copied, is left for later. If it is
// overdue, one read of it is saved, with what the manifest says of it. If it was emptied meanwhile, is
// gone or is too large, it is left in any case.
func TestAFileThatNeverRests(t *testing.T) {
	t.Parallel()
	old := strings.Repeat("0123456789abcde\n", 16<<10) // 256 KiB, several reads
	half := old[:len(old)/2]
	cases := map[string]struct {
		change         func(b *box, path string)
		before, during string // what is saved of it, "" for what was saved before
	}{
		"appended": {func(b *box, p string) { b.append(p, "more\n") }, old + "more\n", old},
		"rewritten, and longer": {
			func(b *box, p string) { b.must(os.WriteFile(p, []byte(half+old), 0o644)) }, half + old, old,
		},
		"cut off":  {func(b *box, p string) { b.must(os.Truncate(p, int64(len(half)))) }, half, half},
		"emptied":  {func(b *box, p string) { b.must(os.Truncate(p, 0)) }, "", ""},
		"removed":  {func(b *box, p string) { b.must(os.Remove(p)) }, "", old},
		"replaced": {func(b *box, p string) { b.must(os.Remove(p)); b.must(os.Symlink("x", p)) }, "", old},
		"renamed over": {
			func(b *box, p string) {
				b.must(os.WriteFile(p+"~", []byte("n"), 0o600))
				b.must(os.Rename(p+"~", p))
			}, "n", old,
		},
		"too large": {func(b *box, p string) { b.must(os.Truncate(p, 1<<20+1)) }, "", old},
	}
	for name, c := range cases {
		for _, overdue := range []bool{false, true} {
			for _, during := range []bool{false, true} {
				b := newBox(t, map[string]string{"f": "default\n"})
				b.populate()
				b.write("jail/etc/f", "saved\n")
				b.write("jail/etc/rests", "1\n")
				b.save()
				b.write("jail/etc/f", old)
				b.write("jail/etc/rests", "2\n")
				want := "saved\n"
				if overdue {
					want = c.before
					if during {
						want = c.during
					}
				}
				r := b.changing(overdue, during, func() { c.change(b, b.path("jail/etc/f")) })
				left := slices.Equal(r.Unsettled, []string{"f"})
				if want == "" {
					want = "saved\n"
				}
				if got := b.read("jail/cfg/f"); got != want || left != (want == "saved\n") ||
					b.read("jail/cfg/rests") != "2\n" {
					t.Errorf("%s, overdue %v, during the copy %v: saved %d bytes, want %d; left %q", name,
						overdue, during, len(got), len(want), r.Unsettled)
				}
				b.sound()
			}
		}
	}
}

// changing saves while a function changes a file, once, before the copy or during it.
func (b *box) changing(overdue, during bool, change func()) *Result {
	b.Helper()
	once := sync.OnceFunc(change)
	so := SaveOptions{Ready: func(c tree.Change) Readiness {
		if !during {
			once()
		}
		if overdue && c.Path == "f" {
			return Overdue
		}
		return Settled
	}}
	if during {
		b.o.Hook = func(op dirfd.Op) error {
			if len(op.Data) > 64<<10 { // the first part of f was read
				once()
			}
			return nil
		}
	}
	r, err := b.o.Save(context.Background(), so)
	b.must(err)
	b.o.Hook = nil
	return r
}

// sound checks that a new process finds nothing changed by hand in cfg, and saves what live has.
func (b *box) sound() {
	b.Helper()
	b.settled()
	b.o = b.overlay()
	r, err := b.o.Save(context.Background(), SaveOptions{})
	b.must(err)
	if len(r.Conflicts) > 0 {
		b.Errorf("conflicts %q", r.Conflicts)
	}
	for _, c := range b.look().Unsaved {
		if c.New.Unread != tree.TooLarge {
			b.Errorf("unsaved: %s", c.Path)
		}
	}
}

func (b *box) append(path, text string) {
	b.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	b.must(err)
	defer f.Close()
	_, err = f.WriteString(text)
	b.must(err)
}

// The names of one overdue file are links of each other in cfg too, and the manifest says the same of both.
func TestHardLinksThatNeverRest(t *testing.T) {
	t.Parallel()
	b := newBox(t, nil)
	b.write("base/x", "x\n")
	b.populate()
	b.write("jail/etc/a", "1\n")
	b.must(os.Link(b.path("jail/etc/a"), b.path("jail/etc/b")))
	once := sync.OnceFunc(func() { b.append(b.path("jail/etc/a"), "2\n") })
	r, err := b.o.Save(context.Background(), SaveOptions{Ready: func(tree.Change) Readiness {
		once()
		return Overdue
	}})
	b.must(err)
	for _, p := range []string{"a", "b"} {
		if got := b.read("jail/cfg/" + p); got != "1\n2\n" {
			t.Errorf("%s: %q; left %q", p, got, r.Unsettled)
		}
	}
	b.sound()
}
