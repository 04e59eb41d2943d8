package dirfd

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// kernel stands in for a system with chflags(2): it refuses what ufs_remove, ufs_rename, ufs_rmdir, ufs_link
// and ufs_setattr of FreeBSD refuse, and as they do (ufs/ufs/ufs_vnops.c), and remembers flags by path.
type kernel struct {
	flags map[string]uint32
	level int32 // kern.securelevel
	heard []string
}

const (
	immutable  = sfImmutable | ufImmutable
	appendOnly = sfAppend | ufAppend
	noUnlink   = sfNounlink | ufNounlink
)

func above(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

func (k *kernel) hook(op Op) error {
	k.heard = append(k.heard, fmt.Sprintf("%s %s", op.Kind, op.Path))
	f := k.flags
	stays := func(p string) bool { return f[p]&(immutable|appendOnly|noUnlink) != 0 }
	var no bool
	switch op.Kind {
	case "create", "mkdir", "symlink":
		no = f[above(op.Path)]&immutable != 0
	case "unlink", "rmdir":
		no = stays(op.Path) || f[above(op.Path)]&(immutable|appendOnly) != 0
	case "rename":
		no = stays(op.Path) || stays(op.To) || (f[above(op.Path)]|f[above(op.To)])&(immutable|appendOnly) != 0
	case "link":
		no = f[op.Path]&(immutable|appendOnly) != 0 || f[above(op.To)]&immutable != 0
	case "chmod", "chown", "utimes", "xattr", "rmxattr":
		no = f[op.Path]&(immutable|appendOnly) != 0
	case "flags":
		if err := levelWords(f[op.Path], k.level, unix.EPERM); err != unix.EPERM {
			return err
		}
		f[op.Path] = op.Mode
		return nil
	}
	if no {
		return unix.EPERM
	}
	k.done(op)
	return nil
}

// done moves the flags of what the change moves, and forgets those of what it removes.
func (k *kernel) done(op Op) {
	switch op.Kind {
	case "unlink", "rmdir":
		delete(k.flags, op.Path)
	case "rename":
		for p, f := range maps.Clone(k.flags) {
			if p == op.Path || strings.HasPrefix(p, op.Path+"/") {
				delete(k.flags, p)
				k.flags[op.To+p[len(op.Path):]] = f
			} else if p == op.To {
				if _, moves := k.flags[op.Path]; !moves {
					delete(k.flags, p)
				}
			}
		}
	case "link":
		k.flags[op.To] = k.flags[op.Path]
	}
}

// open opens a directory under the kernel's rule.
func (k *kernel) open(t testing.TB, dir string) *Dir {
	t.Helper()
	if k.flags == nil {
		k.flags = map[string]uint32{}
	}
	d, err := Open(dir, k.hook)
	if err != nil {
		t.Fatal(err)
	}
	d.flags = func(path string) uint32 { return k.flags[path] }
	t.Cleanup(func() { d.Close() })
	return d
}

var allFlags = []uint32{sfImmutable, sfAppend, sfNounlink, ufImmutable, ufAppend, ufNounlink, ufNodump}

// Whatever flags a tree has, it is removed whole, and nothing beside it loses a flag.
func TestRemovePastFlags(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "past")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		k := &kernel{flags: map[string]uint32{}}
		d := k.open(t, dir)
		defer d.Close()
		some := func() uint32 {
			return rapid.SampledFrom(append(allFlags, 0, sfImmutable|ufNodump)).Draw(rt, "flags")
		}
		for _, p := range []string{"tree", "tree/a", "tree/a/b", "tree/c", "beside"} {
			rt := errors.Join(os.Mkdir(filepath.Join(dir, p), 0o755),
				os.WriteFile(filepath.Join(dir, p, "file"), nil, 0o600),
				os.Symlink("file", filepath.Join(dir, p, "link")))
			if rt != nil {
				t.Fatal(rt)
			}
			for _, q := range []string{p, p + "/file", p + "/link"} {
				k.flags[q] = some()
			}
		}
		k.flags[""] = some()
		was := maps.Clone(k.flags)
		if err := d.RemoveAll("tree"); err != nil {
			rt.Fatalf("%v\n%q", err, k.heard)
		}
		if names, _ := d.Names(); !slices.Equal(names, []string{"beside"}) {
			rt.Fatalf("left: %q", names)
		}
		maps.DeleteFunc(was, func(p string, _ uint32) bool {
			return p == "tree" || strings.HasPrefix(p, "tree/")
		})
		if !maps.Equal(was, k.flags) {
			rt.Fatalf("flags %v, before %v", k.flags, was)
		}
	})
}

// Each change is done past each flag of each thing that it touches, and what is still there has its flags
// afterwards.
func TestChangePastFlags(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		do    func(d, sub *Dir) error
		moved map[string]string // where flags are to be found afterwards; "-" for nowhere
	}{
		"create": {
			func(_, sub *Dir) error { f, err := sub.Create("new"); return errors.Join(err, f.Close()) }, nil,
		},
		"mkdir":  {func(_, sub *Dir) error { return sub.Mkdir("new") }, nil},
		"link":   {func(d, sub *Dir) error { return d.Link("file", sub, "new") }, nil},
		"unlink": {func(_, sub *Dir) error { return sub.Unlink("old") }, map[string]string{"sub/old": "-"}},
		"rmdir":  {func(d, _ *Dir) error { return d.Rmdir("empty") }, map[string]string{"empty": "-"}},
		"rename": {
			func(d, sub *Dir) error { return d.Rename("file", sub, "new") },
			map[string]string{"file": "sub/new"},
		},
		"replace": {func(d, sub *Dir) error { return d.Rename("file", sub, "old") },
			map[string]string{"file": "sub/old", "sub/old": "-"}},
		"rename a directory": {func(d, sub *Dir) error { return d.Rename("empty", sub, "new") },
			map[string]string{"empty": "sub/new"}},
		"chmod": {func(_, sub *Dir) error { return sub.Chmod(0o700) }, nil},
		"utimes": {
			func(_, sub *Dir) error { return errors.Join(sub.Utimes("", 1), sub.Utimes("old", 1)) }, nil,
		},
	} {
		for _, flags := range allFlags {
			for _, on := range []string{"", "file", "empty", "sub", "sub/old"} {
				k := &kernel{flags: map[string]uint32{on: flags}}
				dir := t.TempDir()
				err := errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o755),
					os.Mkdir(filepath.Join(dir, "empty"), 0o755),
					os.WriteFile(filepath.Join(dir, "file"), nil, 0o600),
					os.WriteFile(filepath.Join(dir, "sub/old"), nil, 0o600))
				if err != nil {
					t.Fatal(err)
				}
				d := k.open(t, dir)
				sub, err := d.Dir("sub")
				if err != nil {
					t.Fatal(err)
				}
				err = c.do(d, sub)
				sub.Close()
				if err != nil {
					t.Errorf("%s past %s of %q: %v", what, FlagNames(flags), on, err)
				}
				at, moves := c.moved[on]
				if !moves {
					at = on
				}
				if at != "-" && k.flags[at] != flags {
					t.Errorf("%s past %s of %q: then %v", what, FlagNames(flags), on, k.flags)
				}
				for p := range k.flags {
					if p != at && p != "sub/new" && k.flags[p]&^ufNodump != 0 {
						t.Errorf("%s past %s of %q: %q has %v", what, FlagNames(flags), on, p, k.flags)
					}
				}
			}
		}
	}
}

// At a secure level the error says so, and a change that fails for another reason leaves the flags as they
// were.
func TestPastFlagsFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "d/full"), 0o755); err != nil {
		t.Fatal(err)
	}
	k := &kernel{flags: map[string]uint32{"d": sfImmutable, "": ufAppend}, level: 1}
	d := k.open(t, dir)
	err := d.RemoveAll("d")
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "schg") ||
		!strings.Contains(err.Error(), "securelevel is 1") {
		t.Errorf("%v", err)
	}
	k.level = -1
	if err := d.Rmdir("d"); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("%v", err)
	}
	if k.flags["d"] != sfImmutable || k.flags[""] != ufAppend {
		t.Errorf("flags are now %v", k.flags)
	}
}

// What has no flags is refused once, and nothing is tried.
func TestRefusedWithoutFlags(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	tr.err = unix.EPERM
	if err := tr.Unlink("file"); !errors.Is(err, unix.EPERM) || len(tr.ops) != 1 {
		t.Errorf("%v after %d ops", err, len(tr.ops))
	}
}

func TestRemoveTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"a", "a", "a/b/c"} {
		if err := RemoveTree(filepath.Join(dir, path.Clean(p)), nil); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("left %v, %v", names, err)
	}
}

// Somebody who renames things in the directory between the clearing of a flag and its return gets it on no
// other file, and the change's own outcome stands.
func TestPutBackByInode(t *testing.T) {
	t.Parallel()
	for _, flags := range allFlags[:6] {
		for _, stays := range []bool{true, false} {
			dir := t.TempDir()
			at := func(p string) string { return filepath.Join(dir, p) }
			err := errors.Join(os.WriteFile(at("file"), nil, 0o600), os.WriteFile(at("other"), nil, 0o600))
			if err != nil {
				t.Fatal(err)
			}
			k := &kernel{flags: map[string]uint32{"file": flags}}
			swapping := func(op Op) error {
				if op.Kind == "chown" && k.flags["file"] == 0 && !stays {
					err := errors.Join(os.Remove(at("file")), os.Rename(at("other"), at("file")))
					if err != nil {
						t.Error(err)
					}
				}
				return k.hook(op)
			}
			d, err := Open(dir, swapping)
			if err != nil {
				t.Fatal(err)
			}
			d.flags = func(path string) uint32 { return k.flags[path] }
			err = d.Chown("file", uint32(os.Geteuid()), uint32(os.Getegid()))
			d.Close()
			want := flags
			if !stays && flags&(immutable|appendOnly) != 0 {
				want = 0
			}
			if err != nil || k.flags["file"] != want {
				t.Errorf("%s, stays %v: %v, %x, want %x", FlagNames(flags), stays, err, k.flags["file"], want)
			}
		}
	}
}
