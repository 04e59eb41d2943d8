package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"cfgd/internal/dirfd"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

const (
	schg, uchg = 0x20000, 0x2
)

// flagging is a hook that records changes in order. Like FreeBSD, it refuses a link to a file that has flags.
type flagging struct {
	mu    sync.Mutex
	ops   []string
	flags map[string]uint32
}

func (f *flagging) hook(op dirfd.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops = append(f.ops, strings.TrimSpace(op.Kind+" "+op.Path+" "+op.To))
	up := filepath.Dir(op.Path)
	switch {
	case op.Kind == "flags":
		f.flags[op.Path] = op.Mode
	case f.flags[op.Path] != 0,
		op.Kind != "chmod" && op.Kind != "utimes" && op.Kind != "chown" && f.flags[up] != 0:
		return fmt.Errorf("%w: %s of %s, which has flags", unix.EPERM, op.Kind, op.Path)
	}
	return nil
}

// flaggedDir returns a temporary directory in which flags may be set, although the testing package could not
// remove files with flags.
func flaggedDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		d, err := dirfd.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := d.Clear(); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// flaggedTree makes a directory with files, hard links, symbolic links and directories, and returns a scan of
// it in which some have flags.
func flaggedTree(t *testing.T) (dir string, flagged *tree.Tree) {
	t.Helper()
	dir = t.TempDir()
	at := func(p string) string { return filepath.Join(dir, p) }
	err := errors.Join(os.MkdirAll(at("d/e"), 0o755), os.WriteFile(at("d/one"), []byte("1"), 0o644),
		os.Link(at("d/one"), at("d/e/two")), os.Link(at("d/one"), at("three")),
		os.WriteFile(at("d/alone"), nil, 0o644), os.Symlink("one", at("d/link")))
	if err != nil {
		t.Fatal(err)
	}
	root, err := dirfd.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if flagged, err = tree.Scan(context.Background(), root, tree.ScanOptions{}); err != nil {
		t.Fatal(err)
	}
	for i := range flagged.Entries {
		switch e := &flagged.Entries[i]; e.Path {
		case "d/one", "d/e/two", "three":
			e.Flags = uchg
		case "d", "d/e", "d/alone", "d/link":
			e.Flags = schg
		}
	}
	return dir, flagged
}

// Flags are set last: a file's after its links, a directory's after all that is made in it. At the end each
// name has its flags.
func TestPopulateSetsFlagsLast(t *testing.T) {
	t.Parallel()
	for _, links := range []bool{true, false} {
		from, flagged := flaggedTree(t)
		if !links {
			for i := range flagged.Entries {
				flagged.Entries[i].ClearStamp()
			}
		}
		base, err := dirfd.Open(from, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer base.Close()
		f := &flagging{flags: map[string]uint32{}}
		to := flaggedDir(t)
		live, err := dirfd.Open(to, f.hook)
		if err != nil {
			t.Fatal(err)
		}
		defer live.Close()
		if _, err := (tree.Copy{Saved: flagged, Base: base, To: live}).Run(context.Background()); err != nil {
			t.Errorf("links %v: %v\n%s", links, err, strings.Join(f.ops, "\n"))
			continue
		}
		made := slices.ContainsFunc(f.ops, func(op string) bool { return strings.HasPrefix(op, "link ") })
		if made != links {
			t.Errorf("links %v: %q", links, f.ops)
		}
		for i := range flagged.Entries {
			e := &flagged.Entries[i]
			got := f.flags[e.Path]
			if links && e.Kind == dirfd.KindFile && e.Nlink() > 1 {
				got = f.flags["d/e/two"] | f.flags["d/one"] | f.flags["three"] // they are one file
			}
			if got != e.Flags {
				t.Errorf("links %v: %s has flags %x, want %x", links, e.Path, got, e.Flags)
			}
		}
	}
}

// A directory of cfg that only holds others has base's flags, unless cfg says otherwise.
func TestFlagsOfStructuralDirectories(t *testing.T) {
	t.Parallel()
	_, base := flaggedTree(t)
	own := dirfd.Stat{Kind: dirfd.KindDir, Mode: 0o755, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	plain := &tree.Tree{Entries: []tree.Entry{
		tree.EntryOf("d", own), tree.EntryOf("d/e", own), {Path: "d/e/new", Kind: dirfd.KindFile},
	}}
	m := &store.Manifest{
		Overrides: []store.Override{{Entry: tree.Entry{Path: "d/e", Kind: dirfd.KindDir, Mode: 0o755}}},
	}
	saved := tree.Saved(base, store.WithManifest(base, plain, m), nil)
	for path, want := range map[string]uint32{"d": schg, "d/e": 0, "d/e/new": 0, "d/one": uchg,
		"d/alone": schg} {
		if e, ok := saved.Get(path); !ok || e.Flags != want {
			t.Errorf("%s: %+v", path, e)
		}
	}
}

// What a restore changes has its flags again at the end, directories too.
func TestRestoreSetsFlagsOfDirectories(t *testing.T) {
	t.Parallel()
	from, want := flaggedTree(t)
	to := flaggedDir(t)
	f := &flagging{flags: map[string]uint32{}}
	live, err := dirfd.Open(to, f.hook)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	now, err := tree.Scan(context.Background(), live, tree.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := &restorer{want: want, touched: map[string]bool{}, read: func(e *tree.Entry) (io.ReadCloser, error) {
		return os.Open(filepath.Join(from, e.Path))
	}}
	r.changes = tree.Delta(now, want)
	if err := r.run(context.Background(), live); err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(f.ops, "\n"))
	}
	for i := range want.Entries {
		e := &want.Entries[i]
		if got := f.flags[e.Path]; got != e.Flags && e.Kind == dirfd.KindDir {
			t.Errorf("%s has flags %x, want %x", e.Path, got, e.Flags)
		}
	}
	for i, op := range f.ops {
		if op == "flags d" &&
			slices.ContainsFunc(
				f.ops[i:],
				func(later string) bool { return strings.HasPrefix(later, "create d/") },
			) {
			t.Errorf("d is immutable before all is made in it: %q", f.ops)
		}
	}
}
