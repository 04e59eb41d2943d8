package dirfd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPresentIdentity(t *testing.T) {
	t.Parallel()
	const linux = "0d1c-boot/0:2b/1/1764296193.123456789"
	for _, c := range []struct {
		recorded, now string
		same          bool
	}{
		{"5c3f1a2b.7d001122/2.1234567", "5c3f1a2b.7d001122/2.1234567", true},
		// of an older program
		{"5c3f1a2b.7d001122/2.1234567/1764296193.5", "5c3f1a2b.7d001122/2.1234567", true},
		{"5c3f1a2b.-7d001122/2.1234567/0.0", "5c3f1a2b.82ffeede/2.1234567", true},
		{"-5c3f1a2b.7d001122/2.1234567/-1.0", "a3c0e5d5.7d001122/2.1234567", true},
		{"-80000000.ffffffff/2.1/3.4", "80000000.ffffffff/2.1", true},
		{"5c3f1a2b.7d001122/2.1234567/1764296193.5", "5c3f1a2b.7d001123/2.1234567", false},
		{"5c3f1a2b.7d001122/2.1234567/1764296193.5", "5c3f1a2c.7d001122/2.1234567", false},
		{"5c3f1a2b.7d001122/2.1234567/1764296193.5", "5c3f1a2b.7d001122/3.1234567", false},
		{"5c3f1a2b.7d001122/2.1234567/1764296193.5", "5c3f1a2b.7d001122/2.1234568", false},
		{"-5c3f1a2b.7d001122/2.1234567/0.0", "5c3f1a2b.7d001122/2.1234567", false},
		{linux, linux, true},
		{linux, linux + "1", false}, // the birth time of Linux counts
		{"dev 5c/2", "dev 5c/2", true},
		{"dev 5c/2", "dev 5d/2", false},
		// an ordinary user's, of an older program: the device is not known
		{"0.0/2.0/1764296193.5", "dev 5c/2", false},
		{"0.0/2.0/0.0", "dev 0/2", false},
		{"of another life", "5c3f1a2b.7d001122/2.1", false},
		{"", linux, false},
		{"", "", true},
	} {
		if got := PresentIdentity(c.recorded) == c.now; got != c.same {
			t.Errorf("%q and %q: %v, want %v", c.recorded, c.now, got, c.same)
		}
	}
}

// What happens in a live tree, to its root too, leaves its identity; another directory by the same name has
// another.
func TestIdentity(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	at := func(p string) string { return filepath.Join(top, "etc", p) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	identity := func() string {
		d, err := Open(at(""), nil)
		must(err)
		defer d.Close()
		id, err := d.Identity()
		must(err)
		return id
	}
	must(os.Mkdir(at(""), 0o755))
	was := identity()
	change := func(f func(d *Dir) error) func() {
		return func() {
			d, err := Open(at(""), nil)
			must(err)
			must(errors.Join(f(d), d.Close()))
		}
	}
	for _, c := range []struct {
		what string
		do   func()
	}{
		{"a time before its birth", change(func(d *Dir) error { return d.Utimes("", 1_000_000_000) })},
		{"a time before 1970", change(func(d *Dir) error { return d.Utimes("", -1_000_000_000) })},
		{"another earlier time", change(func(d *Dir) error { return d.Utimes("", 500_000_000) })},
		{"a time to come", change(func(d *Dir) error { return d.Utimes("", 4_000_000_000_000_000_000) })},
		{"its mode", change(func(d *Dir) error { return d.Chmod(0o700) })},
		{
			"its owner", change(func(d *Dir) error {
				return d.Chown("", uint32(os.Geteuid()), uint32(os.Getegid()))
			}),
		},
		{"a new file", func() { must(os.WriteFile(at("a"), []byte("a"), 0o600)) }},
		{"a write", func() { must(os.WriteFile(at("a"), []byte("longer"), 0o600)) }},
		{"a rename", func() { must(os.Rename(at("a"), at("b"))) }},
		{"a new directory", func() { must(os.Mkdir(at("d"), 0o755)) }},
		{"a removal", func() { must(errors.Join(os.Remove(at("b")), os.Remove(at("d")))) }},
		{"its own rename", func() {
			must(errors.Join(os.Rename(at(""), filepath.Join(top, "x")),
				os.Rename(filepath.Join(top, "x"), at(""))))
		}},
	} {
		c.do()
		if now := identity(); now != was {
			t.Errorf("after %s: %s is now %s", c.what, was, now)
		}
	}
	for range 20 { // the inode is likely to be taken again
		must(os.Remove(at("")))
		must(os.Mkdir(at(""), 0o755))
		if now := identity(); now == was {
			t.Fatalf("a new directory is taken for the old one: %s", now)
		} else {
			was = now
		}
	}
}

// What Identity gives is in the present form.
func TestIdentityIsPresent(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	if id, err := tr.Identity(); err != nil || PresentIdentity(id) != id {
		t.Errorf("%q becomes %q, %v", id, PresentIdentity(id), err)
	}
}
