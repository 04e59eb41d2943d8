package overlay

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// A file that has no room in a rescue archive is named, and the archive holds the rest.
func TestRescueWithoutRoom(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	b.edit("rc.conf", "x\n")
	b.must(os.WriteFile(b.path("jail/etc/big"), nil, 0o644))
	for room, size := range map[int64]int64{0: 1 << 40, 1 << 50: maxArchive + 1} { // files with holes
		b.must(os.Truncate(b.path("jail/etc/big"), size))
		var out strings.Builder
		n, err := b.o.Rescue(context.Background(), &out, RescueOptions{Room: room})
		var missed *MissedError
		if !errors.As(err, &missed) || n != 1 || !strings.Contains(err.Error(), "big: its ") ||
			out.Len() > 1<<20 {
			t.Errorf("room for %d: %d entries, %d bytes, %v", room, n, out.Len(), err)
		}
	}
}

// A file larger than max_file is streamed into a rescue archive, after all others, and comes back from it
// with its mode. Only what is asked for goes into the archive.
func TestRescueOfLargeFiles(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.o.Target.MaxFile = 1 << 16
	b.populate()
	large := strings.Repeat("0123456789abcdef", 1<<13)
	b.edit("alarge", large)
	b.must(os.Chmod(b.path("jail/etc/alarge"), 0o640))
	b.edit("zlarge", large+large)
	b.edit("rc.conf", "x\n")
	var all, one bytes.Buffer
	n, err := b.o.Rescue(t.Context(), &all, RescueOptions{})
	b.must(err)
	if n != 3 {
		t.Errorf("%d entries", n)
	}
	n, err = b.o.Rescue(t.Context(), &one, RescueOptions{Only: []string{"zlarge"}})
	if err != nil || n != 1 {
		t.Errorf("%d entries, %v", n, err)
	}
	room := RescueOptions{Room: int64(len(large) + 5*frameBytes)}
	if n, err := b.o.Rescue(t.Context(), io.Discard, room); err == nil || n != 2 ||
		!strings.Contains(err.Error(), "zlarge: its 256 KiB have no room") {
		t.Errorf("%d entries, %v", n, err)
	}
	want := b.liveTree()
	b.remove("alarge")
	b.remove("zlarge")
	b.remove("rc.conf")
	_, err = b.o.Unrescue(t.Context(), &all, "")
	b.must(err)
	if got := b.liveTree(); got != want || b.read("jail/etc/alarge") != large {
		t.Errorf("%s", lineDiff(want, got))
	}
	b.remove("zlarge")
	_, err = b.o.Unrescue(t.Context(), &one, "")
	b.must(err)
	if b.read("jail/etc/zlarge") != large+large {
		t.Error("zlarge did not come back")
	}
}

// What of an archive was only partly read, or is too large for the memory, is named and not brought back. The
// rest is.
func TestUnrescueLeavesTheDamaged(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, m := range []struct{ name, content string }{
		{"good", "good\n"}, {"half", "ha\x00\x00\x00"}, {RescueDamaged, "half\n"},
	} {
		b.must(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: m.name, Mode: 0o644,
			Size: int64(len(m.content))}))
		_, err := io.WriteString(w, m.content)
		b.must(err)
	}
	b.must(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "huge", Mode: 0o644, Size: maxArchive}))
	_, err := io.CopyN(w, zeros{}, maxArchive)
	b.must(errors.Join(err, w.Close()))
	r, err := b.o.Unrescue(t.Context(), &archive, "")
	b.must(err)
	if b.read("jail/etc/good") != "good\n" || b.look().Live.Has("half") || b.look().Live.Has("huge") {
		t.Error("another tree")
	}
	if len(r.Left) != 2 {
		t.Errorf("%+v", r.Left)
	}
}

// A large file of which a part can't be read is filled up in the archive, and named as damaged there. The
// archive is whole otherwise.
func TestRescueOfHalfAFile(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	b.edit("half", "half")
	live, err := b.o.OpenLive()
	b.must(err)
	defer live.Close()
	var out bytes.Buffer
	a := tarArchive{w: tar.NewWriter(&out), live: live, room: maxArchive}
	a.large = []*tree.Entry{{Path: "half", Kind: dirfd.KindFile, Size: 1000, Unread: tree.TooLarge}}
	var missed *MissedError
	if n, err := a.end(t.Context()); n != 1 || !errors.As(err, &missed) ||
		!strings.Contains(err.Error(), "half: only 4 of 1000 bytes could be read") {
		t.Errorf("%d, %v", n, err)
	}
	r, err := b.o.Unrescue(t.Context(), &out, "")
	b.must(err)
	if len(r.Left) != 1 || r.Left[0].Path != "half" || b.read("jail/etc/half") != "half" {
		t.Errorf("%+v", r)
	}
}
