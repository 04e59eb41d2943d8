package prototype

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/machinetest"
	"cfgd/internal/mount"
)

var proto = &config.Prototype{Name: "proto", Root: "/jail/proto"}

func (y *protoYard) relocator() *Relocator {
	return &Relocator{Model: &config.Model{Root: y.Root}, Now: time.Now}
}

// protoYard is a machine with a prototype.
type protoYard struct{ *machinetest.Dir }

// newProto is a prototype with a few files elsewhere than in etc.
func newProto(t *testing.T) *protoYard {
	y := &protoYard{machinetest.New(t)}
	y.Write("jail/proto/etc/rc.conf", "x\n")
	y.Write("jail/proto/usr/local/etc/nginx/nginx.conf", "worker 1;\n")
	y.Write("jail/proto/usr/local/etc/.ignore", "kept\n")
	y.Write("jail/proto/usr/local/etc/.cfgd/x", "kept too\n")
	y.Write("jail/proto/root/.ssh", "a file\n")
	y.Must(os.Symlink("nginx/nginx.conf", y.Path("jail/proto/usr/local/etc/link")))
	y.Must(os.Chmod(y.Path("jail/proto/usr/local/etc"), 0o2750))
	y.Must(os.Chmod(y.Path("jail/proto/root/.ssh"), 0o400))
	return y
}

// shape lists a prototype in words.
func (y *protoYard) shape() string {
	var b strings.Builder
	root := y.Path("jail/proto")
	y.Must(filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		b.WriteString(rel + " " + st.Mode().String())
		switch {
		case st.Mode().IsRegular():
			c, _ := os.ReadFile(p)
			b.WriteString(" " + string(c))
		case st.Mode()&fs.ModeSymlink != 0:
			l, _ := os.Readlink(p)
			b.WriteString(" -> " + l)
		}
		b.WriteString("\n")
		return nil
	}))
	return b.String()
}

func TestNewPlace(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		"usr/local/etc":       "etc/local",
		"usr/local/etc/nginx": "etc/local/nginx",
		"root/.ssh":           "etc/root.dot.ssh",
		"var/cron/tabs":       "etc/var.cron.tabs",
		"usr/local/etcetera":  "etc/usr.local.etcetera",
	} {
		if got := NewPlace(from); got != want {
			t.Errorf("%s: %s, want %s", from, got, want)
		}
	}
}

func TestRelocate(t *testing.T) {
	t.Parallel()
	for from, c := range map[string]struct{ to, link string }{
		"usr/local/etc":       {"etc/local", "../../etc/local"},
		"root/.ssh":           {"etc/root.dot.ssh", "../etc/root.dot.ssh"},
		"usr/local/etc/nginx": {"etc/local/nginx", "../../../etc/local/nginx"},
	} {
		y := newProto(t)
		before := y.shape()
		k := y.relocator()
		r, err := k.Plan(proto, from, NewPlace(from))
		y.Must(err)
		if r.To != c.to || r.Link != c.link || y.shape() != before {
			t.Errorf("%+v", r)
		}
		y.Must(k.do(t.Context(), r))
		if to, _ := os.Readlink(y.Path("jail/proto/" + from)); to != c.link {
			t.Errorf("%s: %s", from, y.shape())
		}
		if n := strings.Count(y.shape(), "\n"); strings.Contains(y.shape(), ".cfgd.") ||
			n != strings.Count(before, "\n")+1 && from != "usr/local/etc/nginx" {
			t.Errorf("left: %s", y.shape())
		}
		all, err := k.All("proto")
		if err != nil || len(all) != 1 || !all[0].Finished() {
			t.Fatalf("%+v, %v", all, err)
		}
		if _, err := k.Plan(proto, from, "etc/again"); !errors.Is(err, ErrNotMovable) ||
			!strings.Contains(err.Error(), "it is a link") {
			t.Errorf("once more: %v", err)
		}
		y.Must(k.undo(t.Context(), all[0]))
		if from == "usr/local/etc/nginx" {
			y.Must(os.Remove(y.Path("jail/proto/etc/local")))
		}
		if got := y.shape(); got != before {
			t.Errorf("back:\n%s\nwas\n%s", got, before)
		}
		if all, err := k.All("proto"); err != nil || len(all) > 0 {
			t.Errorf("%+v, %v", all, err)
		}
	}
}

// After an interruption before any change of the tree, by an error or by a crash, in both directions: the
// move is done or it is not, and nothing is lost.
func TestRelocateCutShort(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"usr/local/etc", "root/.ssh"} {
		for _, back := range []bool{false, true} {
			for _, crash := range []bool{false, true} {
				cutShort(t, from, back, crash)
			}
		}
	}
}

func cutShort(t *testing.T, from string, back, crash bool) {
	for n := 0; ; n++ {
		y := newProto(t)
		original := y.shape()
		k := y.relocator()
		r, err := k.Plan(proto, from, NewPlace(from))
		y.Must(err)
		if back {
			y.Must(k.do(t.Context(), r))
		}
		var ops atomic.Int64
		w := &writeBack{T: t, r: r}
		k.Hook = func(op dirfd.Op) error { // after a crash nothing more is done
			if i := int(ops.Add(1)); i == n+1 || crash && i > n {
				return errors.New("cut short")
			}
			return w.op(op)
		}
		if back {
			err = k.undo(t.Context(), r)
		} else {
			err = k.do(t.Context(), r)
		}
		if int(ops.Load()) <= n {
			y.Must(err)
			if n < 4 {
				t.Fatalf("only %d changes", n)
			}
			return
		}
		k.Hook = w.op
		all, err := k.All("proto")
		y.Must(err)
		for _, r := range all {
			if err := k.settle(t.Context(), r); err != nil {
				t.Fatalf("%s, back %v, crash %v, change %d: %v\n%s", from, back, crash, n, err, y.shape())
			}
		}
		all, err = k.All("proto")
		y.Must(err)
		if len(all) > 0 {
			y.Must(k.undo(t.Context(), all[0]))
		}
		if got := y.shape(); got != original {
			t.Fatalf("%s, back %v, crash %v, change %d:\n%s\nwas\n%s", from, back, crash, n, got, original)
		}
	}
}

// writeBack tracks what of a relocation is not on stable storage yet. It treats what is copied as one
// thing, together with its place: a copy is dirty from its first change until all of it is synced, a
// directory from each change of its names. It reports each removal, and each rename over or away, of an
// original whose copy a power cut could lose.
type writeBack struct {
	*testing.T
	r     *Relocation
	mu    sync.Mutex      // guards the rest
	copy  string          // the copy that is being made
	dirty map[string]bool // copies, and directories whose names changed
}

func (w *writeBack) op(op dirfd.Op) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dirty == nil {
		w.dirty = map[string]bool{}
	}
	w.goes(op)
	dir, name := path.Split(op.Path)
	dir = path.Clean(dir)
	switch op.Kind {
	case "mkdir", "create", "symlink", "link":
		if strings.HasPrefix(name, beside) {
			w.copy = op.Path
		}
		w.dirty[dir] = true
	case "rename":
		to := path.Dir(op.To)
		w.dirty[dir], w.dirty[to] = true, true
		if w.dirty[op.Path] {
			delete(w.dirty, op.Path)
			w.dirty[op.To] = true
		}
	case "syncdir":
		delete(w.dirty, path.Clean(op.Path))
	case "synctree":
		delete(w.dirty, op.Path)
		delete(w.dirty, dir)
		w.copy = ""
		return nil
	}
	if w.copy != "" && op.Kind != "fsync" && op.Kind != "syncdir" {
		w.dirty[w.copy] = true
	}
	return nil
}

// goes checks what is about to be removed.
func (w *writeBack) goes(op dirfd.Op) {
	old := path.Join(path.Dir(w.r.Path), aside+path.Base(w.r.Path))
	keeps := "" // the place of the copy that has to outlive it
	switch below := func(p string) bool { return op.Path == p || strings.HasPrefix(op.Path, p+"/") }; {
	case op.Kind != "unlink" && op.Kind != "rmdir" && op.Kind != "rename":
	case below(w.r.To):
		keeps = w.r.Path
	case below(w.r.Path), below(old), op.Kind == "rename" && op.To == w.r.Path && w.copy == "":
		keeps = w.r.To
	}
	if keeps == "" || w.r.State == returning && keeps == w.r.To {
		return
	}
	for _, p := range []string{keeps, path.Dir(keeps)} {
		if w.dirty[p] {
			w.Errorf("%s %s: a power cut now could lose %s, which is copied and not on stable storage",
				op.Kind, op.Path, p)
		}
	}
}

// A jail controls its prototype's tree: no link in it is followed, and a move that cannot be complete is
// not begun.
func TestRelocateRefuses(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	for name, c := range map[string]struct {
		spoil    func(y *protoYard)
		from, to string
		want     string
	}{
		"in etc already":        {nil, "etc/rc.conf", "etc/local/rc.conf", "it is in etc"},
		"etc itself":            {nil, "etc", "etc/etc", "it is in etc"},
		"not into etc":          {nil, "root/.ssh", "usr/x", "that is not in etc"},
		"into etc's own name":   {nil, "root/.ssh", "etc", "that is not in etc"},
		"through ..":            {nil, "usr/../etc", "etc/x", "cannot be relocated"},
		"out of etc":            {nil, "root/.ssh", "etc/../x", "cannot be relocated"},
		"nothing there":         {nil, "usr/none", "etc/none", "no such file"},
		"a place that is taken": {nil, "root/.ssh", "etc/rc.conf", "that is there already"},
		"a link on the way": {func(y *protoYard) {
			y.Must(os.RemoveAll(y.Path("jail/proto/usr/local")))
			y.Must(os.Symlink(outside, y.Path("jail/proto/usr/local")))
		}, "usr/local/etc", "etc/local", "cannot be relocated"},
		"etc a link": {func(y *protoYard) {
			y.Must(os.RemoveAll(y.Path("jail/proto/etc")))
			y.Must(os.Symlink(outside, y.Path("jail/proto/etc")))
		}, "root/.ssh", "etc/x", "cannot be relocated"},
		"a link itself": {
			func(y *protoYard) { y.Must(os.Symlink(outside, y.Path("jail/proto/l"))) }, "l", "etc/l",
			"it is a link already",
		},
		"packages at work": {func(y *protoYard) {
			y.Write("jail/proto/var/db/pkg/local.sqlite-journal", "x")
		},
			"root/.ssh", "etc/x", "packages are being installed"},
	} {
		y := newProto(t)
		if c.spoil != nil {
			c.spoil(y)
		}
		before := y.shape()
		if _, err := y.relocator().Plan(proto, c.from, c.to); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if y.shape() != before {
			t.Errorf("%s: changed", name)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("outside: %v", left)
	}
	y := newProto(t)
	k := y.relocator()
	k.Mounts = func() ([]mount.Mount, error) {
		return []mount.Mount{{Dir: y.Path("jail/proto/usr/local/etc/nginx")}}, nil
	}
	if _, err := k.Plan(proto, "usr/local/etc", "etc/local"); err == nil ||
		!strings.Contains(err.Error(), "is a mountpoint") {
		t.Errorf("%v", err)
	}
	// A link that somebody changed since is not replaced.
	k.Mounts = nil
	r, err := k.Plan(proto, "root/.ssh", "etc/x")
	y.Must(err)
	y.Must(k.do(t.Context(), r))
	y.Must(os.Remove(y.Path("jail/proto/root/.ssh")))
	y.Must(os.Symlink("/etc/passwd", y.Path("jail/proto/root/.ssh")))
	if err := k.undo(t.Context(), r); err == nil || !strings.Contains(err.Error(), "nothing was changed") ||
		y.Read("jail/proto/etc/x") != "a file\n" {
		t.Errorf("%v", err)
	}
}

// A fifo below a directory is found before anything is removed.
func TestRelocateKeepsWhatCannotBeCopied(t *testing.T) {
	t.Parallel()
	y := newProto(t)
	y.Must(mkfifo(y.Path("jail/proto/usr/local/etc/nginx/pipe")))
	before := y.shape()
	k := y.relocator()
	r, err := k.Plan(proto, "usr/local/etc", "etc/local")
	y.Must(err)
	if err := k.do(t.Context(), r); err == nil || !strings.Contains(err.Error(), "nginx/pipe is a fifo") {
		t.Errorf("%v", err)
	}
	if y.shape() != before {
		t.Errorf("changed:\n%s\nwas\n%s", y.shape(), before)
	}
}

func mkfifo(name string) error { return unix.Mkfifo(name, 0o600) }
