package prototype

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cfgd/internal/dirfd"
	"cfgd/internal/run"
)

// zfsSays is a zfs(8) that prints one text.
type zfsSays struct {
	out string
	ran []string
}

func (z *zfsSays) Run(_ context.Context, c run.Cmd) (string, error) {
	z.ran = append(z.ran, c.String())
	return z.out, nil
}

func TestZFSSnapshots(t *testing.T) {
	t.Parallel()
	r := &zfsSays{out: "zpool/proto@1\t1700000000\t-\nzpool/proto@2\t1700000100\tnginx 1.26, for all\n"}
	z := ZFS{Run: r, Dataset: "zpool/proto"}
	all, err := z.List(t.Context())
	if err != nil || len(all) != 2 || all[0] != (Snapshot{Name: "1", Time: time.Unix(1700000000, 0).UTC()}) ||
		all[1].Comment != "nginx 1.26, for all" || Next(all) != "3" {
		t.Errorf("%+v, %v", all, err)
	}
	if err := errors.Join(z.Take(t.Context(), "3", ""), z.Take(t.Context(), "3", "it's new"),
		z.Destroy(t.Context(), "1")); err != nil {
		t.Error(err)
	}
	want := []string{"zfs list -Hp -t snapshot -d 1 -s creation -o name,creation,cfgd:comment zpool/proto",
		"zfs snapshot -r zpool/proto@3",
		`zfs snapshot -r -o 'cfgd:comment=it'\''s new' zpool/proto@3`, "zfs destroy -r zpool/proto@1"}
	if !slices.Equal(r.ran, want) {
		t.Errorf("%q", r.ran)
	}
	if plan := append(z.TakePlan("3", ""), z.DestroyPlan("1")...); !slices.Equal(plan,
		[]string{want[1], want[3]}) {
		t.Errorf("%q", plan)
	}
	for _, bad := range []string{"zpool/proto\t1\t-\n", "zpool/proto@1\n", "zpool/proto@1\tx\t-\n"} {
		if _, err := (ZFS{Run: &zfsSays{out: bad}}).List(t.Context()); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestCopies(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put := func(name, content string) {
		full := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755),
			os.WriteFile(full, []byte(content), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	c := Copies{Root: root}
	if all, err := c.List(t.Context()); err != nil || len(all) > 0 || Next(all) != "1" {
		t.Errorf("%v, %v", all, err)
	}
	put("etc/rc.conf", "1\n")
	put(".cfgd/snapshot/.new/half", "of a run that was killed")
	if err := errors.Join(os.Symlink("rc.conf", filepath.Join(root, "etc/link")),
		os.Chtimes(filepath.Join(root, "etc/rc.conf"), time.Time{}, time.Unix(1e9, 0))); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 10; n++ {
		put("etc/n", fmt.Sprint(n))
		if err := c.Take(t.Context(), fmt.Sprint(n), fmt.Sprintf("number %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := c.List(t.Context())
	if err != nil || len(all) != 10 || all[9].Name != "10" || all[9].Comment != "number 10" ||
		Next(all) != "11" {
		t.Errorf("%+v, %v", all, err)
	}
	copied := filepath.Join(root, ".cfgd/snapshot/2/etc")
	st, err := os.Lstat(filepath.Join(copied, "rc.conf"))
	link, lerr := os.Readlink(filepath.Join(copied, "link"))
	n, nerr := os.ReadFile(filepath.Join(copied, "n"))
	if err := errors.Join(err, lerr, nerr); err != nil || st.Mode() != 0o640 || st.ModTime().Unix() != 1e9 ||
		link != "rc.conf" || string(n) != "2" {
		t.Errorf("%v, %v, %q, %q", err, st, link, n)
	}
	if _, err := os.Lstat(filepath.Join(root, ".cfgd/snapshot/10/.cfgd")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("snapshots are in the snapshot: %v", err)
	}
	if err := c.Destroy(t.Context(), "3"); err != nil {
		t.Fatal(err)
	}
	if all, err = c.List(t.Context()); err != nil || len(all) != 9 {
		t.Errorf("%v, %v", all, err)
	}
	left, _ := filepath.Glob(filepath.Join(root, ".cfgd/snapshot/.*"))
	if len(left) != 9 { // the comments
		t.Errorf("left: %q", left)
	}
	if err := c.Destroy(t.Context(), "3"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// stubborn is a hook that receives all changes, and refuses those that deny selects.
type stubborn struct {
	mu   sync.Mutex
	ops  []string
	deny func(op dirfd.Op) error
}

func (s *stubborn) hook(op dirfd.Op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops = append(s.ops, strings.TrimSpace(op.Kind+" "+op.Path+" "+op.To))
	if s.deny == nil {
		return nil
	}
	return s.deny(op)
}

// copied is a prototype with one file, and its copies.
func copied(t *testing.T) (Copies, *stubborn) {
	t.Helper()
	root := t.TempDir()
	err := errors.Join(os.Mkdir(filepath.Join(root, "etc"), 0o755),
		os.WriteFile(filepath.Join(root, "etc/rc.conf"), nil, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	h := &stubborn{}
	return Copies{Root: root, Hook: h.hook}, h
}

// A copy that cannot be removed is named, and prevents neither the next removal nor the next copy. It is
// removed when that is possible.
func TestCopiesThatStay(t *testing.T) {
	t.Parallel()
	c, h := copied(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"1", "2", "3"} {
		must(c.Take(t.Context(), name, ""))
	}
	h.deny = func(op dirfd.Op) error {
		if op.Kind == "unlink" && strings.HasSuffix(op.Path, "etc/rc.conf") {
			return unix.EPERM
		}
		return nil
	}
	for i, name := range []string{"1", "2"} {
		left := c.path([]string{".gone", ".gone.2"}[i])
		if err := c.Destroy(t.Context(), name); !errors.Is(err, unix.EPERM) ||
			!strings.Contains(err.Error(), left+":") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(left); err != nil {
			t.Error(err)
		}
	}
	must(c.Take(t.Context(), "4", ""))
	all, err := c.List(t.Context())
	if names := namesOf(all); err != nil || !slices.Equal(names, []string{"3", "4"}) {
		t.Errorf("%q, %v", names, err)
	}
	h.deny = nil
	must(c.Destroy(t.Context(), "3"))
	if names, _ := filepath.Glob(c.path(".gone*")); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

func namesOf(all []Snapshot) (names []string) {
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names
}

// A copy gets its name when all of it is on stable storage, and none if that failed. Its removal begins
// with its name.
func TestCopiesAreDurable(t *testing.T) {
	t.Parallel()
	c, h := copied(t)
	if err := c.Take(t.Context(), "1", ""); err != nil {
		t.Fatal(err)
	}
	at := func(op string) int { return slices.Index(h.ops, op) }
	synced, renamed := at("synctree .new"), at("rename .new 1")
	if synced < 0 || renamed < synced || h.ops[len(h.ops)-1] != "syncdir" || len(h.ops)-1 <= renamed {
		t.Errorf("%q", h.ops)
	}
	for _, kind := range []string{"mkdir", "synctree", "rename"} {
		h.deny = func(op dirfd.Op) error {
			if op.Kind == kind {
				return unix.EIO
			}
			return nil
		}
		if err := c.Take(t.Context(), "2", ""); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", kind, err)
		}
		all, err := c.List(t.Context())
		if half, _ := filepath.Glob(c.path(".new*")); err != nil || len(all) != 1 || len(half) > 0 {
			t.Errorf("after %s: %v, %q, %v", kind, all, half, err)
		}
	}
	h.deny, h.ops = nil, nil
	if err := c.Destroy(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"rename 1 .gone", "syncdir", "unlink .1.comment"}; !slices.Equal(h.ops[:3], want) {
		t.Errorf("%q", h.ops)
	}
}

// A link in place of the copies' directory is not followed out of the prototype.
func TestCopiesFollowNoLink(t *testing.T) {
	t.Parallel()
	c, _ := copied(t)
	outside := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(outside, "1"), 0o755),
		os.Mkdir(filepath.Join(c.Root, ".cfgd"), 0o755),
		os.Symlink(outside, c.dir())); err != nil {
		t.Fatal(err)
	}
	if err := c.Destroy(t.Context(), "1"); err == nil {
		t.Error("a directory outside was taken for a copy")
	}
	if err := c.Take(t.Context(), "2", ""); err == nil {
		t.Error("a copy was made outside")
	}
	if names, _ := os.ReadDir(outside); len(names) != 1 {
		t.Errorf("outside: %v", names)
	}
}

func TestQuiet(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	full := filepath.Join(root, "var/db/pkg/local.sqlite-journal")
	if err := errors.Join(checkPackages(root), os.MkdirAll(filepath.Dir(full), 0o755),
		os.WriteFile(full, nil, 0o644),
		checkPackages(root), os.WriteFile(full, []byte("x"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := checkPackages(root); !errors.Is(err, ErrPackages) || !strings.Contains(err.Error(), full) {
		t.Error(err)
	}
}

// Clones and holds of any of the prototype's datasets keep a snapshot.
func TestZFSInUse(t *testing.T) {
	t.Parallel()
	r := &zfsSays{out: "zpool/proto@1\t\t0\nzpool/proto/etc@1\tzpool/test/etc,zpool/x\t0\n" +
		"zpool/proto@2\t\t1\nzpool/proto/etc@2\t\t0\nzpool/proto@3\t-\t-\n"}
	why, err := ZFS{Run: r, Dataset: "zpool/proto"}.InUse(t.Context())
	if err != nil || len(why) != 2 || why["1"] != "zpool/test/etc,zpool/x is a clone of it" ||
		why["2"] != "it is held: zfs holds zpool/proto@2" {
		t.Errorf("%v, %v", why, err)
	}
	if r.ran[0] != "zfs list -Hpr -t snapshot -o name,clones,userrefs zpool/proto" {
		t.Errorf("%q", r.ran)
	}
	for _, bad := range []string{"zpool/proto\t\t0\n", "zpool/proto@1\n"} {
		if _, err := (ZFS{Run: &zfsSays{out: bad}}).InUse(t.Context()); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	for name, want := range map[string]bool{
		"1":       true,
		"12":      true,
		"0":       false,
		"01":      false,
		"-1":      false,
		"+1":      false,
		"daily-1": false,
		"":        false,
	} {
		if (Snapshot{Name: name}).Numbered() != want {
			t.Errorf("%q", name)
		}
	}
}

// Root of a running prototype puts a link in the place of .cfgd, or of the directory in it, before any of the
// changes that a copy or a removal makes: nothing outside is written, read as a comment, or removed.
func TestCopiesFollowNoLinkThatComesMeanwhile(t *testing.T) {
	t.Parallel()
	for _, swapped := range []string{".cfgd", ".cfgd/snapshot"} {
		for what, do := range map[string]func(Copies) error{
			"take":    func(c Copies) error { return c.Take(t.Context(), "2", "a comment") },
			"destroy": func(c Copies) error { return c.Destroy(t.Context(), "1") },
		} {
			for n, done := 0, false; !done; n++ {
				c, h := copied(t)
				if err := c.Take(t.Context(), "1", "kept"); err != nil {
					t.Fatal(err)
				}
				outside := t.TempDir()
				for _, p := range []string{"1/etc", ".new/etc", ".gone"} {
					err := errors.Join(os.MkdirAll(filepath.Join(outside, p), 0o755),
						os.MkdirAll(filepath.Join(outside, "snapshot", p), 0o755))
					if err != nil {
						t.Fatal(err)
					}
				}
				for _, p := range []string{".1.comment", "snapshot/.1.comment"} {
					if err := os.WriteFile(filepath.Join(outside, p), []byte("outside\n"),
						0o644); err != nil {
						t.Fatal(err)
					}
				}
				before := listed(t, outside)
				at := n
				done = true
				h.deny = func(dirfd.Op) error {
					if at--; at != -1 {
						return nil
					}
					done = false // there was an n-th change
					full := filepath.Join(c.Root, swapped)
					return errors.Join(os.Rename(full, full+".away"), os.Symlink(outside, full))
				}
				_ = do(c) // it may fail
				h.deny = nil
				if after := listed(t, outside); !slices.Equal(before, after) {
					t.Errorf("%s, %s swapped before change %d: %q, was %q", what, swapped, n, after, before)
				}
				if !done {
					if all, err := c.List(t.Context()); err == nil {
						t.Errorf("%s: %v was read through a link", what, all)
					}
				}
			}
		}
	}
}

// listed are the names below a directory, with their sizes and times.
func listed(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil {
			all = append(all, fmt.Sprint(p, " ", st.Mode(), " ", st.Size(), " ", st.ModTime().UnixNano()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
