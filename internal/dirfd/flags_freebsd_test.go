package dirfd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// flaggable sets a flag, or skips where it can't be set.
func flaggable(t *testing.T, d *Dir, name string, flags uint32) {
	t.Helper()
	if err := d.SetFlags(name, flags); err != nil {
		t.Skipf("%s can't be set: %v", FlagNames(flags), err)
	}
	st, err := d.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if st.Flags != flags {
		t.Skipf("this filesystem has no %s", FlagNames(flags))
	}
}

// flagDir is a directory that is removed with all flags below it.
func flagDir(t *testing.T) (*Dir, string) {
	t.Helper()
	if level, err := unix.SysctlUint32("kern.securelevel"); err == nil && int32(level) > 0 {
		t.Skip("a secure level keeps flags as they are")
	}
	dir := t.TempDir()
	d, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.Clear(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return d, dir
}

// All that has flags is removed, a link and a fifo too, and directories that hold something.
func TestRemoveFlagged(t *testing.T) {
	t.Parallel()
	for _, flags := range []uint32{
		sfImmutable, sfAppend, sfNounlink, ufImmutable, ufAppend, ufNounlink, sfImmutable | ufNodump,
	} {
		t.Run(FlagNames(flags), func(t *testing.T) {
			t.Parallel()
			d, dir := flagDir(t)
			err := errors.Join(os.MkdirAll(filepath.Join(dir, "tree/sub"), 0o755),
				unix.Mkfifo(filepath.Join(dir, "tree/fifo"), 0o600),
				os.Symlink("nowhere", filepath.Join(dir, "tree/link")),
				os.WriteFile(filepath.Join(dir, "tree/sub/file"), nil, 0))
			if err != nil {
				t.Fatal(err)
			}
			tree, err := d.Dir("tree")
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			sub, err := tree.Dir("sub")
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Close()
			flaggable(t, sub, "file", flags)
			for _, name := range []string{"link", "fifo", "sub"} {
				flaggable(t, tree, name, flags)
			}
			flaggable(t, d, "tree", flags)
			if err := os.RemoveAll(filepath.Join(dir, "tree")); err == nil {
				t.Error("the system removes it as it is: the test shows nothing")
			}
			if err := d.RemoveAll("tree"); err != nil {
				t.Error(err)
			}
			if _, err := d.Stat("tree"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("still there: %v", err)
			}
		})
	}
}

// A rename past flags takes them along, and a new name in an immutable directory leaves it immutable.
func TestChangeFlagged(t *testing.T) {
	t.Parallel()
	d, dir := flagDir(t)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o755),
		os.WriteFile(filepath.Join(dir, "a"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "sub/b"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	sub, err := d.Dir("sub")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	flaggable(t, d, "a", sfImmutable)
	flaggable(t, sub, "b", sfNounlink)
	flaggable(t, d, "sub", sfImmutable)
	if err := os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "sub/b")); err == nil {
		t.Error("the system renames it as it is: the test shows nothing")
	}
	if err := d.Rename("a", sub, "b"); err != nil {
		t.Fatal(err)
	}
	f, err := sub.Create("new")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := errors.Join(sub.Utimes("b", 1), sub.Chmod(0o700)); err != nil {
		t.Error(err)
	}
	b, err := sub.Stat("b")
	self, err2 := sub.Self()
	if err != nil || err2 != nil || b.Flags != sfImmutable || self.Flags != sfImmutable ||
		self.Mode != 0o700 || b.MTime != 1 {
		t.Errorf("%+v, %+v, %v, %v", b, self, err, err2)
	}
}
