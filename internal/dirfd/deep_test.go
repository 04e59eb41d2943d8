package dirfd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// nest makes directories below dir, one in another.
func nest(t *testing.T, dir string, levels int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range levels {
		if err := unix.Mkdirat(fd, "d", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "d", unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
}

// A tree that is nested to use up descriptors is removed with few of them: one a level that is open.
func TestRemoveDeepTrees(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(*Dir) error{
		"RemoveAll": func(d *Dir) error { return d.RemoveAll("d") },
		"Clear":     (*Dir).Clear,
	} {
		dir := t.TempDir()
		nest(t, dir, 1000)
		if err := os.WriteFile(filepath.Join(dir, ".cfgd.deep.0"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		most := 0
		d, err := Open(dir, func(op Op) error { most = max(most, strings.Count(op.Path, "/")); return nil })
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := remove(d); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "d")); err == nil {
			t.Errorf("%s: still there", name)
		}
		if most > deepest {
			t.Errorf("%s: %d levels open at once", name, most)
		}
	}
}
