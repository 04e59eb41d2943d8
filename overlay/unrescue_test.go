package overlay

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// What a cleanup could not save comes back from its archive.
func TestUnrescue(t *testing.T) {
	b := newBox(t, map[string]string{"rc.conf": "a\n", "hosts": "h\n", "issue": "i\n", "d/x": "x\n"})
	b.populate()
	b.edit("rc.conf", "edited\n")
	b.edit("new/dir/file", "new\n")
	b.remove("hosts")
	b.remove("d")
	b.must(os.Symlink("rc.conf", b.path("jail/etc/link")))
	b.must(os.Chmod(b.path("jail/etc/issue"), 0o600))
	withXattrs := unix.Lsetxattr(b.path("jail/etc/issue"), "user.one", []byte("1\x00="), 0) == nil &&
		unix.Lsetxattr(b.path("jail/etc/new"), "user.a=b", nil, 0) == nil
	before := b.liveTree()
	var archive bytes.Buffer
	_, err := b.o.Rescue(t.Context(), &archive, RescueOptions{})
	b.must(err)
	b.restart() // nothing was saved
	b.holds(map[string]string{"rc.conf": "a\n", "hosts": "h\n"})
	b.edit("rc.conf", "of the next start\n")
	r, err := b.o.Unrescue(t.Context(), bytes.NewReader(archive.Bytes()), "back")
	b.must(err)
	if after := b.liveTree(); after != before {
		t.Errorf("%s", lineDiff(before, after))
	}
	if v := b.look(); len(v.Unsaved) > 0 || v.Current.Generation != r.Generation ||
		v.Current.Message != "back" {
		t.Errorf("unsaved %v, %+v", v.Unsaved, r)
	}
	b.settled()
	if withXattrs {
		one, dir := getXattr(b.path("jail/etc/issue"), "user.one"), getXattr(b.path("jail/etc/new"),
			"user.a=b")
		if one != "1\x00=" || dir != "" {
			t.Errorf("attributes: %q, %q", one, dir)
		}
	}
}

// Flags and attributes are the same after they went through a header of tar(5), whatever bytes they have.
func TestRescueRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := tree.Entry{
			Path:  "x",
			Kind:  dirfd.KindFile,
			Flags: dirfd.ParseFlags(rapid.SampledFrom([]string{"", "uchg", "schg,nodump"}).Draw(t, "flags")),
		}
		var x []dirfd.Xattr
		anyName := rapid.StringOfN(rapid.RuneFrom([]rune("a=% +.\u00e9\ufffd")), 1, 9, -1)
		for _, name := range rapid.SliceOfNDistinct(anyName, 0, 3, rapid.ID).Draw(t, "names") {
			x = append(x,
				dirfd.Xattr{Name: "user." + name, Value: rapid.SliceOf(rapid.Byte()).Draw(t, "value")})
		}
		slices.SortFunc(x, func(a, b dirfd.Xattr) int { return strings.Compare(a.Name, b.Name) })
		want.Xattrs = tree.PackXattrs(x)
		h, _, err := tree.TarHeader(&want, 0, true)
		if err != nil {
			t.Fatal(err)
		}
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		if err := errors.Join(w.WriteHeader(h), w.Close()); err != nil {
			t.Fatal(err)
		}
		read, err := tar.NewReader(&archive).Next()
		if err != nil {
			t.Fatal(err)
		}
		var got tree.Entry
		if err := tree.FromTarRecords(&got, read); len(err) > 0 || got.Flags != want.Flags ||
			got.Xattrs != want.Xattrs {
			t.Fatalf("%x %s, %v\nwant %x %s", got.Flags, got.Xattrs, err, want.Flags, want.Xattrs)
		}
	})
}

func TestRescueRecordsBelieveNothing(t *testing.T) {
	big := strings.Repeat("v", 64<<10)
	for key, value := range map[string]string{
		"SCHILY.xattr.trusted.overlay": "x", "SCHILY.xattr.system.other": "x", "LIBARCHIVE.xattr.user.a": "*",
		"LIBARCHIVE.xattr.%zz": "eA",
		"SCHILY.xattr.user.":   "x", "SCHILY.xattr.user": "x", "LIBARCHIVE.xattr.user.%00": "eA",
		"SCHILY.xattr.user." + strings.Repeat("n", 256): "x",
		"SCHILY.xattr.user.big":                         big,
	} {
		var e tree.Entry
		h := &tar.Header{
			PAXRecords: map[string]string{
				key:                    value,
				"SCHILY.xattr.user.ok": "1",
				"SCHILY.fflags":        "archive,door",
			},
		}
		left := tree.FromTarRecords(&e, h)
		if len(left) != 1 || e.Flags != 0 ||
			e.Xattrs != tree.PackXattrs([]dirfd.Xattr{{Name: "user.ok", Value: []byte("1")}}) {
			t.Errorf("%s: %+v, %q", key, e, left)
		}
	}
}

// liveTree prints live as tree prints cfg.
func (b *box) liveTree() string {
	b.Helper()
	var s strings.Builder
	for _, e := range b.look().Live.Entries {
		e.MTime = 0
		s.WriteString(
			e.Path + " " + e.Kind.String() + " " + e.Digest.String() + e.Link + " " + os.FileMode(e.Mode).
				String() +
				"\n",
		)
	}
	return s.String()
}

func TestUnrescueBelievesNothing(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"../outside": {Typeflag: tar.TypeReg, Name: "../outside"},
		"absolute":   {Typeflag: tar.TypeReg, Name: "/etc/passwd"},
		"device":     {Typeflag: tar.TypeChar, Name: "null"},
		"hard link":  {Typeflag: tar.TypeLink, Name: "x", Linkname: "/etc/passwd"},
		"meta":       {Typeflag: tar.TypeReg, Name: "a/../../b"},
	} {
		b := newBox(t, map[string]string{"rc.conf": "a\n"})
		b.populate()
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		b.must(w.WriteHeader(&h))
		b.must(w.Close())
		if _, err := b.o.Unrescue(t.Context(), &archive, ""); err == nil ||
			!strings.Contains(err.Error(), "archive: ") {
			t.Errorf("%s: %v", name, err)
		}
		if v := b.look(); len(v.Local) > 0 {
			t.Errorf("%s: %v", name, v.Local)
		}
	}
	b := newBox(t, map[string]string{"rc.conf": "a\n"})
	b.populate()
	if _, err := b.o.Unrescue(t.Context(),
		strings.NewReader("no archive, and long enough for a header of tar(5)"+strings.Repeat(" ", 600)),
		""); err == nil {
		t.Error("nonsense was taken")
	}
}
