package hostfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestReplaceAndWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	full, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := Replace(full, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there was replaced: %v", err)
	}
	if err := errors.Join(Write(full, []byte("one"), 0o640), os.Symlink("file", link), Write(link, []byte("two"), 0o600)); err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(full)
	if err != nil || st.Mode() != 0o640 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if b, _ := os.ReadFile(full); string(b) != "two" {
		t.Errorf("%q", b)
	}
	if st, _ := os.Lstat(link); st.Mode().Type() != fs.ModeSymlink {
		t.Error("the link was replaced")
	}
	deep := filepath.Join(dir, "a/b/secret")
	if err := Write(deep, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(filepath.Join(dir, "a/b")); st.Mode().Perm() != 0o700 {
		t.Errorf("%v", st.Mode())
	}
	if err := errors.Join(Remove(deep), Remove(deep)); err != nil {
		t.Error(err)
	}
	// What cannot be written leaves nothing behind.
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "taken"), []byte("x"), 0o644); err == nil {
		t.Error("a directory was replaced")
	}
	names, _ := os.ReadDir(dir)
	if len(names) != 4 {
		t.Errorf("%v", names)
	}
}

func TestMkdirAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	deep := filepath.Join(dir, "a/b/c")
	if err := errors.Join(MkdirAll(deep, 0o700), MkdirAll(deep, 0o755), MkdirAll(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"a", "a/b", "a/b/c"} {
		if st, err := os.Stat(filepath.Join(dir, d)); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", d, st, err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), os.Symlink("a", filepath.Join(dir, "link")), os.Symlink("none", filepath.Join(dir, "dangling"))); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(filepath.Join(dir, "link/d"), 0o700); err != nil {
		t.Errorf("through a link: %v", err)
	}
	for _, bad := range []string{"file", "file/below", "dangling"} {
		if err := MkdirAll(filepath.Join(dir, bad), 0o700); err == nil {
			t.Errorf("%s: made", bad)
		}
	}
}
