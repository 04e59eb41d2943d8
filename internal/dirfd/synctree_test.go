package dirfd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// syncs makes a tree and returns it, with what its hook hears of syncs, and an error that the hook gives for
// a path.
func syncs(t *testing.T) (d *Dir, heard func() []string, fail map[string]error) {
	t.Helper()
	dir := t.TempDir()
	for _, p := range []string{"copy/etc/deep/er", "copy/empty", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"copy/a", "copy/etc/b", "copy/etc/deep/er/c", "other/d", "file"} {
		if err := os.WriteFile(filepath.Join(dir, p), []byte(p), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link, fifo := filepath.Join(dir, "copy/link"), filepath.Join(dir, "copy/fifo")
	if err := errors.Join(os.Symlink("../other", link), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []string
	fail = map[string]error{}
	d, err := Open(dir, func(op Op) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, op.Kind+" "+op.Path)
		return fail[op.Path]
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(got) }, fail
}

// Where the system can't sync a filesystem as a whole, every file and directory of the tree is synced,
// nothing beside it, and the tree's own name at last.
func TestSyncEach(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"copy": {"fsync copy/a", "fsync copy/etc/b", "fsync copy/etc/deep/er/c", "syncdir copy",
			"syncdir copy/empty",
			"syncdir copy/etc", "syncdir copy/etc/deep", "syncdir copy/etc/deep/er", "syncdir "},
		"file":  {"fsync file", "syncdir "},
		"other": {"fsync other/d", "syncdir other", "syncdir "},
	} {
		d, heard, _ := syncs(t)
		if err := syncEach(t.Context(), d, name); err != nil {
			t.Fatal(err)
		}
		got := heard()
		if last := got[len(got)-1]; last != "syncdir " {
			t.Errorf("%s: the last is %q", name, last)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%q\nwant\n%q", name, got, want)
		}
	}
}

// One file that does not reach the disk is an error of the whole, and the tree's name is not synced then.
func TestSyncTreeFails(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"copy/a", "copy/etc/b", "copy/etc/deep/er/c", "copy/empty", "copy"} {
		d, heard, fail := syncs(t)
		fail[path] = unix.EIO
		if err := syncEach(t.Context(), d, "copy"); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", path, err)
		}
		if slices.Contains(heard(), "syncdir ") {
			t.Errorf("%s: the name was synced after all", path)
		}
	}
	d, _, fail := syncs(t)
	fail["copy"] = unix.EIO
	if err := d.SyncTree(t.Context(), "copy"); !errors.Is(err, unix.EIO) {
		t.Errorf("as a whole: %v", err)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if err := syncEach(stopped, d, "other"); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	if err := syncEach(t.Context(), d, "missing"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("missing: %v", err)
	}
}

// The hook hears of the whole before anything is synced: tests of an order need no more.
func TestSyncTree(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"copy", "file", ""} {
		d, heard, _ := syncs(t)
		if err := d.SyncTree(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if got := heard(); got[0] != "synctree "+name {
			t.Errorf("%q: %q", name, got)
		}
	}
	d, _, _ := syncs(t)
	if err := d.SyncTree(t.Context(), "../other"); !errors.Is(err, ErrBadName) {
		t.Errorf("two components: %v", err)
	}
}
