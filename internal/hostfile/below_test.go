package hostfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A name leads where it would after chroot(2), whatever the links in it say, and never out.
func TestResolve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	outside := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// A loop whose links lead into another directory, if the system follows them.
	away := filepath.Join(outside, "away")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, outside), 0o755),
		os.Symlink("/in", filepath.Join(dir, away)), os.Symlink(away, filepath.Join(dir, "in"))); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{
		"absolute": "/a/b", "relative": "a/b", "up": "../../../a", "chain": "absolute/../../relative",
		"out": outside, "a/b/back": "../file",
		"dangling": "/a/none", "loop": "loop", "x": "/y", "y": "/x",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"/": "", "/a": "a", "/absolute": "a/b", "/relative/c/d": "a/b/c/d", "/up/file": "a/file",
		"/chain": "a/b", "/../../a": "a", "/out": outside[1:],
		"/out/etc": outside[1:] + "/etc", "/absolute/back": "a/file", "/dangling": "a/none",
		"/none/x": "none/x", "//a/./b/": "a/b", "/absolute/..": "a",
	} {
		if got, err := Resolve(dir, name); err != nil || got != filepath.Join(dir, want) {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
		if got := Below(dir, name); got != filepath.Join(dir, want) {
			t.Errorf("%s: %s", name, got)
		}
		if got := Below("", name); got != name {
			t.Errorf("%s: %s", name, got)
		}
	}
	// What the system does not resolve, this does not either.
	for name, want := range map[string]error{
		"/none/../a/file": fs.ErrNotExist,
		"/a/file/../file": syscall.ENOTDIR,
		"/dangling/..":    fs.ErrNotExist,
	} {
		got, err := Resolve(dir, name)
		if err == nil {
			_, err = os.Stat(got)
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for _, name := range []string{"/loop", "/x", "/y/file", "/in", "/in/file"} {
		if _, err := Resolve(dir, name); !errors.Is(err, syscall.ELOOP) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ReadFile(Below(dir, name)); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was taken for a file that does not exist: %v", name, err)
		}
		if err := Write(Below(dir, name), nil, 0o600); err == nil {
			t.Errorf("%s was written", name)
		}
		if err := MkdirAll(Below(dir, name), 0o700); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	if names, err := os.ReadDir(outside); err != nil || len(names) > 0 {
		t.Errorf("made outside: %v, %v", names, err)
	}
}
