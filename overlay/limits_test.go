package overlay

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/machinetest"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// What a reader of the store would refuse, its writer refuses first: with an error that says what, with the
// old generation in place, and with nothing left in tmp.
func TestWritersKeepReadersLimits(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	b.edit("rc.conf", "one\n")
	b.save()
	long := strings.Repeat("n", 200) + "/"
	file := func(path string) store.Override {
		return store.Override{Entry: tree.Entry{Path: path, Kind: dirfd.KindFile}}
	}
	for name, c := range map[string]struct {
		change func(m *store.Manifest) []store.Step
		want   string
	}{
		"attributes": {func(m *store.Manifest) []store.Step {
			m.Overrides[0].Xattrs = tree.PackXattrs([]dirfd.Xattr{{Name: "user.a",
				Value: make([]byte, store.MaxManifest)}})
			return nil
		}, "about rc.conf"},
		"long path": {func(m *store.Manifest) []store.Step {
			m.Overrides = append(m.Overrides, file(strings.Repeat(long, 25)+"x"))
			return nil
		}, "longer than 4096"},
		"long name": {func(m *store.Manifest) []store.Step {
			m.Overrides = append(m.Overrides, file("x"+strings.Repeat("x", 255)))
			return nil
		}, "more than 255"},
		"the store's own": {func(m *store.Manifest) []store.Step {
			m.Overrides = append(m.Overrides,
				file(".cfgd/log"))
			return nil
		}, "store's own"},
		"twice": {func(m *store.Manifest) []store.Step {
			m.Removals = append(m.Removals, tree.Removal{Path: "rc.conf"})
			return nil
		}, "not sorted"},
		"generation": {func(m *store.Manifest) []store.Step { m.Generation = 1<<40 + 1; return nil },
			"out of range"},
		"merges": {func(m *store.Manifest) []store.Step { m.Merges = []int{1, 1, 1, 1, 1}; return nil },
			"not earlier generations"},
		"held": {func(m *store.Manifest) []store.Step { m.HandEdits = []string{"/abs"}; return nil },
			"absolute"},
		"pins": {func(m *store.Manifest) []store.Step { m.Pins = []string{"../x"}; return nil },
			"component"},
		"kind": {func(m *store.Manifest) []store.Step { m.Overrides[0].Kind = dirfd.KindFifo; return nil },
			"not file, dir or symlink"},
		"conflict": {func(m *store.Manifest) []store.Step {
			m.Conflicts = []store.Conflict{{Path: "rc.conf", Taken: "both"}}
			return nil
		}, "neither mine nor theirs"},
		"journal, path": {func(*store.Manifest) []store.Step {
			return []store.Step{{Do: store.DoRm,
				Path: "../x"}}
		}, "component"},
		"journal, size": {func(*store.Manifest) []store.Step {
			return []store.Step{{Do: store.DoMeta, Path: "hosts",
				Want: tree.Entry{Path: "hosts", Kind: dirfd.KindDir,
					Link: strings.Repeat("l", store.MaxManifest)}}}
		}, "about hosts"},
	} {
		err := b.o.atWork(t.Context(), func(w *opened) error {
			s := w.s
			next := *s.Manifest
			next.Generation++
			next.Overrides = append([]store.Override(nil), s.Manifest.Overrides...)
			was := *s.Manifest
			steps := c.change(&next)
			err := s.Commit(t.Context(), &was, &next, func(tmp *dirfd.Dir) ([]store.Step, error) {
				return steps, store.WriteSynced(tmp, "staged", []byte("staged"))
			})
			if s.Manifest.Generation != was.Generation {
				t.Errorf("%s: generation %d", name, s.Manifest.Generation)
			}
			return err
		})
		if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 9000 {
			t.Errorf("%s: %.300v", name, err)
		}
		if left, err := os.ReadDir(b.path("jail/cfg/.cfgd/tmp")); err != nil || len(left) > 0 {
			t.Errorf("%s: left in tmp: %v, %v", name, left, err)
		}
		b.settled()
	}
	if err := b.o.TrialNote().Write(t.Context(), make([]byte, maxNote+1)); err == nil ||
		!strings.Contains(err.Error(), "note") {
		t.Errorf("a note that is too long: %v", err)
	}
	b.must(b.o.TrialNote().Write(t.Context(), make([]byte, maxNote)))
	if n, err := b.o.TrialNote().Read(t.Context()); err != nil || len(n) != maxNote {
		t.Errorf("%d, %v", len(n), err)
	}
	b.edit("rc.conf", "two\n")
	b.save()
}

// A path that no manifest can hold is named, and everything else is saved.
func TestPathsTooLong(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	b.must(os.Chmod(b.path("jail/etc"), 0o755))
	d, err := dirfd.Open(b.path("jail/etc"), nil)
	b.must(err)
	for range 20 { // 20 times 251 bytes
		b.must(d.Mkdir(strings.Repeat("d", 250)))
		sub, err := d.Dir(strings.Repeat("d", 250))
		b.must(err)
		d.Close()
		d = sub
		f, err := d.Create("f")
		b.must(err)
		f.Close()
	}
	d.Close()
	b.edit("rc.conf", "one\n")
	r, err := b.o.Save(t.Context(), SaveOptions{})
	b.must(err)
	if len(r.Kept) != 1 || r.Kept[0].Reason != tree.TooDeep || b.read("jail/cfg/rc.conf") != "one\n" {
		t.Errorf("kept %d", len(r.Kept))
	}
	v, err := b.overlay().Look(t.Context(), LookOptions{})
	b.must(err)
	if len(v.Notices)+len(v.Adopted) > 0 || v.Current.Generation != r.Generation {
		t.Errorf("%q %q, generation %d", v.Notices, v.Adopted, v.Current.Generation)
	}
}

// memBox is a box on a filesystem that holds large attributes.
func memBox(t *testing.T) *box {
	t.Helper()
	b := newBoxIn(t, machinetest.MemDir(t), etc)
	if err := unix.Setxattr(b.path("base"), "user.probe", make([]byte, 60000), 0); err != nil {
		t.Skipf("this filesystem holds no large attributes: %v", err)
	}
	b.must(unix.Removexattr(b.path("base"), "user.probe"))
	b.populate()
	return b
}

// setLarge sets an attribute that not every filesystem holds: UFS2 has some 30 KiB for all of a file's.
func setLarge(t *testing.T, full, name, value string) {
	t.Helper()
	if err := unix.Lsetxattr(full, name, []byte(value), 0); err != nil {
		t.Skipf("this filesystem holds fewer: %v", err)
	}
}

// Attributes that are larger than what is kept are left out of a save and listed, as a file larger than
// max_file is. Those that fit are saved, and so is everything else; the history stays.
func TestAttributesTooLarge(t *testing.T) {
	t.Parallel()
	b := memBox(t)
	b.edit("rc.conf", "one\n")
	first := b.save().Generation
	hosts := b.path("jail/etc/hosts")
	setXattr(t, hosts, "user.a", "small")
	for i := range 40 {
		setLarge(t, hosts, fmt.Sprintf("user.k%02d", i), strings.Repeat("v", 60000))
	}
	for i := range 20 {
		p := fmt.Sprintf("many/%02d", i)
		b.edit(p, "x")
		setLarge(t, b.path("jail/etc/"+p), "user.k", strings.Repeat("v", 60000))
	}
	for range 3 {
		b.edit("issue", time.Now().String())
		r, err := b.o.Save(t.Context(), SaveOptions{})
		b.must(err)
		kept := map[string]bool{}
		for _, k := range r.Kept {
			kept[k.Path] = true
			if k.Class != config.Report || !strings.HasPrefix(string(k.Reason), tree.NotAllXattrs) {
				t.Errorf("%+v", k)
			}
		}
		if !kept["hosts"] || !kept["many/19"] || kept["many/00"] {
			t.Errorf("kept %v", r.Kept)
		}
		for _, c := range r.View.Unsaved {
			if !kept[c.Path] {
				t.Errorf("unsaved: %s %s", c.Kind.Letter(), c.Path)
			}
		}
		if st, err := os.Stat(b.path("jail/cfg/.cfgd/manifest")); err != nil || st.Size() > 2*tree.MaxXattrs {
			t.Errorf("%v, %v", st, err)
		}
	}
	b.settled()
	generations, err := b.o.History().Log(t.Context())
	b.must(err)
	if last := generations[len(generations)-1]; last.Manifest.Generation > first || last.Damaged != nil {
		t.Errorf("history begins with %d: %v", last.Manifest.Generation, last.Damaged)
	}
	b.restart()
	if got := getXattr(hosts, "user.a"); got != "small" {
		t.Errorf("user.a is %q", got)
	}
	if n, _ := unix.Getxattr(b.path("jail/etc/many/00"), "user.k", nil); n != 60000 {
		t.Errorf("many/00 has %d bytes", n)
	}
	if v := b.look(); len(v.Unsaved) > 0 {
		t.Errorf("unsaved after a start: %s", paths(v.Unsaved))
	}
}

// A file goes into an archive whatever attributes it has, and comes back with those that the archive could
// take.
func TestRescueOfLargeAttributes(t *testing.T) {
	t.Parallel()
	b := memBox(t)
	hosts := b.path("jail/etc/hosts")
	for i := range 20 {
		setLarge(t, hosts, fmt.Sprintf("user.k%02d", i), strings.Repeat("v", 60000))
	}
	b.edit("rc.conf", "edited\n")
	var archive bytes.Buffer
	n, err := b.o.Rescue(context.Background(), &archive, RescueOptions{})
	if err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	if !strings.Contains(archive.String(), "hosts "+tree.NotAllXattrs) {
		t.Error("what is left out is not listed")
	}
	b.restart()
	r, err := b.o.Unrescue(t.Context(), &archive, "")
	b.must(err)
	if size, _ := unix.Getxattr(hosts, "user.k00", nil); size != 60000 || len(r.Changes) != 2 ||
		b.read("jail/etc/rc.conf") != "edited\n" {
		t.Errorf("%d bytes, %s", size, paths(r.Changes))
	}
}

// Whatever attributes an entry has, archive/tar accepts its header, and what did not fit is named.
func TestRecordsFit(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 60000} {
		var x []dirfd.Xattr
		for i := range 40 {
			x = append(x, dirfd.Xattr{
				Name:  fmt.Sprintf("user.%02d%s", i, strings.Repeat("=", 250)),
				Value: make([]byte, size),
			})
		}
		e := tree.Entry{
			Path:   strings.Repeat("p/", 1000) + "x",
			Kind:   dirfd.KindSymlink,
			Link:   strings.Repeat("l", 4000),
			Xattrs: tree.PackXattrs(x),
		}
		h, over, err := tree.TarHeader(&e, 0, true)
		if err != nil || (size > 1) != (len(over) > 0) {
			t.Fatalf("%d: %q, %v", size, over, err)
		}
		w := tar.NewWriter(new(bytes.Buffer))
		if err := w.WriteHeader(h); err != nil {
			t.Errorf("%d: %v", size, err)
		}
		if len(h.PAXRecords)+len(over) != len(x) {
			t.Errorf("%d: %d written, %d named", size, len(h.PAXRecords), len(over))
		}
	}
}

// member is one of an archive that a test makes.
type member struct {
	name string
	kind byte
	text string // content, or target
	pax  map[string]string
}

func archiveOf(t *testing.T, members ...member) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		h := &tar.Header{Typeflag: m.kind, Name: m.name, Mode: 0o644, PAXRecords: m.pax}
		if m.kind == tar.TypeDir {
			h.Mode = 0o755
		}
		if m.kind == tar.TypeSymlink {
			h.Linkname, m.text = m.text, ""
		}
		h.Size = int64(len(m.text))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

// An archive that can't be brought back whole changes nothing.
func TestUnrescueChecksFirst(t *testing.T) {
	t.Parallel()
	reg := func(name, text string) member { return member{name, tar.TypeReg, text, nil} }
	dir := func(name string) member { return member{name, tar.TypeDir, "", nil} }
	link := func(name, to string) member { return member{name, tar.TypeSymlink, to, nil} }
	for name, c := range map[string]struct {
		members []member
		want    string
	}{
		"twice": {[]member{reg("q", "1"), reg("q", "2")}, "q: in it more than once"},
		"three times": {[]member{reg("q", "1"), link("q", "rc.conf"), reg("q", "2")},
			"q: in it more than once"},
		"dir and file": {[]member{dir("q/"), reg("q", "2")}, "q: in it more than once"},
		"below a file": {[]member{reg("f/x", "1"), reg("f", "2")}, "f/x: below a file"},
		"below a link": {[]member{link("f", "/tmp"), reg("f/x", "1")}, "f/x: below a symlink"},
		"deep below a link": {[]member{link("f", "/tmp"), reg("f/x/y/z", "1")},
			"f/x/y/z: below a symlink"},
		"below a file of live": {[]member{reg("rc.conf/x", "1")}, "rc.conf is a file in live"},
		"removed and there": {[]member{reg("hosts", "1"), reg(RescueRemoved, "hosts\n")},
			"hosts: listed as removed"},
		"below what is gone": {[]member{reg("ssh/x", "1"), reg(RescueRemoved, "ssh\n")},
			"ssh/x: listed as removed"},
		"removed root":    {[]member{reg(RescueRemoved, ".\n")}, "component"},
		"list is a link":  {[]member{link(RescueRemoved, "hosts")}, "a list that is no file"},
		"device":          {[]member{reg("a", "1"), {"z", tar.TypeChar, "", nil}}, "z: neither file"},
		"the store's own": {[]member{reg("a", "1"), reg(".cfgd/log", "1")}, "store's own"},
		"upwards":         {[]member{reg("a", "1"), reg("../up", "1")}, "component"},
	} {
		b := newBox(t, etc)
		b.populate()
		before := b.shape("jail/etc")
		// The members before the fault would be written if nothing were checked first.
		_, err := b.o.Unrescue(t.Context(),
			archiveOf(t, append([]member{reg("aaa", "first\n")}, c.members...)...), "")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		b.same(before, b.shape("jail/etc"))
		if v := b.look(); v.Current.Generation != 0 && len(v.Stored) > 0 {
			t.Errorf("%s: saved %s", name, paths(v.Stored))
		}
	}
}

// A directory that only another base had is made for the files in it.
func TestUnrescueMakesParents(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	r, err := b.o.Unrescue(t.Context(), archiveOf(t, member{"no/parent/x", tar.TypeReg, "deep\n", nil}), "")
	b.must(err)
	if b.read("jail/etc/no/parent/x") != "deep\n" || len(r.Changes) != 3 || len(b.look().Unsaved) > 0 {
		t.Errorf("%s", paths(r.Changes))
	}
	b.settled()
}

// Names that a save never reads are not brought back, and are listed.
func TestUnrescueLeavesTopNames(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	var members []member
	for name := range tree.TopNames {
		if name != tree.MetaName {
			members = append(members, member{name + "/x", tar.TypeReg, "x", nil})
		}
	}
	before := b.shape("jail/etc")
	r, err := b.o.Unrescue(t.Context(), archiveOf(t, members...), "")
	b.must(err)
	if len(r.Left) != len(members) || len(r.Changes) > 0 {
		t.Errorf("%v, %s", r.Left, paths(r.Changes))
	}
	b.same(before, b.shape("jail/etc"))
}

// An attribute that can't be set stops nothing and is listed. The others are not listed.
func TestUnrescueNamesAttributes(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	setXattr(t, b.path("base/hosts"), "user.probe", "x")
	b.o.Hook = func(op dirfd.Op) error {
		if op.Kind == "xattr" && op.To == "user.refused" {
			return unix.EOPNOTSUPP
		}
		return nil
	}
	b.populate()
	r, err := b.o.Unrescue(t.Context(), archiveOf(
		t,
		member{
			"w",
			tar.TypeReg,
			"w\n",
			map[string]string{
				"SCHILY.xattr.user.ok":         "1",
				"SCHILY.xattr.user.refused":    "2",
				"SCHILY.xattr.user.":           "3",
				"LIBARCHIVE.xattr.user.bad%zz": "Mg==",
			},
		},
		member{
			"d/",
			tar.TypeDir,
			"",
			map[string]string{"SCHILY.xattr.user.refused": "2", "SCHILY.xattr.user.ok": "1"},
		},
		member{"w2", tar.TypeReg, "w2\n", nil},
	), "")
	b.must(err)
	var left []string
	for _, k := range r.Left {
		left = append(left, k.Path+" "+string(k.Reason))
	}
	all := strings.Join(left, "\n")
	for _, want := range []string{"w live's filesystem refuses its extended attribute user.refused",
		"d live's filesystem refuses its extended attribute user.refused",
		"w the archive's extended attribute SCHILY.xattr.user.: ",
		"w the archive's extended attribute LIBARCHIVE.xattr.user.bad%zz: "} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not among\n%s", want, all)
		}
	}
	if len(left) != 4 || getXattr(b.path("jail/etc/w"), "user.ok") != "1" ||
		getXattr(b.path("jail/etc/d"), "user.ok") != "1" ||
		b.read("jail/etc/w2") != "w2\n" {
		t.Errorf("%s\n%s", all, paths(r.Changes))
	}
}

// An attribute that was removed is removed again by the archive, even if the archive says nothing else. An
// archive that knows no attributes leaves them.
func TestUnrescueRemovesAttributes(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	setXattr(t, b.path("base/hosts"), "user.file", "x")
	setXattr(t, b.path("base/ssh"), "user.dir", "x")
	b.populate()
	hosts, ssh := b.path("jail/etc/hosts"), b.path("jail/etc/ssh")
	b.must(unix.Removexattr(hosts, "user.file"))
	b.must(unix.Removexattr(ssh, "user.dir"))
	var archive bytes.Buffer
	if n, err := b.o.Rescue(t.Context(), &archive, RescueOptions{}); err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	b.restart()
	_, err := b.o.Unrescue(t.Context(),
		archiveOf(t, member{"hosts", tar.TypeReg, "plain\n", nil}, member{"ssh/", tar.TypeDir, "", nil}), "")
	b.must(err)
	if getXattr(hosts, "user.file")+getXattr(ssh, "user.dir") != "xx" {
		t.Error("an archive without attributes removed some")
	}
	r, err := b.o.Unrescue(t.Context(), &archive, "")
	b.must(err)
	if got := getXattr(hosts, "user.file") + getXattr(ssh, "user.dir"); got != "(none)(none)" ||
		len(b.look().Unsaved) > 0 {
		t.Errorf("%s; %s", got, paths(r.Changes))
	}
	b.settled()
}

// A live tree without room for the archive is left as it is.
func TestUnrescueNeedsRoom(t *testing.T) {
	t.Parallel()
	var changes []tree.Change
	for i := range 3 {
		changes = append(changes, tree.Change{
			Path: fmt.Sprint(i),
			Kind: tree.Added,
			New:  &tree.Entry{Kind: dirfd.KindFile, Size: 1 << 60},
		})
	}
	d, err := dirfd.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := fits(changes, d); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("%v", err)
	}
	for i := range changes { // each replaces one of the same size
		changes[i].Old, changes[i].Kind = changes[i].New, tree.Type
	}
	if err := fits(changes, d); err != nil {
		t.Errorf("in place of as much: %v", err)
	}
}

// A diff shows which attributes differ.
func TestXattrChanges(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	setXattr(t, b.path("base/hosts"), "user.goes", "x")
	setXattr(t, b.path("base/hosts"), "user.moves", "x")
	setXattr(t, b.path("base/hosts"), "user.stays", "x")
	b.populate()
	hosts := b.path("jail/etc/hosts")
	b.must(unix.Removexattr(hosts, "user.goes"))
	setXattr(t, hosts, "user.moves", "y")
	setXattr(t, hosts, "user.new", "z")
	b.edit("new", "n")
	setXattr(t, b.path("jail/etc/new"), "user.first", "1")
	setXattr(t, b.path("jail/etc/ssh"), "user.dir", "1")
	var got []string
	v := b.look()
	for _, c := range v.Local {
		for _, x := range v.XattrChanges(c) {
			got = append(got, c.Kind.Letter()+" "+c.Path+" "+x.Kind.Letter()+" "+x.Name)
		}
	}
	want := "P hosts D user.goes, P hosts M user.moves, P hosts A user.new, A new A user.first, P ssh A " +
		"user.dir"
	if strings.Join(got, ", ") != want {
		t.Errorf("%q", got)
	}
}

// On a filesystem where a change of attributes changes no time, a scan reads attributes each time. On others
// it relies on the stamp.
func TestAttributesThatMoveNoTime(t *testing.T) {
	t.Parallel()
	b := newBox(t, map[string]string{"hosts": "one\n", "dir/file": "two\n"})
	for _, p := range []string{"base/hosts", "base/dir"} {
		setXattr(t, b.path(p), "user.note", "a note")
	}
	root, err := dirfd.Open(b.path("base"), nil)
	b.must(err)
	defer root.Close()
	settled := func() time.Time { return time.Now().Add(time.Hour) } // nothing was changed just now
	full, err := tree.Scan(t.Context(), root, tree.ScanOptions{Now: settled})
	b.must(err)
	before := *full // a scan from before the attributes were set, on a filesystem where that changes no time
	before.Entries = slices.Clone(full.Entries)
	for i := range before.Entries {
		before.Entries[i].Xattrs = ""
	}
	for _, c := range []struct {
		still bool
		dirty map[string]bool
		want  int
	}{{false, nil, 0}, {true, nil, 2}, {true, map[string]bool{"": true}, 2},
		{true, map[string]bool{"dir": true}, 1}} {
		now, err := tree.Scan(t.Context(), root,
			tree.ScanOptions{Now: settled, Prev: &before, Dirty: c.dirty, StillXattrs: c.still})
		b.must(err)
		if got := tree.Delta(&before, now); len(got) != c.want {
			t.Errorf("%+v: %s", c, paths(got))
		}
	}
}
