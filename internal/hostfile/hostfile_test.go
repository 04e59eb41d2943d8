package hostfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"cfgd/internal/dirfd"
)

func TestReplaceAndWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	full, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := Replace(full, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there was replaced: %v", err)
	}
	if err := errors.Join(Write(full, []byte("one"), 0o640), os.Symlink("file", link),
		Write(link, []byte("two"), 0o600)); err != nil {
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

// Whatever change fails, the file is the old one or the new one, whole, with mode and owner, and nothing
// is left beside it. Whatever change is the last before a crash, a reader finds the same.
func TestEveryFault(t *testing.T) {
	t.Parallel()
	for _, old := range []string{"", "old\n"} {
		for _, crash := range []bool{false, true} {
			for n := 0; ; n++ {
				dir := t.TempDir()
				full := filepath.Join(dir, "rc.conf")
				if old != "" {
					if err := errors.Join(os.WriteFile(full, []byte(old), 0o640),
						os.Chmod(full, 0o640)); err != nil {
						t.Fatal(err)
					}
				}
				calls, failed := 0, false
				var kinds []string
				w := writer{hook: func(op dirfd.Op) error {
					calls++
					kinds = append(kinds, op.Kind)
					if calls == n+1 || crash && calls > n {
						failed = true
						return errors.New("injected")
					}
					return nil
				}}
				err := w.write(full, []byte("new\n"), 0o600)
				if !failed {
					if err != nil || calls < 5 || kinds[len(kinds)-1] != "syncdir" ||
						kinds[len(kinds)-2] != "rename" || kinds[len(kinds)-3] != "fsync" {
						t.Errorf("%v: %q", err, kinds)
					}
					break
				}
				if err == nil {
					t.Errorf("%v: no error", kinds)
				}
				b, readErr := os.ReadFile(full)
				renamed := slices.Contains(kinds[:n], "rename")
				switch {
				case renamed && string(b) != "new\n", !renamed && string(b) != old, old == "" && !renamed &&
					!errors.Is(readErr, fs.ErrNotExist):
					t.Errorf("%v: %q, %v", kinds, b, readErr)
				}
				if st, err := os.Stat(full); err == nil && old != "" && st.Mode().Perm() != 0o640 {
					t.Errorf("%v: %v", kinds, st.Mode())
				}
				names, _ := os.ReadDir(dir)
				if len(names) > 1 && !crash {
					t.Errorf("%v: left %v", kinds, names)
				}
				if visible, _ := Names(dir, ""); len(visible) > 1 {
					t.Errorf("%v: a reader of the directory finds %v", kinds, visible)
				}
			}
		}
	}
}

// Processes and goroutines that edit one file at once lose no edit, and what killed ones left beside it goes.
func TestEditsAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	full := filepath.Join(dir, "etc/rc.conf")
	left := []string{".cfgd.rc.conf.123.beef", ".cfgd.rc.conf.1.0"}
	stays := []string{".cfgd.rc.conf", ".cfgd.rc.conf.local.1.2", ".cfgd.rc.conf.x.1", ".cfgd.other.1.2"}
	if err := os.Mkdir(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(left, stays...) {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			err := Edit(t.Context(), filepath.Join(dir, "run"), full, func(old []byte) ([]byte, error) {
				return fmt.Appendf(old, "line%d\n", i), nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	b, err := os.ReadFile(full)
	if err != nil || strings.Count(string(b), "\n") != 40 {
		t.Errorf("%v, %q", err, b)
	}
	names, _ := os.ReadDir(filepath.Dir(full))
	if len(names) != 1+len(stays) {
		t.Errorf("%v", names)
	}
	before, _ := os.Stat(full)
	unchanged := func(old []byte) ([]byte, error) { return old, nil }
	failing := func([]byte) ([]byte, error) { return []byte("x"), errors.New("no") }
	none := filepath.Join(dir, "etc/none")
	if err := errors.Join(Edit(t.Context(), dir, full, unchanged),
		Edit(t.Context(), dir, none, unchanged)); err != nil {
		t.Error(err)
	}
	if err := Edit(t.Context(), dir, full, failing); err == nil {
		t.Error("no error")
	}
	after, _ := os.Stat(full)
	if _, err := os.Stat(none); !errors.Is(err, fs.ErrNotExist) || !os.SameFile(before, after) {
		t.Errorf("written without need: %v", err)
	}
}

// What is no file is named, and not opened.
func TestReadFileRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo, large := filepath.Join(dir, "fifo"), filepath.Join(dir, "large")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600),
		os.WriteFile(large, make([]byte, MaxSize+1), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		fifo:  "is a fifo, not a regular file",
		dir:   "is a directory, not a regular file",
		large: "larger than 8 MiB",
	} {
		if _, err := ReadFile(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := Replace(name, nil); name != large && err == nil {
			t.Errorf("%s was replaced", name)
		}
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
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600),
		os.Symlink("a", filepath.Join(dir, "link")),
		os.Symlink("none", filepath.Join(dir, "dangling"))); err != nil {
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
