package overlay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/machinetest"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// The tests of this file record what a commit does, replay every prefix of it on a model of a disk that loses
// power, and let a new store open what is left.

// recorder is a Hook that records the changes.
type recorder struct {
	mu  sync.Mutex // guards ops
	ops []dirfd.Op
}

func (r *recorder) hook(op dirfd.Op) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	op.Data = slices.Clone(op.Data)
	r.ops = append(r.ops, op)
	return nil
}

// recorded runs f with a new overlay and returns the changes that it made.
func (b *box) recorded(f func()) []dirfd.Op {
	b.Helper()
	var r recorder
	b.o = b.fresh()
	b.o.Hook = r.hook
	f()
	b.o.Hook = nil
	return r.ops
}

// fresh returns an overlay that remembers nothing of live and cfg, as a new process. It keeps the scans of
// base to save time.
func (b *box) fresh() *Overlay {
	o := b.overlay()
	o.Target.Rescan = 24 * time.Hour
	o.Bases = b.o.Bases
	return o
}

// attrs are a file's content and metadata at one time.
type attrs struct {
	content  []byte
	mode     uint32
	uid, gid uint32
	mtime    int64
	xattrs   map[string]string
}

func (a *attrs) clone() attrs {
	c := *a
	c.content, c.xattrs = slices.Clone(a.content), maps.Clone(a.xattrs)
	return c
}

// node is a file, directory or link of the model: what a running system sees, and what is on the disk.
type node struct {
	kind     dirfd.Kind
	link     string
	now      attrs
	kept     attrs
	names    map[string]*node // of a directory, as a running system sees it
	onDisk   map[string]*node
	unsynced bool // content or metadata
	unstable bool // content
}

// dirChange is a rename or the like: a change of one or two directories that is never half on the disk.
type dirChange []struct {
	dir  *node
	name string
	to   *node // nil removes the name
}

type disk struct {
	root    *node
	pending []dirChange
	written *node // by the last operation
	half    int   // the size at which that write would be torn
}

const someTime = 1_000_000_000 * 1_000_000_000

func newDir() *node {
	n := &node{kind: dirfd.KindDir, names: map[string]*node{}, onDisk: map[string]*node{}}
	n.now.mode, n.now.mtime = 0o700, someTime
	n.now.uid, n.now.gid = tree.OwnIDs()
	n.kept = n.now.clone()
	return n
}

// readDisk reads a directory into a model in which everything is on the disk.
func readDisk(t testing.TB, name string) *disk {
	t.Helper()
	root := newDir()
	dirs := map[string]*node{".": root}
	err := filepath.WalkDir(name, func(full string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(name, full)
		var st unix.Stat_t
		if err := unix.Lstat(full, &st); err != nil {
			return err
		}
		n := &node{kind: dirfd.KindFile}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			if n = newDir(); rel == "." {
				n = root
			}
			dirs[rel] = n
		case unix.S_IFLNK:
			n.kind = dirfd.KindSymlink
			n.link, _ = os.Readlink(full)
		default:
			if n.now.content, err = os.ReadFile(full); err != nil {
				return err
			}
		}
		n.now.mode, n.now.uid, n.now.gid, n.now.mtime = uint32(st.Mode)&0o7777, st.Uid, st.Gid, st.Mtim.Nano()
		n.kept = n.now.clone()
		if rel != "." {
			dir := dirs[filepath.Dir(rel)]
			dir.names[filepath.Base(rel)], dir.onDisk[filepath.Base(rel)] = n, n
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return &disk{root: root}
}

func (d *disk) find(path string) *node {
	n := d.root
	for name := range strings.SplitSeq(path, "/") {
		if n != nil && name != "" {
			n = n.names[name]
		}
	}
	return n
}

func (d *disk) parent(path string) (*node, string) {
	return d.find(pathname.Parent(path)), filepath.Base(path)
}

// set changes names now. A later sync brings the change to the disk.
func (d *disk) set(c dirChange) {
	for _, s := range c {
		if s.to == nil {
			delete(s.dir.names, s.name)
		} else {
			s.dir.names[s.name] = s.to
		}
	}
	d.pending = append(d.pending, c)
}

func (d *disk) name(path string, to *node) {
	dir, name := d.parent(path)
	d.set(dirChange{{dir, name, to}})
}

func (d *disk) apply(t testing.TB, op dirfd.Op) {
	t.Helper()
	d.written = nil
	n := d.find(op.Path)
	switch op.Kind {
	case "create":
		n := &node{kind: dirfd.KindFile, unsynced: true, unstable: true}
		n.now.mode, n.now.mtime = op.Mode, someTime
		n.now.uid, n.now.gid = tree.OwnIDs()
		n.kept = n.now.clone()
		d.name(op.Path, n)
	case "mkdir":
		d.name(op.Path, newDir())
	case "symlink":
		n := &node{kind: dirfd.KindSymlink, link: op.To, unsynced: true}
		n.now.mtime = someTime
		n.now.uid, n.now.gid = tree.OwnIDs()
		n.kept = n.now.clone()
		d.name(op.Path, n)
	case "link":
		d.name(op.To, n)
	case "rename":
		if n == nil {
			return // the call fails
		}
		from, a := d.parent(op.Path)
		to, b := d.parent(op.To)
		d.set(dirChange{{to, b, n}, {from, a, nil}})
	case "unlink", "rmdir":
		if n == nil || (op.Kind == "rmdir") != (n.kind == dirfd.KindDir) || len(n.names) > 0 {
			return // the call fails
		}
		d.name(op.Path, nil)
	case "write":
		if need := int(op.Off) + len(op.Data); len(n.now.content) < need {
			n.now.content = append(n.now.content, make([]byte, need-len(n.now.content))...)
		}
		copy(n.now.content[op.Off:], op.Data)
		d.written, d.half = n, int(op.Off)+len(op.Data)/2
		n.unsynced, n.unstable = true, true
	case "truncate":
		n.now.content = append(n.now.content,
			make([]byte, max(0, int(op.Off)-len(n.now.content)))...)[:op.Off]
		n.unsynced, n.unstable = true, true
	case "chmod":
		n.now.mode, n.unsynced = op.Mode, true
	case "chown":
		n.now.uid, n.now.gid, n.unsynced = op.UID, op.GID, true
	case "utimes":
		n.now.mtime, n.unsynced = op.MTime, true
	case "xattr":
		n.now.xattrs = maps.Clone(n.now.xattrs)
		if n.now.xattrs == nil {
			n.now.xattrs = map[string]string{}
		}
		n.now.xattrs[op.To], n.unsynced = string(op.Data), true
	case "rmxattr":
		n.now.xattrs = maps.Clone(n.now.xattrs)
		delete(n.now.xattrs, op.To)
		n.unsynced = true
	case "fsync":
		n.kept, n.unsynced, n.unstable = n.now.clone(), false, false
	case "syncdir":
		d.syncDir(n)
	default:
		t.Fatalf("the model knows no %s", op.Kind)
	}
}

// syncDir brings the changes of a directory's names to the disk, and all that belong to them: the other half
// of a rename, and earlier changes of the same names.
func (d *disk) syncDir(dir *node) {
	type place struct {
		dir  *node
		name string
	}
	need := map[place]bool{}
	take := make([]bool, len(d.pending))
	for i, c := range slices.Backward(d.pending) {
		for _, s := range c {
			take[i] = take[i] || s.dir == dir || need[place{s.dir, s.name}]
		}
		for _, s := range c {
			if take[i] {
				need[place{s.dir, s.name}] = true
			}
		}
	}
	var left []dirChange
	for i, c := range d.pending {
		if !take[i] {
			left = append(left, c)
			continue
		}
		for _, s := range c {
			setName(s.dir.onDisk, s.name, s.to)
		}
	}
	d.pending = left
	dir.kept, dir.unsynced = dir.now.clone(), false
	for _, n := range dir.onDisk {
		if n.kind == dirfd.KindSymlink { // no call syncs a link; its inode is written with the directory
			n.kept, n.unsynced = n.now.clone(), false
		}
	}
}

func setName(names map[string]*node, name string, to *node) {
	if to == nil {
		delete(names, name)
	} else {
		names[name] = to
	}
}

// image is what a disk holds after a power cut.
type image struct {
	kind     dirfd.Kind
	link     string
	attrs    attrs
	children map[string]*image
}

// dropped loses everything that was not synced.
func (d *disk) dropped() *image {
	return picture(d.root, func(n *node) map[string]*node { return n.onDisk },
		func(n *node) attrs { return n.kept })
}

// torn keeps everything, but the last write stopped halfway.
func (d *disk) torn() *image {
	return picture(d.root, func(n *node) map[string]*node { return n.names }, func(n *node) attrs {
		a := n.now.clone()
		if n == d.written {
			a.content = a.content[:min(d.half, len(a.content))]
		}
		return a
	})
}

// shuffled keeps a prefix or any subset of the pending name changes. What was not synced of files is old,
// new, cut or zeroed.
func (d *disk) shuffled(rnd *rand.Rand) *image {
	names := map[*node]map[string]*node{}
	of := func(n *node) map[string]*node {
		if names[n] == nil {
			names[n] = maps.Clone(n.onDisk)
		}
		return names[n]
	}
	prefix := rnd.IntN(2) == 0
	end := rnd.IntN(len(d.pending) + 1)
	for i, c := range d.pending {
		if prefix && i >= end || !prefix && rnd.IntN(2) == 0 {
			continue
		}
		for _, s := range c {
			setName(of(s.dir), s.name, s.to)
		}
	}
	return picture(d.root, of, func(n *node) attrs { return n.some(rnd) })
}

func (n *node) some(rnd *rand.Rand) attrs {
	if !n.unsynced {
		return n.kept
	}
	a := n.now.clone()
	switch how := rnd.IntN(4); {
	case how == 0:
		return n.kept
	case !n.unstable:
	case how == 1:
		a.content = a.content[:rnd.IntN(len(a.content)+1)]
	case how == 2:
		clear(a.content)
	}
	return a
}

func picture(n *node, names func(*node) map[string]*node, state func(*node) attrs) *image {
	m := &image{kind: n.kind, link: n.link, attrs: state(n)}
	if n.kind != dirfd.KindDir {
		return m
	}
	m.children = map[string]*image{}
	of := names(n)
	for _, name := range slices.Sorted(maps.Keys(of)) {
		m.children[name] = picture(of[name], names, state)
	}
	return m
}

// text writes all of an image, to compare images.
func (m *image) text(b *strings.Builder, name string) {
	fmt.Fprintf(b, "%q %s %q %q %o %d %d %d %q\n", name, m.kind, m.link, m.attrs.content, m.attrs.mode,
		m.attrs.uid, m.attrs.gid, m.attrs.mtime, m.attrs.xattrs)
	for _, c := range slices.Sorted(maps.Keys(m.children)) {
		m.children[c].text(b, name+"/"+c)
	}
}

// write makes the image's files in a directory.
func (m *image) write(t testing.TB, full string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	switch m.kind {
	case dirfd.KindDir:
		must(os.Mkdir(full, 0o700))
		for name, c := range m.children {
			c.write(t, filepath.Join(full, name))
		}
	case dirfd.KindSymlink:
		must(os.Symlink(m.link, full))
	default:
		must(os.WriteFile(full, m.attrs.content, 0o600))
	}
	if tree.Privileged {
		must(os.Lchown(full, int(m.attrs.uid), int(m.attrs.gid)))
	}
	for name, v := range m.attrs.xattrs {
		must(unix.Lsetxattr(full, name, []byte(v), 0))
	}
	if m.kind != dirfd.KindSymlink {
		must(unix.Chmod(full, m.attrs.mode))
	}
	ts := []unix.Timespec{unix.NsecToTimespec(m.attrs.mtime), unix.NsecToTimespec(m.attrs.mtime)}
	must(unix.UtimesNanoAt(unix.AT_FDCWD, full, ts, unix.AT_SYMLINK_NOFOLLOW))
}

// plainFiles lists what a stock tool finds in an image: files and links with content and permissions,
// directories by name.
func (m *image) plainFiles() map[string]string {
	out := map[string]string{}
	var walk func(m *image, path string)
	walk = func(m *image, path string) {
		for name, c := range m.children {
			p := strings.TrimPrefix(path+"/"+name, "/")
			switch {
			case p == tree.MetaName:
			case c.kind == dirfd.KindDir:
				out[p] = "dir"
				walk(c, p)
			case c.kind == dirfd.KindSymlink:
				out[p] = "link " + c.link
			default:
				out[p] = fmt.Sprintf("file %o %d:%d %d %q", c.attrs.mode, c.attrs.uid, c.attrs.gid,
					c.attrs.mtime, c.attrs.content)
			}
		}
	}
	walk(m, "")
	return out
}

// savedState returns the saved tree in words, with its generation.
func (b *box) savedState(lock bool) (string, *View) {
	b.Helper()
	o := b.fresh()
	v, err := o.Look(context.Background(), LookOptions{Lock: lock})
	if err != nil {
		b.Fatal(err)
	}
	var s strings.Builder
	fmt.Fprintf(&s, "generation %d held %q\n", v.Current.Generation, v.Current.HandEdits)
	saved := v.SavedTree()
	for i := range saved.Entries {
		e := &saved.Entries[i]
		fmt.Fprintf(&s, "%q %s %o %d:%d %s %q %s", e.Path, e.Kind, e.Mode, e.UID, e.GID, e.Digest, e.Link,
			e.Xattrs)
		if e.Kind != dirfd.KindDir && v.Plain.Has(e.Path) {
			fmt.Fprintf(&s, " %d", e.MTime)
		}
		s.WriteByte('\n')
	}
	return s.String(), v
}

// crash is one recorded commit: the disk at its beginning, what it did, and what may be found afterwards.
type crash struct {
	*testing.T
	box      *box // in which images are opened
	start    func() *disk
	ops      []dirfd.Op
	old, new string // saved states
	seen     map[[32]byte]bool
	opened   int

	oldPlain, newPlain map[string]string
	mendable           bool // the reopening may adopt
}

// recordCrash prepares a box and records act. old is the state before it, unless act finishes what was begun
// before.
func recordCrash(t *testing.T, prepare, act func(b *box)) *crash {
	b := newBoxIn(t, machinetest.MemDir(t), etc)
	b.populate()
	prepare(b)
	c := &crash{T: t, seen: map[[32]byte]bool{}}
	c.old, _ = b.savedState(false)
	before := readDisk(t, b.path("jail/cfg")).torn()
	before.write(t, b.path("before"))
	c.start = func() *disk { return readDisk(t, b.path("before")) }
	c.oldPlain = before.plainFiles()
	c.ops = b.recorded(func() { act(b) })
	c.new, _ = b.savedState(true)
	c.newPlain = readDisk(t, b.path("jail/cfg")).torn().plainFiles()
	c.box = &box{files: files{t, machinetest.MemDir(t)}, now: b.now, lent: b.dir}
	b.must(os.MkdirAll(c.box.path("jail/etc"), 0o755))
	c.box.on = b.on
	c.box.o = c.box.overlay()
	return c
}

// everywhere cuts the power after every operation, in every way.
func (c *crash) everywhere(shuffles int) {
	for _, seed := range []uint64{1, 2, 3, 4, 5, 6, 7, 8}[:shuffles] {
		rnd := rand.New(rand.NewPCG(seed, 0))
		d := c.start()
		for n := 0; ; n++ {
			c.open(n, fmt.Sprintf("shuffled, seed %d", seed), d.shuffled(rnd))
			if seed == 1 {
				c.open(n, "unsynced dropped", d.dropped())
				c.open(n, "last write torn", d.torn())
			}
			if n == len(c.ops) || c.Failed() {
				break
			}
			d.apply(c.T, c.ops[n])
		}
	}
	c.Logf("%d operations, %d different disks", len(c.ops), c.opened)
}

func (c *crash) open(n int, how string, m *image) {
	c.Helper()
	var text strings.Builder
	m.text(&text, "")
	sum := sha256.Sum256([]byte(text.String()))
	last := n == len(c.ops)
	if c.seen[sum] && !last {
		return
	}
	c.seen[sum] = true
	c.opened++
	where := fmt.Sprintf("after %d of %d operations, %s", n, len(c.ops), how)
	if n > 0 {
		where += fmt.Sprintf(" (%s %s %s)", c.ops[n-1].Kind, c.ops[n-1].Path, c.ops[n-1].To)
	}
	c.wholeFiles(where, m.plainFiles())
	b := c.box
	b.must(os.RemoveAll(b.path("jail/cfg")))
	m.write(c, b.path("jail/cfg"))
	got, v := b.savedState(true)
	if got != c.new && (got != c.old || last) {
		c.Errorf(
			"%s: neither old nor new (or new and not there):\n"+
				"against old:\n%s\nagainst new:\n%s\nnotices: %q",
			where,
			lineDiff(c.old, got),
			lineDiff(c.new, got),
			v.Notices,
		)
	}
	if !c.mendable && len(v.Adopted) > 0 {
		c.Errorf("%s: adopted %q", where, v.Adopted)
	}
	again, w := b.savedState(true)
	if again != got || len(w.Notices) > 0 || len(w.Adopted) > 0 {
		c.Errorf("%s: opened again:\n%s\n%q %q", where, lineDiff(got, again), w.Notices, w.Adopted)
	}
	left, err := os.ReadDir(b.path("jail/cfg/.cfgd/tmp"))
	b.must(err)
	for _, e := range left {
		c.Errorf("%s: .cfgd/tmp/%s is left (%q)", where, e.Name(), v.Notices)
	}
}

// lineDiff lists the lines that only one of two texts has.
func lineDiff(old, new string) string {
	var b strings.Builder
	for i, sides := range [][2]string{{old, new}, {new, old}} {
		for l := range strings.Lines(sides[0]) {
			if !strings.Contains("\n"+sides[1], "\n"+l) {
				b.WriteString("-+"[i:i+1] + l)
			}
		}
	}
	return b.String()
}

// wholeFiles checks what a stock tool would copy between the crash and the next opening.
func (c *crash) wholeFiles(where string, got map[string]string) {
	c.Helper()
	all := maps.Clone(c.oldPlain)
	maps.Copy(all, c.newPlain)
	maps.Copy(all, got)
	for p := range all {
		was, is := c.oldPlain[p], c.newPlain[p]
		mayMiss := was == "" || is == "" || was == "dir" || is == "dir"
		if g := got[p]; g != was && g != is && !(g == "" && mayMiss) && !(g == "dir") &&
			!c.onlyTime(g, was, is) {
			c.Errorf("%s: plain %q is %q, was %q, is to be %q", where, p, g, was, is)
		}
	}
}

// onlyTime allows a plain file to have another time than the old or the new one, because a step sets the time
// of a file that stays.
func (c *crash) onlyTime(got string, others ...string) bool {
	for _, o := range others {
		a, b := strings.SplitN(got, " ", 5), strings.SplitN(o, " ", 5)
		if len(a) == 5 && len(b) == 5 {
			a[3], b[3] = "", ""
			if slices.Equal(a, b) {
				return true
			}
		}
	}
	return false
}

func (b *files) chmod(p string, mode os.FileMode) {
	b.Helper()
	b.must(os.Chmod(b.path("jail/etc/"+p), mode))
}

// firstSaves gives a box some overrides and a removal.
func firstSaves(b *box) {
	b.edit("rc.conf", "hostname=\"one\"\n")
	b.edit("local/app/app.conf", "x\n")
	b.edit("was-file", "file\n")
	b.edit("was-dir/sub/file", "below\n")
	b.edit("times", "t\n")
	b.edit("hosts", "changed\n")
	b.must(os.Symlink("rc.conf", b.path("jail/etc/link")))
	b.remove("periodic")
	b.save()
	b.edit("rc.conf", "hostname=\"two\"\n")
	b.save()
}

// manyChanges is a save with every kind of change.
func manyChanges(b *box) {
	b.edit("rc.conf", "hostname=\"three\"\n"+strings.Repeat("x=1\n", 50))
	b.edit("ssh/sshd_config", "Port 2222\n")
	b.edit("deep/new/dir/file", "new\n")
	b.remove("issue")
	b.remove("local/nginx")
	b.remove("link")
	b.must(os.Symlink("elsewhere", b.path("jail/etc/link")))
	b.remove("was-file")
	b.edit("was-file/now/a/dir", "in\n")
	b.remove("was-dir")
	b.edit("was-dir", "now a file\n")
	b.remove("local/app")
	b.edit("hosts", etc["hosts"])
	b.edit("periodic/daily/200.new", "#!/bin/sh\n")
	b.chmod("ssh", 0o750)
	b.must(os.Chtimes(b.path("jail/etc/times"), time.Time{}, time.Unix(1e9, 5)))
	b.must(os.Link(b.path("jail/etc/rc.conf"), b.path("jail/etc/rc.hard")))
	b.save()
}

func shuffles() int {
	if testing.Short() {
		return 1
	}
	return 8
}

func TestCrashDuringFirstSave(t *testing.T) {
	t.Parallel()
	recordCrash(t, func(*box) {}, firstSaves2).everywhere(shuffles())
}

// firstSaves2 is one save into a store that was never written before.
func firstSaves2(b *box) {
	b.edit("rc.conf", "one\n")
	b.edit("new/dir/file", "x\n")
	b.remove("periodic")
	b.save()
}

func TestCrashDuringSave(t *testing.T) {
	t.Parallel()
	recordCrash(t, firstSaves, manyChanges).everywhere(shuffles())
}

func TestCrashDuringRelease(t *testing.T) {
	t.Parallel()
	recordCrash(t, firstSaves, func(b *box) {
		b.edit("rc.conf", etc["rc.conf"])
		b.edit("hosts", etc["hosts"])
		b.edit("periodic/daily/100.clean", etc["periodic/daily/100.clean"])
		b.save()
	}).everywhere(shuffles())
}

func TestCrashDuringAdoption(t *testing.T) {
	t.Parallel()
	c := recordCrash(t, func(b *box) {
		firstSaves(b)
		b.write("jail/cfg/rc.conf", "by hand\n")
		b.write("jail/cfg/by/hand", "new\n")
		b.must(os.Remove(b.path("jail/cfg/hosts")))
	}, func(b *box) {
		if _, err := b.o.Look(context.Background(), LookOptions{Lock: true}); err != nil {
			b.Fatal(err)
		}
	})
	c.mendable = true
	c.everywhere(shuffles())
}

func TestCrashWhileAStoreIsFirstAdopted(t *testing.T) {
	t.Parallel()
	c := recordCrash(t, func(b *box) {
		b.must(os.RemoveAll(b.path("jail/cfg/.cfgd")))
		b.write("jail/cfg/rc.conf", "by save_cfg\n")
		b.write("jail/cfg/local/nginx/nginx.conf", "worker_processes 4;\n")
	}, func(b *box) {
		if _, err := b.o.Look(context.Background(), LookOptions{Lock: true}); err != nil {
			b.Fatal(err)
		}
	})
	c.mendable = true
	c.everywhere(shuffles())
}

// newDefaults stops a jail that has overrides and gives it a base that leads to every verdict.
func newDefaults(b *box) {
	firstSaves(b)
	b.edit("removed", "r\n")
	b.edit("ssh/sshd_config", "Port 2222\n")
	b.edit("issue", "the new issue\n")
	b.save()
	if _, err := b.o.Pin(b.Context(), []string{"hosts"}, false); err != nil {
		b.Fatal(err)
	}
	for p, content := range etc {
		b.write("base2/"+p, content)
	}
	b.write("base2/rc.conf", etc["rc.conf"]+"added=\"YES\"\n")
	b.write("base2/ssh/sshd_config", "Port 222\n")
	b.write("base2/issue", "the new issue\n")
	b.write("base2/hosts", "changed\n")
	b.write("base2/was-dir", "a file\n")
	b.must(os.RemoveAll(b.path("base2/periodic")))
	b.must(b.o.Clear(b.Context()))
	b.on = "/base2"
	b.o = b.overlay()
}

// mergeNow merges as a populate does.
func mergeNow(o *Overlay) error {
	ctx := context.Background()
	unlock, err := o.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	base, err := o.scanBase(ctx, o.Next(), false)
	if err != nil {
		return err
	}
	s, err := openMerged(ctx, o, base)
	if err != nil {
		return err
	}
	return errors.Join(s.unmerged, s.Close())
}

func TestCrashDuringMerge(t *testing.T) {
	t.Parallel()
	c := recordCrash(t, newDefaults, func(b *box) { b.must(mergeNow(b.o)) })
	if c.old == c.new {
		t.Fatal("nothing was merged")
	}
	c.everywhere(shuffles())
}

// A resolved conflict, a pin, and a rollback across a change of the base are generations like any other.
func TestCrashDuringAmendments(t *testing.T) {
	t.Parallel()
	merged := func(b *box) {
		newDefaults(b)
		b.must(mergeNow(b.o))
	}
	for name, act := range map[string]func(o *Overlay) error{
		"resolve": func(o *Overlay) error {
			_, err := o.Resolve(t.Context(), []string{"ssh/sshd_config"}, Choice{Take: config.ConflictTheirs})
			return err
		},
		"edited": func(o *Overlay) error {
			_, err := o.Resolve(t.Context(), []string{"ssh/sshd_config"}, Choice{Content: []byte("both\n")})
			return err
		},
		"pin": func(o *Overlay) error {
			_,
				err := o.Pin(t.Context(), []string{"local/nginx"}, false)
			return err
		},
		"rollback": func(o *Overlay) error { _, _, err := o.Rollback(t.Context(), 1); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := recordCrash(t, merged, func(b *box) { b.must(act(b.o)) })
			if c.old == c.new {
				t.Fatal("nothing was changed")
			}
			c.everywhere(min(shuffles(), 3))
		})
	}
}

// A crash while an interrupted save is being finished does no harm either.
func TestCrashDuringRecovery(t *testing.T) {
	t.Parallel()
	c := recordCrash(t, firstSaves, manyChanges)
	journalled := slices.IndexFunc(c.ops,
		func(op dirfd.Op) bool { return op.Kind == "rename" && op.To == ".cfgd/journal" }) + 2
	ended := slices.IndexFunc(c.ops,
		func(op dirfd.Op) bool { return op.Kind == "unlink" && op.Path == ".cfgd/journal" })
	if journalled < 2 || ended < journalled {
		t.Fatalf("no journal in %d operations", len(c.ops))
	}
	all := c.ops
	for _, at := range []int{journalled, (journalled + ended) / 2, ended - 1} {
		rnd := rand.New(rand.NewPCG(uint64(at), 0))
		d := c.start()
		for _, op := range all[:at] {
			d.apply(t, op)
		}
		begin := d.shuffled(rnd)
		b := c.box
		first := b.path(fmt.Sprintf("first%d", at))
		begin.write(t, first)
		b.must(os.RemoveAll(b.path("jail/cfg")))
		begin.write(t, b.path("jail/cfg"))
		r := &crash{
			T:        t,
			box:      b,
			old:      c.new,
			new:      c.new,
			seen:     map[[32]byte]bool{},
			oldPlain: c.oldPlain,
			newPlain: c.newPlain,
		}
		r.start = func() *disk { return readDisk(t, first) }
		r.ops = b.recorded(func() {
			if _, err := b.o.Look(context.Background(), LookOptions{Lock: true}); err != nil {
				t.Fatal(err)
			}
		})
		r.everywhere(min(shuffles(), 2))
	}
}
