package dirfd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree is a directory beside one that nobody may reach from it.
type tree struct {
	testing.TB
	base string
	*Dir
	ops []Op
	err error // what the hook says
}

func newTree(t testing.TB) *tree {
	tr := &tree{TB: t, base: t.TempDir()}
	tr.must(os.MkdirAll(tr.at("outside/dir"), 0o755))
	tr.must(os.Mkdir(tr.at("tree"), 0o755))
	tr.must(os.WriteFile(tr.at("outside/secret"), []byte("secret"), 0o600))
	tr.must(os.WriteFile(tr.at("tree/file"), []byte("content"), 0o644))
	tr.must(os.Mkdir(tr.at("tree/dir"), 0o755))
	tr.must(os.Symlink("../outside/secret", tr.at("tree/link")))
	tr.must(os.Symlink("../outside", tr.at("tree/dirlink")))
	tr.must(unix.Mkfifo(tr.at("tree/fifo"), 0o600))
	d, err := Open(tr.at("tree"), func(op Op) error { tr.ops = append(tr.ops, op); return tr.err })
	tr.must(err)
	t.Cleanup(func() { d.Close() })
	tr.Dir = d
	return tr
}

func (t *tree) at(p string) string { return filepath.Join(t.base, p) }

func (t *tree) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	for _, name := range []string{"", ".", "..", "a/b", "/", "../outside", "a\x00b"} {
		for what, f := range map[string]func() error{
			"dir":      func() error { _, err := tr.Dir.Dir(name); return err },
			"open":     func() error { _, err := tr.Open(name); return err },
			"openfile": func() error { _, err := tr.OpenFile(name); return err },
			"stat":     func() error { _, err := tr.Stat(name); return err },
			"readlink": func() error { _, err := tr.Readlink(name); return err },
			"create":   func() error { _, err := tr.Create(name); return err },
			"mkdir":    func() error { return tr.Mkdir(name) },
			"symlink":  func() error { return tr.Symlink("x", name) },
			"unlink":   func() error { return tr.Unlink(name) },
			"rmdir":    func() error { return tr.Rmdir(name) },
			"from":     func() error { return tr.Rename(name, tr.Dir, "new") },
			"to":       func() error { return tr.Rename("file", tr.Dir, name) },
			"link to":  func() error { return tr.Link("file", tr.Dir, name) },
			"all":      func() error { return tr.RemoveAll(name) },
		} {
			if err := f(); !errors.Is(err, ErrBadName) {
				t.Errorf("%s %q: %v", what, name, err)
			}
		}
	}
	if len(tr.ops) > 0 {
		t.Errorf("the hook heard of %v", tr.ops)
	}
}

func TestLinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	if _, err := tr.Dir.Dir("dirlink"); err == nil {
		t.Error("a link was opened as a directory")
	}
	if _, err := tr.Walk("dirlink/dir"); err == nil {
		t.Error("walked through a link")
	}
	if _, err := OpenBelow(tr.base, "tree/dirlink", nil); err == nil {
		t.Error("opened below through a link")
	}
	for what, open := range map[string]func(string) (*File, error){
		"Open": tr.Open, "OpenFile": tr.OpenFile, "OpenPlain": tr.OpenPlain,
	} {
		if f, err := open("link"); err == nil {
			f.Close()
			t.Errorf("%s followed a link", what)
		}
	}
	if _, err := tr.Create("link"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over a link: %v", err)
	}
	if st, err := tr.Stat("link"); err != nil || st.Kind != KindSymlink {
		t.Errorf("stat of a link: %+v, %v", st, err)
	}
	if to, err := tr.Readlink("link"); err != nil || to != "../outside/secret" {
		t.Errorf("readlink: %q, %v", to, err)
	}
	tr.must(tr.Utimes("link", 1e18))
	tr.must(tr.Chown("link", uint32(os.Geteuid()), uint32(os.Getegid())))
	if st, err := os.Stat(tr.at("outside/secret")); err != nil || st.ModTime().UnixNano() == 1e18 {
		t.Errorf("the link's target was touched: %v", err)
	}
}

// A fifo would wait for its other end, a socket and a device may do anything.
func TestOnlyFilesAreOpened(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	names := []string{"fifo", "dir", "socket"}
	if fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); err != nil ||
		len(tr.at("tree/socket")) > 100 {
		names = names[:2]
	} else {
		tr.must(unix.Bind(fd, &unix.SockaddrUnix{Name: tr.at("tree/socket")}))
		unix.Close(fd)
	}
	if mknod(tr.at("tree/null")) == nil {
		names = append(names, "null")
	}
	for _, name := range names {
		for what, open := range map[string]func(string) (*File, error){
			"Open": tr.Open, "OpenFile": tr.OpenFile,
		} {
			if f, err := open(name); err == nil {
				f.Close()
				t.Errorf("%s opened %s", what, name)
			} else if name == "fifo" && !errors.Is(err, ErrNotRegular) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if b, err := tr.ReadFile("file", 7); string(b) != "content" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := tr.ReadFile("file", 6); err == nil || !strings.Contains(err.Error(), "larger than 6 bytes") {
		t.Errorf("over the limit: %v", err)
	}
}

func TestRemoveAllStaysInTheTree(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	tr.must(os.MkdirAll(tr.at("tree/dir/a/b"), 0o755))
	tr.must(os.Symlink("../../../../outside", tr.at("tree/dir/a/b/out")))
	tr.must(unix.Mkfifo(tr.at("tree/dir/a/fifo"), 0o600))
	for _, name := range []string{"dir", "dirlink", "link", "fifo", "not there"} {
		tr.must(tr.RemoveAll(name))
	}
	if names, err := tr.Names(); err != nil || !slices.Equal(names, []string{"file"}) {
		t.Errorf("left: %q, %v", names, err)
	}
	if b, err := os.ReadFile(tr.at("outside/secret")); string(b) != "secret" || err != nil {
		t.Errorf("outside: %q, %v", b, err)
	}
	tr.must(tr.Clear())
	if names, err := tr.Names(); err != nil || len(names) != 0 {
		t.Errorf("cleared: %q, %v", names, err)
	}
}

// Names are sorted by bytes, whatever they are, and can be listed again.
func TestNames(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	tr.must(tr.Clear())
	want := []string{"\x01", " ", "-rf", "A", "a\nb", "é", "\xfc"}
	for i := range 2000 { // more than one buffer
		want = append(want, "many"+strings.Repeat("x", i%200)+string(rune('a'+i%26))+
			strings.Repeat("y", i/200))
	}
	for _, n := range want {
		f, err := tr.Create(n)
		tr.must(err)
		f.Close()
	}
	slices.Sort(want)
	for range 2 {
		if got, err := tr.Names(); err != nil || !slices.Equal(got, slices.Compact(slices.Clone(want))) {
			t.Errorf("%d names of %d, %v", len(got), len(want), err)
		}
	}
}

// The hook hears of a change before it is made, and may forbid it.
func TestHook(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	sub, err := tr.Dir.Dir("dir")
	tr.must(err)
	defer sub.Close()
	f, err := sub.Create("new")
	tr.must(err)
	_, err = f.Write([]byte("abc"))
	tr.must(errors.Join(err, f.Sync(), f.Chmod(0o640), f.Close(), sub.Rename("new", tr.Dir, "moved"),
		sub.Sync(), tr.Unlink("moved")))
	var got []string
	for _, op := range tr.ops {
		got = append(got, op.Kind+" "+op.Path+" "+op.To)
	}
	want := "create dir/new |write dir/new |fsync dir/new |chmod dir/new |rename dir/new moved|syncdir dir " +
		"|unlink moved "
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("heard %s\nwant  %s", s, want)
	}
	tr.err = unix.ENOSPC
	for what, f := range map[string]func() error{
		"create": func() error { _, err := tr.Create("x"); return err },
		"mkdir":  func() error { return tr.Mkdir("x") },
		"link":   func() error { return tr.Link("file", tr.Dir, "x") },
		"rename": func() error { return tr.Rename("file", tr.Dir, "x") },
		"unlink": func() error { return tr.Unlink("file") },
	} {
		if err := f(); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if names, _ := tr.Names(); slices.Contains(names, "x") || !slices.Contains(names, "file") {
		t.Errorf("done all the same: %q", names)
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	f, err := tr.Create("new")
	tr.must(err)
	defer f.Close()
	_, err = f.Write([]byte("abc"))
	tr.must(err)
	f.Skip(5000)
	tr.must(errors.Join(f.Truncate(), f.Chmod(0o4750), tr.Utimes("new", 1234567890123456789)))
	st, err := tr.Stat("new")
	if err != nil || st.Size != 5003 || st.Mode != 0o4750 || st.MTime != 1234567890123456789 ||
		st.Kind != KindFile {
		t.Errorf("%+v, %v", st, err)
	}
	own, err := f.Stat()
	if err != nil || own != st {
		t.Errorf("by name %+v, by descriptor %+v, %v", st, own, err)
	}
	one, err := tr.Identity()
	tr.must(err)
	two, err := tr.Identity()
	if err != nil || one != two || one == "" {
		t.Errorf("identity %q, then %q, %v", one, two, err)
	}
}

func TestFlagNames(t *testing.T) {
	t.Parallel()
	for flags, want := range map[uint32]string{
		0:             "",
		0x20000:       "schg",
		0x2:           "uchg",
		0x20000 | 0x1: "schg,nodump",
		0x80000000:    "",
	} {
		if got := FlagNames(flags); got != want {
			t.Errorf("%#x: %q, want %q", flags, got, want)
		}
		if got := ParseFlags(want); got != flags&keptFlags {
			t.Errorf("%q: %#x, want %#x", want, got, flags)
		}
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	for k := KindNone; k <= KindDevice; k++ {
		if got := ParseKind(k.String()); got != k {
			t.Errorf("%v is read back as %v", k, got)
		}
	}
	if ParseKind("door") != KindNone || !KindFifo.Special() || KindSymlink.Special() {
		t.Error("kinds")
	}
}
