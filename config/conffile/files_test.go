package conffile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"cfgd/internal/hostfile"
)

// linked is a root with links of all kinds and a secret outside of it.
func linked(t *testing.T) *Files {
	t.Helper()
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.CopyFS(root, fstest.MapFS{
		"etc/rc.conf":       {Data: []byte("in")},
		"etc/local/x.conf":  {Data: []byte("x")},
		"etc/local/y.conf":  {Data: []byte("y")},
		"etc/local/.z.conf": {Data: []byte("z")},
		"etc/d":             {Mode: fs.ModeDir | 0o755},
	}); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{
		"etc/absolute": "/etc/rc.conf", "etc/up": "../../../etc/rc.conf", "etc/chain": "absolute",
		"usr": "etc", "etc/outside": outside + "/secret",
		"etc/loop": "loop", "etc/dangling": "nothing", "etc/localdir": "/etc/local",
	} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(root, "etc/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Links lead where they would after chroot(2), and never out.
func TestReadFileBelowRoot(t *testing.T) {
	f := linked(t)
	for name, want := range map[string]string{
		"/etc/rc.conf": "in", "/etc/absolute": "in", "/etc/up": "in", "/etc/chain": "in",
		"/usr/rc.conf": "in", "/etc/../etc/./rc.conf": "in",
		"/../../etc/rc.conf": "in", "/usr/../etc/rc.conf": "in", "/etc/localdir/x.conf": "x",
		"/etc/localdir/../rc.conf": "in",
	} {
		if data, err := f.ReadFile(name); string(data) != want || err != nil {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	for name, want := range map[string]error{
		"/etc/outside": fs.ErrNotExist, "/etc/loop": syscall.ELOOP, "/etc/dangling": fs.ErrNotExist,
		"/etc/none": fs.ErrNotExist, "/etc/rc.conf/x": syscall.ENOTDIR,
	} {
		if _, err := f.ReadFile(name); !errors.Is(err, want) || !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

func TestReadFileRefuses(t *testing.T) {
	f := linked(t)
	if err := os.WriteFile(filepath.Join(f.dir, "etc/large"), make([]byte, hostfile.MaxSize+1),
		0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"/etc/d":      "/etc/d: is a directory, not a regular file",
		"/etc/fifo":   "/etc/fifo: is a fifo, not a regular file",
		"/etc/large":  "/etc/large: larger than 8 MiB, which no configuration file is",
		"etc/rc.conf": "etc/rc.conf: not an absolute path",
	} {
		if _, err := f.ReadFile(name); err == nil || err.Error() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadPlain(filepath.Join(f.dir, "etc/fifo")); err == nil {
		t.Error("a fifo was read")
	}
}

func TestGlob(t *testing.T) {
	f := linked(t)
	for pattern, want := range map[string]string{
		"/etc/local/*.conf":    "/etc/local/x.conf /etc/local/y.conf",
		"/etc/local/.*.conf":   "/etc/local/.z.conf",
		"/etc/local*/[x].conf": "/etc/local/x.conf /etc/localdir/x.conf",
		"/usr/local/x.conf":    "/usr/local/x.conf",
		"/usr/*/y.conf":        "/usr/local/y.conf /usr/localdir/y.conf",
		"/etc/none/*":          "",
		"/etc/rc.conf/*":       "",
		"/etc/dang*":           "/etc/dangling",
		"/etc/nothing":         "",
		"/etc/local/../rc.c*":  "/etc/local/../rc.conf",
	} {
		got, err := f.Glob(pattern)
		if err != nil || strings.Join(got, " ") != want || !slices.IsSorted(got) {
			t.Errorf("%s: %q, %v", pattern, got, err)
		}
	}
	for _, pattern := range []string{"etc/*", "/etc/[", "/etc/[a-"} {
		if _, err := f.Glob(pattern); err == nil {
			t.Errorf("%s: no error", pattern)
		}
	}
}

func TestReal(t *testing.T) {
	f := linked(t)
	for name, want := range map[string]string{
		"/usr/local/new/x": "/etc/local/new/x",
		"/etc/localdir":    "/etc/local",
		"/none/x":          "/none/x",
		"/":                "/",
	} {
		if got := f.Real(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
