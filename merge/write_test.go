package merge

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

func file(mode uint32, content string) Side {
	return Side{
		Exists:  true,
		Kind:    File,
		Mode:    mode,
		Owner:   "root:wheel",
		Content: []byte(content),
		Digest:  "sha256 " + strings.Repeat("0", 4),
	}
}

func link(target string) Side {
	return Side{Exists: true, Kind: Symlink, Mode: 0o777, Owner: "root:wheel", Content: []byte(target)}
}

func special(kind Kind, mode uint32) Side {
	return Side{Exists: true, Kind: kind, Mode: mode, Owner: "root:wheel"}
}

func (s Side) owned(owner, flags string) Side {
	s.Owner, s.Flags = owner, flags
	return s
}

func (s Side) omitted(why string, size int64, digest string) Side {
	s.Content, s.Omitted, s.Size, s.Digest = nil, why, size, digest
	return s
}

// change returns a change of vhost1, live against base.
func change(path string, old, new Side, more ...func(*Change)) Change {
	c := Change{Target: "vhost1", Path: path, Old: old, New: new}
	c.Old.Label, c.New.Label = "base", "live"
	for _, m := range more {
		m(&c)
	}
	return c
}

func unsaved(c *Change) { c.Unsaved = true }
func secret(c *Change)  { c.Secret = true }

func notes(n ...string) func(*Change) { return func(c *Change) { c.Notes = n } }

// changes has each kind of change. Its name is that of the golden file.
var changes = map[string]Change{
	"modified": change("rc.conf", file(0o644, "a=1\nb=2\nc=3\nd=4\ne=5\n"),
		file(0o644, "a=1\nb=2\nc=3\nd=40\ne=5\n")),
	"unsaved":         change("rc.conf", file(0o644, "a=1\n"), file(0o644, "a=2\n"), unsaved),
	"no-last-newline": change("motd", file(0o644, "old"), file(0o644, "new\n")),
	"crlf":            change("dos.conf", file(0o644, "a\r\nb\r\n"), file(0o644, "a\r\nc\r\n")),
	"added":           change("local/new.conf", Side{}, file(0o644, "x\n")),
	"added-script":    change("rc.local", Side{}, file(0o755, "#!/bin/sh\n")),
	"added-private":   change("local/private", Side{}, file(0o600, "x\n").owned("www:www", "schg")),
	"added-empty":     change("wall_cmos_clock", Side{}, file(0o444, "")),
	"deleted":         change("motd", file(0o644, "hello\n"), Side{}),
	"deleted-empty":   change("wall_cmos_clock", file(0o644, ""), Side{}),
	"mode-git":        change("rc.local", file(0o644, "x\n"), file(0o755, "x\n")),
	"mode-exact":      change("rc.conf", file(0o600, "x\n"), file(0o640, "x\n")),
	"mode-both":       change("rc.local", file(0o600, "x\n"), file(0o755, "y\n")),
	"owner-flags": change("rc.conf", file(0o644, "x\n"),
		file(0o644, "x\n").owned("www:www", "schg,nodump")),
	"flags-gone": change("rc.conf", file(0o644, "x\n").owned("root:wheel", "schg"), file(0o644, "y\n")),
	"symlink": change("localtime", link("/usr/share/zoneinfo/UTC"),
		link("/usr/share/zoneinfo/Europe/Berlin")),
	"symlink-added":   change("localtime", Side{}, link("/usr/share/zoneinfo/UTC")),
	"symlink-deleted": change("localtime", link("/usr/share/zoneinfo/UTC"), Side{}),
	"file-to-symlink": change("localtime", file(0o444, "UTC0\n"), link("../UTC")),
	"symlink-to-file": change("localtime", link("../UTC"), file(0o444, "UTC0\n")),
	"file-to-dir":     change("local", file(0o644, "x\n"), special(Dir, 0o755)),
	"fifo-to-file":    change("log", special("fifo", 0o644), file(0o644, "x\n")),
	"dir-added":       change("empty", Side{}, special(Dir, 0o750)),
	"dir-deleted":     change("empty", special(Dir, 0o755), Side{}),
	"dir-mode":        change("ssl", special(Dir, 0o755), special(Dir, 0o700)),
	"fifo-added":      change("log", Side{}, special("fifo", 0o600)),
	"binary":          change("x.db", file(0o644, "a\x00b"), file(0o755, "a\x00bc")),
	"binary-added":    change("x.db", Side{}, file(0o644, "a\x00b")),
	"binary-deleted":  change("x.db", file(0o644, "a\x00b"), Side{}),
	"omitted": change("big", file(0o644, "small\n"),
		special(File, 0o644).omitted("larger than 4m", 5<<20, "sha256 ffff")),
	"omitted-same": change("big", special(File, 0o600).omitted("larger than 4m", 5<<20, "sha256 ffff"),
		special(File, 0o640).omitted("larger than 4m", 5<<20, "sha256 ffff")),
	"omitted-added": change("big", Side{}, special(File, 0o644).omitted("larger than 4m", 5<<20, "")),
	"too-large": change("list", file(0o644, strings.Repeat("a\n", maxLines/2)),
		file(0o644, strings.Repeat("b\n", maxLines/2+1))),
	"secret": change("master.passwd", file(0o600, "root:hash\n"), file(0o755, "root:other\n"), secret,
		unsaved),
	"secret-mode":    change("master.passwd", file(0o600, "root:hash\n"), file(0o640, "root:hash\n"), secret),
	"secret-added":   change("ssh/key", Side{}, file(0o600, "key\n"), secret),
	"secret-deleted": change("ssh/key", file(0o600, "key\n"), Side{}, secret),
	"secret-type":    change("ssh/key", file(0o600, "key\n"), link("elsewhere"), secret),
	"blank":          change("with blank", file(0o644, "x\n"), file(0o755, "y\n")),
	"quoted":         change("a\nb \"q\" gr\xfcn", file(0o644, "x\n"), file(0o644, "y\n")),
	"utf8":           change("grün", file(0o644, "x\n"), file(0o644, "y\n")),
	"notes": change("rc.conf", file(0o644, "x\n"), file(0o644, "y\n"),
		notes("class derived", "two\nlines, \x1b[31mred")),
}

func text(t rapid.TB, c Change) string {
	var b bytes.Buffer
	if err := Write(&b, c, 3); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWrite(t *testing.T) {
	for name, c := range changes {
		golden := filepath.Join("testdata", name+".diff")
		got := text(t, c)
		if *update {
			write(t, golden, []byte(got))
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
	}
}

// TestEveryGoldenIsTested finds golden files that belong to no change.
func TestEveryGoldenIsTested(t *testing.T) {
	goldens, err := filepath.Glob("testdata/*.diff")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range goldens {
		if name := strings.TrimSuffix(filepath.Base(g), ".diff"); changes[name].Target == "" {
			t.Errorf("%s: no change has this name", g)
		}
	}
}

func TestWriteContext(t *testing.T) {
	old, new := file(0o644, "1\n2\n3\n4\n5\n"), file(0o644, "1\n2\nx\n4\n5\n")
	for context, want := range map[int]string{-1: "@@ -3 +3 @@\n-3\n+x\n", 0: "@@ -3 +3 @@\n-3\n+x\n",
		1: "@@ -2,3 +2,3 @@\n 2\n-3\n+x\n 4\n"} {
		var b bytes.Buffer
		if err := Write(&b, change("f", old, new), context); err != nil ||
			!strings.HasSuffix(b.String(), "+++ live/f\n"+want) {
			t.Errorf("with context %d: %v\n%s", context, err, b.String())
		}
	}
}

type fullDisk struct{}

var errFull = errors.New("disk full")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestWriteReturnsTheWritersError(t *testing.T) {
	if err := Write(fullDisk{}, changes["modified"], 3); !errors.Is(err, errFull) {
		t.Errorf("got %v, want %v", err, errFull)
	}
}

// TestSecretsStaySecret compares the output for two contents of a secret that differ in every way. It must be
// the same.
func TestSecretsStaySecret(t *testing.T) {
	sides := rapid.Custom(func(t *rapid.T) Side {
		s := Side{Exists: rapid.Bool().Draw(t, "exists")}
		s.Kind = rapid.SampledFrom([]Kind{File, Symlink, Dir, "fifo"}).Draw(t, "kind")
		s.Mode = rapid.SampledFrom([]uint32{0o600, 0o644, 0o755}).Draw(t, "mode")
		return s
	})
	rapid.Check(t, func(t *rapid.T) {
		old, new := sides.Draw(t, "old"), sides.Draw(t, "new")
		with := func(a, b string) string {
			o, n := keep(t, old, a), keep(t, new, b)
			return text(t, change("key", o, n, secret))
		}
		plain, other := with("hunter2\n", "hunter3\n"), with("\x00swordfish", "x")
		if plain != other {
			t.Fatalf("two contents make a difference:\n%s\n%s", plain, other)
		}
		for _, word := range []string{"hunter", "digest", "424242", "@@", "index", "bytes"} {
			if strings.Contains(plain, word) {
				t.Fatalf("%q is in\n%s", word, plain)
			}
		}
	})
}

// keep gives a side a content, or only its size and digest.
func keep(t *rapid.T, s Side, content string) Side {
	s.Digest = "digest of " + content
	if s.Content = []byte(content); rapid.Bool().Draw(t, "omitted") {
		s.Content, s.Omitted, s.Size = nil, "more than 424242 bytes", 424242
	}
	return s
}

// TestRemarksStayRemarks puts line breaks and escape sequences wherever a name or a word comes from a tree.
func TestRemarksStayRemarks(t *testing.T) {
	evil := "x\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n\x1b]0;title\a"
	new := file(0o600, "x\n").owned(evil, evil)
	new.Digest = evil
	binary := new
	binary.Content = []byte("\x00")
	for _, n := range []Side{new, binary, special(Kind(evil), 0o600), new.omitted(evil, 1, evil)} {
		for _, old := range []Side{{}, file(0o644, "y\n"), link(evil)} {
			c := change(evil, old, n, notes(evil))
			c.Target = evil
			out := text(t, c)
			head, _, _ := strings.Cut(out, "diff --git")
			for line := range strings.Lines(head) {
				if !strings.HasPrefix(line, "# ") {
					t.Errorf("the line %q is no remark, in\n%q", line, out)
				}
			}
			if strings.ContainsAny(head, "\x1b\a") {
				t.Errorf("commands to the terminal in %q", head)
			}
		}
	}
}
