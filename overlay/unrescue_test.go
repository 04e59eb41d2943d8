package overlay

import (
	"archive/tar"
	"bytes"
	"os"
	"strings"
	"testing"
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
	before := b.liveTree()
	var archive bytes.Buffer
	_, err := b.o.Rescue(t.Context(), &archive)
	b.must(err)
	b.restart() // nothing was saved
	b.holds(map[string]string{"rc.conf": "a\n", "hosts": "h\n"})
	b.edit("rc.conf", "of the next start\n")
	r, err := b.o.Unrescue(t.Context(), bytes.NewReader(archive.Bytes()), "back")
	b.must(err)
	if after := b.liveTree(); after != before {
		t.Errorf("%s", lineDiff(before, after))
	}
	if v := b.look(); len(v.Unsaved) > 0 || v.Current.Generation != r.Generation || v.Current.Message != "back" {
		t.Errorf("unsaved %v, %+v", v.Unsaved, r)
	}
	b.settled()
}

// liveTree prints live as tree prints cfg.
func (b *box) liveTree() string {
	b.Helper()
	var s strings.Builder
	for _, e := range b.look().Live.Entries {
		e.MTime = 0
		s.WriteString(e.Path + " " + e.Kind.String() + " " + e.Digest.String() + e.Link + " " + os.FileMode(e.Mode).String() + "\n")
	}
	return s.String()
}

func TestUnrescueBelievesNothing(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"../outside": {Typeflag: tar.TypeReg, Name: "../outside"}, "absolute": {Typeflag: tar.TypeReg, Name: "/etc/passwd"}, "device": {Typeflag: tar.TypeChar, Name: "null"},
		"hard link": {Typeflag: tar.TypeLink, Name: "x", Linkname: "/etc/passwd"}, "meta": {Typeflag: tar.TypeReg, Name: "a/../../b"},
	} {
		b := newBox(t, map[string]string{"rc.conf": "a\n"})
		b.populate()
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		b.must(w.WriteHeader(&h))
		b.must(w.Close())
		if _, err := b.o.Unrescue(t.Context(), &archive, ""); err == nil || !strings.Contains(err.Error(), "archive: ") {
			t.Errorf("%s: %v", name, err)
		}
		if v := b.look(); len(v.Local) > 0 {
			t.Errorf("%s: %v", name, v.Local)
		}
	}
	b := newBox(t, map[string]string{"rc.conf": "a\n"})
	b.populate()
	if _, err := b.o.Unrescue(t.Context(), strings.NewReader("no archive, and long enough for a header of tar(5)"+strings.Repeat(" ", 600)), ""); err == nil {
		t.Error("nonsense was taken")
	}
}
