package prototype

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"cfgd/internal/dirfd"
)

// A prototype has files and directories that are immutable, /sbin/init and /var/empty in every system:
// its copies have them too, with all their names, and are removed all the same.
func TestCopiesOfImmutableFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	at := func(p string) string { return filepath.Join(root, p) }
	err := errors.Join(os.MkdirAll(at("var/empty"), 0o755), os.Mkdir(at("sbin"), 0o755),
		os.WriteFile(at("sbin/init"), nil, 0o555), os.Link(at("sbin/init"), at("sbin/oinit")))
	if err != nil {
		t.Fatal(err)
	}
	d, err := dirfd.Open(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.Clear(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	for dir, name := range map[string]string{"sbin": "init", "var": "empty"} {
		sub, err := d.Dir(dir)
		if err != nil {
			t.Fatal(err)
		}
		err = sub.SetFlags(name, schg)
		sub.Close()
		if err != nil {
			t.Skipf("schg can't be set: %v", err)
		}
	}
	c := Copies{Root: root}
	if err := c.Take(t.Context(), "1", ""); err != nil {
		t.Fatal(err)
	}
	copied, err := dirfd.Open(c.path("1/sbin"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	for _, name := range []string{"init", "oinit"} {
		if st, err := copied.Stat(name); err != nil || st.Flags != schg || st.Nlink != 2 {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
	}
	if err := c.Destroy(t.Context(), "1"); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(c.dir()); err != nil || len(names) > 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

const schg = 0x20000
