package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"cfgd/internal/dirfd"
	"cfgd/internal/machinetest"
	"cfgd/internal/pathname"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// machine is a box to which rapid does random things.
type machine struct {
	*box
	rt     *rapid.T
	byHand bool // something in cfg was written over by hand
}

var componentNames = []string{
	"a",
	"b",
	"c.conf",
	"d e",
	"gr\xfcn",
	"new\nline",
	"ssh",
	"local",
	"nginx",
	"rc.conf",
	"hosts",
	"periodic",
}

// name draws a path of live, mostly with few components, so that paths meet.
func (m *machine) name() string {
	if rapid.IntRange(0, 2).Draw(m.rt, "kind of name") == 0 {
		return rapid.SampledFrom(slices.Sorted(maps.Keys(etc))).Draw(m.rt, "default")
	}
	return strings.Join(rapid.SliceOfN(rapid.SampledFrom(componentNames), 1, 4).Draw(m.rt, "name"), "/")
}

func (m *machine) full() string { return m.path("jail/etc/" + m.name()) }

// some draws a path that live has, "" if it has none.
func (m *machine) some() string {
	var all []string
	m.must(filepath.WalkDir(m.path("jail/etc"), func(full string, _ fs.DirEntry, err error) error {
		if full != m.path("jail/etc") {
			all = append(all, full)
		}
		return err
	}))
	if len(all) == 0 {
		return ""
	}
	return rapid.SampledFrom(all).Draw(m.rt, "path")
}

// clearWay prepares a new name: it makes the directories above it and removes what is there. It returns false
// if that fails.
func (m *machine) clearWay(full string) bool {
	return os.MkdirAll(filepath.Dir(full), 0o755) == nil && os.RemoveAll(full) == nil
}

func (m *machine) content() []byte {
	return rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(m.rt, "content")
}

var randomMTime = rapid.Int64Range(-1e17, 3e18)

func (m *machine) create(*rapid.T) {
	if full := m.full(); m.clearWay(full) {
		m.must(os.WriteFile(full, m.content(), 0o644))
	}
}

func (m *machine) write(*rapid.T) {
	full := m.some()
	if st, err := os.Lstat(full); err != nil || !st.Mode().IsRegular() {
		return
	}
	flag := rapid.SampledFrom([]int{os.O_TRUNC, os.O_APPEND, 0}).Draw(m.rt, "how")
	f, err := os.OpenFile(full, os.O_WRONLY|flag, 0)
	m.must(err)
	_, err = f.Write(m.content())
	m.must(err)
	m.must(f.Close())
}

func (m *machine) sparse(*rapid.T) {
	if full := m.full(); m.clearWay(full) {
		f, err := os.Create(full)
		m.must(err)
		_, err = f.WriteAt([]byte("x"), rapid.Int64Range(0, 300_000).Draw(m.rt, "hole"))
		m.must(err)
		m.must(f.Truncate(rapid.Int64Range(0, 400_000).Draw(m.rt, "size")))
		m.must(f.Close())
	}
}

func (m *machine) remove(*rapid.T) {
	if full := m.some(); full != "" {
		m.must(os.RemoveAll(full))
	}
}

func (m *machine) mkdir(*rapid.T) {
	if full := m.full(); m.clearWay(full) {
		m.must(
			os.Mkdir(full, os.FileMode(rapid.SampledFrom([]uint32{0o755, 0o700, 0o711}).Draw(m.rt, "mode"))))
	}
}

func (m *machine) rename(*rapid.T) {
	from, to := m.some(), m.full()
	if from != "" && os.MkdirAll(filepath.Dir(to), 0o755) == nil {
		_ = os.Rename(from, to) // not every rename is possible: into itself, over a full directory
	}
}

func (m *machine) symlink(*rapid.T) {
	if full := m.full(); m.clearWay(full) {
		m.must(
			os.Symlink(
				rapid.SampledFrom([]string{"rc.conf", "../..", "/etc/passwd", "gone\n", "gr\xfcn"}).
					Draw(m.rt, "target"),
				full,
			),
		)
	}
}

func (m *machine) link(*rapid.T) {
	from, to := m.some(), m.full()
	if st, err := os.Lstat(from); err == nil && st.Mode().IsRegular() && from != to && m.clearWay(to) {
		_ = os.Link(from, to) // from may have been removed to clear the way
	}
}

func (m *machine) chmod(*rapid.T) {
	full := m.some()
	if st, err := os.Lstat(full); err == nil && st.Mode()&fs.ModeSymlink == 0 {
		mode := rapid.SampledFrom([]uint32{0o644, 0o755, 0o600, 0o4755, 0o2711, 0o1777, 0o400, 0o700}).
			Draw(m.rt, "mode")
		if !tree.Privileged {
			mode |= 0o700 // else its owner could not read it again
		}
		m.must(unix.Chmod(full, mode))
	}
}

func (m *machine) chown(*rapid.T) {
	if full := m.some(); full != "" && tree.Privileged {
		m.must(
			os.Lchown(full, rapid.IntRange(0, 3).Draw(m.rt, "uid"), rapid.IntRange(0, 3).Draw(m.rt, "gid")))
	}
}

func (m *machine) touch(*rapid.T) {
	if full := m.some(); full != "" {
		ts := unix.NsecToTimespec(randomMTime.Draw(m.rt, "mtime"))
		m.must(unix.UtimesNanoAt(unix.AT_FDCWD, full, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// putBack gives a path the content and permissions of its default again.
func (m *machine) putBack(*rapid.T) {
	p := rapid.SampledFrom(slices.Sorted(maps.Keys(etc))).Draw(m.rt, "default")
	if full := m.path("jail/etc/" + p); m.clearWay(full) {
		m.must(os.WriteFile(full, []byte(etc[p]), 0o644))
	}
}

// adminEdit changes a file of cfg by hand.
func (m *machine) adminEdit(*rapid.T) {
	full := m.path("jail/cfg/" + m.name())
	if m.clearWay(full) {
		m.must(os.WriteFile(full, m.content(), 0o644))
		m.byHand = true
	}
}

func (m *machine) save(*rapid.T) { m.saveTimes(rapid.Bool().Draw(m.rt, "times")) }

func (m *machine) saveTimes(times bool) {
	r, err := m.o.Save(context.Background(), SaveOptions{Force: true, Times: times})
	if err != nil {
		m.rt.Fatalf("save: %v", err)
	}
	if len(r.View.Unsaved) != 0 || len(r.Kept) != 0 {
		m.rt.Fatalf("after a save: unsaved %s, kept %v", paths(r.View.Unsaved), r.Kept)
	}
	m.settled()
	m.stored()
}

// stored checks the manifest against what the store holds.
func (m *machine) stored() {
	v, err := m.overlay().Look(context.Background(), LookOptions{})
	m.must(err)
	man := v.Current
	inCfg := 0
	for i := range v.Plain.Entries {
		e := &v.Plain.Entries[i]
		_, over := man.Override(e.Path)
		if over {
			inCfg++
		} else if e.Kind != dirfd.KindDir {
			m.rt.Fatalf("%q is in cfg and not in the manifest", e.Path)
		}
		if b, ok := v.Base.Tree.Get(e.Path); ok && over && store.Same(b, e, true) {
			m.rt.Fatalf("%q is in cfg and equals base", e.Path)
		}
	}
	if inCfg != len(man.Overrides) {
		m.rt.Fatalf("%d overrides in the manifest, %d in cfg", len(man.Overrides), inCfg)
	}
	if got := m.read("jail/cfg/.cfgd/removed"); got != string(man.RemovedText()) && man.Generation > 0 {
		m.rt.Fatalf("removed says %q, the manifest %q", got, man.RemovedText())
	}
	for _, r := range man.Removals {
		if !v.Base.Tree.Has(r.Path) || v.SavedTree().Has(r.Path) {
			m.rt.Fatalf("removal of %q: in base %v, saved %v", r.Path, v.Base.Tree.Has(r.Path),
				v.SavedTree().Has(r.Path))
		}
	}
	for _, c := range tree.Delta(v.Base.Tree, v.SavedTree()) {
		_, over := man.Override(c.Path)
		if told := over || c.Kind == tree.Deleted && (man.Removes(c.Path) || underFile(man, c.Path)); !told {
			m.rt.Fatalf("%s %q: not in the manifest", c.Kind, c.Path)
		}
	}
	if man.Generation == 0 {
		return
	}
	text, err := man.Encode()
	m.must(err)
	again, err := store.ParseManifest(text)
	m.must(err)
	again.Time = man.Time
	whole := *man
	whole.Overrides = slices.Clone(man.Overrides)
	if !reflect.DeepEqual(normal(again), normal(&whole)) {
		m.rt.Fatalf("a manifest is read back as\n%+v, was\n%+v", again, man)
	}
}

// normal returns a manifest without what only a scan knows, and with nil for empty lists.
func normal(m *store.Manifest) store.Manifest {
	c := store.Manifest{Generation: m.Generation, BaseID: m.BaseID, Message: m.Message}
	plain := func(e tree.Entry) tree.Entry { e.ClearStamp(); return e }
	for _, o := range m.Overrides {
		o.Entry = plain(o.Entry)
		if o.Default != nil {
			d := plain(*o.Default)
			o.Default = &d
		}
		c.Overrides = append(c.Overrides, o)
	}
	for _, r := range m.Removals {
		if r.Default != nil {
			d := plain(*r.Default)
			r.Default = &d
		}
		c.Removals = append(c.Removals, r)
	}
	c.Pins, c.HandEdits = append(c.Pins, m.Pins...), append(c.HandEdits, m.HandEdits...)
	return c
}

// underFile reports whether an override that is not a directory hides a path of base below it.
func underFile(m *store.Manifest, p string) bool {
	for p = pathname.Parent(p); p != ""; p = pathname.Parent(p) {
		if o, ok := m.Override(p); ok && o.Kind != dirfd.KindDir {
			return true
		}
	}
	return false
}

// restart saves, stops and starts: the tree must be the same, and nothing unsaved.
func (m *machine) restart(*rapid.T) {
	m.saveTimes(true)
	want := m.shape("jail/etc")
	v := m.look()
	m.box.restart()
	got := m.shape("jail/etc")
	for p := range want {
		// The times of what cfg holds are kept. A default that was only touched has base's time again, and so
		// has the root.
		if e, ok := v.Live.Get(p); p == "." || ok && (e.Kind == dirfd.KindDir || !v.Plain.Has(p)) {
			want[p], got[p] = withoutTime(want[p]), withoutTime(got[p])
		}
	}
	if !maps.Equal(want, got) {
		for p := range want {
			if want[p] != got[p] {
				m.rt.Errorf("%q: %.200s, want %.200s", p, got[p], want[p])
			}
		}
		for p := range got {
			if want[p] == "" {
				m.rt.Errorf("%q: %.200s, should not be", p, got[p])
			}
		}
		m.rt.FailNow()
	}
	if v := m.look(); len(v.Unsaved) != 0 {
		m.rt.Fatalf("after a restart: unsaved %s", paths(v.Unsaved))
	}
}

func withoutTime(s string) string {
	f := strings.SplitN(s, " ", 4)
	if len(f) > 2 {
		f[2] = ""
	}
	return strings.Join(f, " ")
}

// stop loses what was not saved: live is then the saved tree.
func (m *machine) stop(*rapid.T) {
	m.box.restart()
	if v := m.look(); len(v.Unsaved) != 0 || v.NotPopulated != nil {
		m.rt.Fatalf("populated: unsaved %s, %v", paths(v.Unsaved), v.NotPopulated)
	}
}

func (m *machine) restore(*rapid.T) {
	ctx := context.Background()
	log, err := m.o.History().Log(ctx)
	m.must(err)
	from := From{Base: rapid.Bool().Draw(m.rt, "from base")}
	if !from.Base && len(log) > 0 && rapid.Bool().Draw(m.rt, "from a generation") {
		from.Generation = rapid.SampledFrom(log).Draw(m.rt, "generation").Generation
	}
	_, err = m.o.Restore(ctx, from, []string{""}, "restored")
	if errors.Is(err, store.ErrObject) && m.byHand && from.Generation != 0 {
		return // what was overwritten in cfg by hand can be restored from the generation that held it
	}
	if err != nil {
		m.rt.Fatalf("restore %+v: %v", from, err)
	}
	v := m.look()
	if len(v.Unsaved) != 0 {
		m.rt.Fatalf("restored %+v: unsaved %s", from, paths(v.Unsaved))
	}
	if from.Base && len(v.Local) != 0 {
		m.rt.Fatalf("restored base: local %s", paths(v.Local))
	}
	if from.Generation != 0 {
		g := log[slices.IndexFunc(log, func(g LogEntry) bool { return g.Generation == from.Generation })]
		plain := g.Plain(v.Base.Tree, &tree.Tree{})
		if d := tree.Delta(tree.Saved(v.Base.Tree, plain, g.Removals), v.Live); len(d) != 0 {
			m.rt.Fatalf("restored generation %d: differs in %s", from.Generation, paths(d))
		}
	}
	m.stored()
}

// rapidTB is the testing.TB of a machine. It fails through rapid, so that failures shrink.
type rapidTB struct {
	testing.TB
	rt *rapid.T
}

func (r rapidTB) Helper()                   {}
func (r rapidTB) Fatal(args ...any)         { r.rt.Fatal(args...) }
func (r rapidTB) Errorf(f string, a ...any) { r.rt.Errorf(f, a...) }

func TestRandomEdits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("/dev/shm", "cfgd-rapid")
		if err != nil {
			dir, err = os.MkdirTemp("", "cfgd-rapid")
		}
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &machine{box: newBoxIn(rapidTB{t, rt}, dir, etc), rt: rt}
		m.populate()
		rt.Repeat(map[string]func(*rapid.T){
			"create": m.create, "write": m.write, "sparse": m.sparse, "remove": m.remove, "mkdir": m.mkdir,
			"rename": m.rename, "symlink": m.symlink,
			"link": m.link, "chmod": m.chmod, "chown": m.chown, "touch": m.touch, "put back": m.putBack,
			"create again": m.create, "write again": m.write,
			"admin edit": m.adminEdit, "save": m.save, "restart": m.restart, "stop": m.stop,
			"restore": m.restore,
		})
		m.restart(rt)
	})
}

func setXattr(t testing.TB, full, name, value string) {
	t.Helper()
	err := unix.Lsetxattr(full, name, []byte(value), 0)
	if dirfd.XattrRefused(err) {
		t.Skipf("this filesystem holds no extended attributes: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func getXattr(full, name string) string {
	b := make([]byte, 100)
	n, err := unix.Lgetxattr(full, name, b)
	if err != nil {
		return "(none)"
	}
	return string(b[:n])
}

func TestAttributesTravel(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	setXattr(t, b.path("base/hosts"), "user.default", "d")
	b.populate()
	f := func(p string) string { return b.path("jail/etc/" + p) }
	if got := getXattr(f("hosts"), "user.default"); got != "d" {
		t.Errorf("a default's attribute: %q", got)
	}
	setXattr(t, f("rc.conf"), "user.one", "1")
	setXattr(t, f("ssh"), "user.dir", "2")
	b.edit("new", "x\n")
	setXattr(t, f("new"), "user.new", "\x00\xff")
	if got := paths(b.look().Unsaved); got != "A new, P rc.conf, P ssh" {
		t.Errorf("unsaved %s", got)
	}
	b.save()
	check := func() {
		t.Helper()
		b.restart()
		if v := b.look(); len(v.Unsaved) != 0 {
			t.Errorf("unsaved %s", paths(v.Unsaved))
		}
		if got := getXattr(f("rc.conf"), "user.one") + getXattr(f("ssh"), "user.dir") +
			getXattr(f("new"), "user.new"); got != "12\x00\xff" {
			t.Errorf("after a restart: %q", got)
		}
	}
	check()
	b.must(unix.Removexattr(f("new"), "user.new"))
	setXattr(t, f("new"), "user.other", "o")
	b.must(unix.Removexattr(f("ssh"), "user.dir"))
	b.save()
	b.restart()
	if got := getXattr(f("new"), "user.other") + getXattr(f("new"), "user.new") +
		getXattr(f("ssh"), "user.dir"); got != "o(none)(none)" {
		t.Errorf("after they were removed: %q", got)
	}
	b.must(unix.Removexattr(f("hosts"), "user.default"))
	b.save()
	b.restart()
	if got := getXattr(f("hosts"), "user.default"); got != "(none)" {
		t.Errorf("a default's attribute that was removed: %q", got)
	}
}

// A directory that only holds others in cfg loses removed attributes both there and in live.
func TestRemovedAttributesOfDirectories(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	ssh := b.path("jail/etc/ssh")
	setXattr(t, ssh, "user.one", "1")
	setXattr(t, ssh, "user.two", "2")
	b.edit("ssh/new", "x\n")
	b.save()
	b.must(unix.Removexattr(ssh, "user.one"))
	b.save()
	if got := getXattr(b.path("jail/cfg/ssh"), "user.one") +
		getXattr(b.path("jail/cfg/ssh"), "user.two"); got != "(none)2" {
		t.Errorf("in cfg: %q", got)
	}
	for range 2 {
		if v := b.look(); len(v.Unsaved) != 0 {
			t.Errorf("unsaved %s", paths(v.Unsaved))
		}
		if got := getXattr(ssh, "user.one") + getXattr(ssh, "user.two"); got != "(none)2" {
			t.Errorf("in live: %q", got)
		}
		b.restart()
	}
	setXattr(t, ssh, "user.three", "3")
	_, err := b.o.Restore(context.Background(), From{}, []string{"ssh"}, "")
	b.must(err)
	if got := getXattr(ssh, "user.two") + getXattr(ssh, "user.three"); got != "2(none)" {
		t.Errorf("after a restore: %q", got)
	}
}

func TestFidelity(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	f := func(p string) string { return b.path("jail/etc/" + p) }
	b.edit("setuid", "s\n")
	if tree.Privileged {
		b.must(os.Chown(f("setuid"), 7, 9))
	}
	b.must(unix.Chmod(f("setuid"), 0o6755))
	b.must(unix.Chmod(f("rc.conf"), 0o600))
	b.must(os.MkdirAll(f("empty/inner"), 0o755))
	b.must(unix.Chmod(f("empty"), 0o1777))
	b.edit("old", "from before 1970\n")
	for p, ns := range map[string]int64{"old": -86400_000_000_001, "setuid": 1_600_000_000_000_000_001,
		"empty": 1_500_000_000_999_999_999} {
		ts := unix.NsecToTimespec(ns)
		b.must(unix.UtimesNanoAt(unix.AT_FDCWD, f(p), []unix.Timespec{ts, ts}, 0))
	}
	b.edit("link1", "linked\n")
	b.must(os.Link(f("link1"), f("empty/link2")))
	ts := unix.NsecToTimespec(1_500_000_000_999_999_999)
	b.must(unix.UtimesNanoAt(unix.AT_FDCWD, f("empty"), []unix.Timespec{ts, ts}, 0))
	sparse, err := os.Create(f("sparse"))
	b.must(err)
	_, err = sparse.WriteAt([]byte("end"), 900_000)
	b.must(err)
	b.must(sparse.Close())
	b.must(os.Symlink("dangling", f("symlink")))
	b.must(unix.UtimesNanoAt(unix.AT_FDCWD, f("symlink"), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	b.save()
	want := b.shape("jail/etc")
	b.restart()
	got := b.shape("jail/etc")
	delete(want, ".") // the store does not keep the root's own time
	delete(got, ".")
	b.same(want, got)
	var one, two, hole unix.Stat_t
	b.must(unix.Stat(f("link1"), &one))
	b.must(unix.Stat(f("empty/link2"), &two))
	b.must(unix.Stat(f("sparse"), &hole))
	if one.Ino != two.Ino {
		t.Error("hard links are two files now")
	}
	if hole.Blocks*512 > 64<<10 {
		t.Errorf("a sparse file takes %d KiB", hole.Blocks/2)
	}
	b.must(unix.Chmod(f("rc.conf"), 0o644))
	if r := b.save(); len(r.Released) != 1 {
		t.Errorf("released %v", r.Released)
	}
}

func TestThousandFiles(t *testing.T) {
	t.Parallel()
	b := newBoxIn(t, machinetest.MemDir(t), etc)
	b.populate()
	for i := range 1000 {
		b.edit(fmt.Sprintf("many/%d/%d", i%10, i), fmt.Sprint(i))
	}
	began := time.Now()
	if r := b.save(); len(r.View.Unsaved) != 0 {
		t.Errorf("unsaved %s", paths(r.View.Unsaved))
	}
	t.Logf("saved in %v", time.Since(began))
	want := b.shape("jail/etc")
	b.restart()
	got := b.shape("jail/etc")
	delete(want, ".")
	delete(got, ".")
	b.same(want, got)
	b.remove("many")
	if r, err := b.o.Save(context.Background(), SaveOptions{Force: true}); err != nil || r.Generation != 2 {
		t.Errorf("removed: %v", err)
	}
	b.settled()
	if got := len(b.shape("jail/cfg/.cfgd/tmp")); got != 1 || b.read("jail/cfg/many/1/1") != "(absent)" {
		t.Errorf("after the removal: %d in tmp", got)
	}
}
