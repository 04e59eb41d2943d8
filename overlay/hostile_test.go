package overlay

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// secret is a content outside the target's trees that no save, populate or restore may copy.
const secret = "do not copy this\n"

// hostileBox returns a populated box with a sentinel tree beside the jail, and a check that the sentinel tree
// is unchanged.
func hostileBox(t *testing.T) (*box, func()) {
	b := newBox(t, etc)
	b.write("host/rc.conf", secret)
	b.write("host/sub/nginx.conf", secret)
	b.write("host/sub/mime.types", secret)
	b.must(os.MkdirAll(b.path("host/empty"), 0o755))
	b.populate()
	before := b.shape("host")
	base := b.shape("base")
	return b, func() {
		b.Helper()
		b.same(before, b.shape("host"))
		b.same(base, b.shape("base"))
		for _, tree := range []string{"jail", "run"} {
			b.nowhere(tree)
		}
	}
}

// nowhere checks that no file of a tree holds the secret.
func (b *box) nowhere(tree string) {
	b.Helper()
	b.must(filepath.WalkDir(b.path(tree), func(full string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		c, err := os.ReadFile(full)
		if z, zerr := gzip.NewReader(bytes.NewReader(c)); zerr == nil {
			var plain bytes.Buffer
			_, _ = plain.ReadFrom(z) // whatever can be read of it counts
			c = plain.Bytes()
		}
		if strings.Contains(string(c), secret) {
			b.Errorf("%s: holds what was outside", full)
		}
		return err
	}))
}

func (b *box) kept(r *Result, path, reason string) {
	b.Helper()
	for _, k := range r.Kept {
		if k.Path == path && strings.Contains(string(k.Reason), reason) {
			return
		}
	}
	b.Errorf("%q is not among what was kept for %q: %v", path, reason, r.Kept)
}

func TestLinkToTheHostIsALink(t *testing.T) {
	t.Parallel()
	b, check := hostileBox(t)
	b.remove("rc.conf")
	b.must(os.Symlink(b.path("host/rc.conf"), b.path("jail/etc/rc.conf")))
	b.remove("local/nginx")
	b.must(os.Symlink("../../../../host/sub", b.path("jail/etc/local/nginx")))
	b.must(os.Symlink(b.path("host"), b.path("jail/etc/all")))
	r, err := b.o.Save(context.Background(), SaveOptions{Force: true})
	b.must(err)
	if len(r.View.Unsaved) != 0 {
		t.Errorf("unsaved %s", paths(r.View.Unsaved))
	}
	b.restart()
	if l, err := os.Readlink(b.path("jail/etc/all")); err != nil || l != b.path("host") {
		t.Errorf("link: %q, %v", l, err)
	}
	b.edit("hosts", "x\n")
	b.save()
	if _, err := b.o.Restore(context.Background(), From{Base: true},
		[]string{"rc.conf", "local/nginx", "all"}, ""); err != nil {
		t.Error(err)
	}
	if got := b.read("jail/etc/rc.conf") +
		b.read("jail/etc/local/nginx/nginx.conf"); got != etc["rc.conf"]+etc["local/nginx/nginx.conf"] {
		t.Errorf("restored %q", got)
	}
	b.must(b.o.Clear(context.Background()))
	check()
}

// The jail's root swaps a directory of live for a link to the host's, as fast as possible, while everything
// runs.
func TestDirectorySwappedForLink(t *testing.T) {
	t.Parallel()
	b, check := hostileBox(t)
	real, aside, link := b.path("jail/etc/local/nginx"), b.path("jail/aside"), b.path("jail/link")
	b.must(os.Symlink(b.path("host/sub"), link))
	var stop atomic.Bool
	done := make(chan int)
	go func() {
		swaps := 0
		for ; !stop.Load(); swaps++ {
			if os.Rename(real, aside) == nil && os.Rename(link, real) == nil {
				runtime.Gosched()
				_ = os.Rename(real, link) // fails if a restore was faster
			}
			_ = os.Rename(aside, real)
		}
		done <- swaps
	}()
	ctx := context.Background()
	worked := 0
	for i := range 300 {
		_ = os.WriteFile(filepath.Join(b.path("jail/etc"), "hosts"), fmt.Append(nil, i), 0o644)
		// not through the link
		_ = os.WriteFile(filepath.Join(aside, "mime.types"), fmt.Append(nil, i), 0o644)
		if _, err := b.o.Save(ctx, SaveOptions{Force: true}); err == nil {
			worked++
		}
		if i%10 == 0 {
			// may fail, but must not follow the link
			_, _ = b.o.Restore(ctx, From{Base: true}, []string{"local"}, "")
		}
	}
	stop.Store(true)
	if swaps := <-done; swaps < 100 || worked == 0 {
		t.Errorf("%d swaps, %d saves", swaps, worked)
	}
	check()
}

// The same swap at the worst moment: between the scan of live and the copy, in the hook of the first
// temporary file.
func TestSwapBetweenScanAndCopy(t *testing.T) {
	t.Parallel()
	for _, ready := range []func(tree.Change) Readiness{nil, AsItIs} {
		b, check := hostileBox(t)
		b.edit("local/nginx/mime.types", "changed\n")
		b.edit("rc.conf", "changed\n")
		swapped := false
		var mu sync.Mutex // a save copies with several goroutines
		b.o.Hook = func(op dirfd.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if !swapped && op.Kind == "create" {
				swapped = true
				b.must(os.Rename(b.path("jail/etc/local/nginx"), b.path("jail/aside")))
				b.must(os.Symlink(b.path("host/sub"), b.path("jail/etc/local/nginx")))
				b.must(os.Remove(b.path("jail/etc/rc.conf")))
				b.must(os.Symlink(b.path("host/rc.conf"), b.path("jail/etc/rc.conf")))
			}
			return nil
		}
		_, err := b.o.Save(context.Background(), SaveOptions{Ready: ready})
		if !swapped {
			t.Error("nothing was swapped")
		}
		check()
		b.o.Hook = nil
		if _, err2 := b.o.Save(context.Background(), SaveOptions{Force: true}); err2 != nil {
			t.Errorf("%v, then %v", err, err2)
		}
		check()
	}
}

// The jail's root may swap directories of cfg too, before every change of a save.
func TestSwapInCfg(t *testing.T) {
	t.Parallel()
	for at := 1; ; at += 3 {
		b, check := hostileBox(t)
		b.edit("local/nginx/mime.types", "one\n")
		b.edit("local/nginx/new", "one\n")
		b.save()
		b.edit("local/nginx/mime.types", "two\n")
		b.edit("local/nginx/sub/new", "two\n")
		b.remove("local/nginx/new")
		calls := 0
		var mu sync.Mutex // a save copies with several goroutines
		b.o.Hook = func(dirfd.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls == at {
				b.must(os.Rename(b.path("jail/cfg/local/nginx"), b.path("jail/aside")))
				b.must(os.Symlink(b.path("host/sub"), b.path("jail/cfg/local/nginx")))
			}
			return nil
		}
		_, _ = b.o.Save(context.Background(), SaveOptions{}) // may fail, but must not follow the link
		b.o = b.overlay()
		if _, err := b.o.Look(context.Background(), LookOptions{Lock: true}); err != nil {
			t.Errorf("call %d: %v", at, err)
		}
		check()
		if calls < at {
			return
		}
	}
}

func TestSpecialFilesAreNeverOpened(t *testing.T) {
	t.Parallel()
	b, check := hostileBox(t)
	b.must(unix.Mkfifo(b.path("jail/etc/fifo"), 0o644))
	b.remove("hosts")
	b.must(unix.Mkfifo(b.path("jail/etc/hosts"), 0o644))
	l, err := net.Listen("unix", b.path("jail/etc/socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	names := []string{"fifo", "hosts", "socket"}
	// /dev/zero has no end
	if os.Geteuid() == 0 && unix.Mknod(b.path("jail/etc/device"), unix.S_IFCHR|0o600, device(1, 5)) == nil {
		names = append(names, "device")
	}
	b.edit("rc.conf", "one\n")
	r := b.save()
	for _, name := range names {
		b.kept(r, name, "cannot be saved")
	}
	if got := b.read("jail/cfg/rc.conf"); got != "one\n" {
		t.Errorf("beside them, rc.conf: %q", got)
	}
	// In cfg they are not overrides, and block nothing.
	b.must(unix.Mkfifo(b.path("jail/cfg/fifo"), 0o644))
	b.must(unix.Mkfifo(b.path("jail/cfg/.cfgd/tmp/1"), 0o644))
	b.restart()
	if got := b.read("jail/etc/hosts"); got != etc["hosts"] {
		t.Errorf("the default under a fifo: %q", got)
	}
	for _, name := range []string{"manifest", "removed", "format"} {
		b.must(os.RemoveAll(b.path("jail/cfg/.cfgd/" + name)))
		b.must(unix.Mkfifo(b.path("jail/cfg/.cfgd/"+name), 0o600))
	}
	b.must(unix.Mkfifo(b.path("jail/cfg/.cfgd/journal"), 0o600))
	b.restart()
	if got := b.read("jail/etc/rc.conf"); got != "one\n" {
		t.Errorf("with fifos for the store's files: %q", got)
	}
	check()
}

func TestMetaIsALink(t *testing.T) {
	t.Parallel()
	for _, what := range []string{".cfgd", ".cfgd/tmp", ".cfgd/objects", ".cfgd/generations",
		".cfgd/manifest", ".cfgd/removed", ".cfgd/journal", ".cfgd/format"} {
		b, check := hostileBox(t)
		b.edit("rc.conf", "one\n")
		b.save()
		target := b.path("host/empty")
		if strings.Contains("manifest removed journal format", filepath.Base(what)) {
			target = b.path("host/rc.conf")
		}
		b.must(os.RemoveAll(b.path("jail/cfg/" + what)))
		b.must(os.Symlink(target, b.path("jail/cfg/"+what)))
		b.o = b.overlay()
		b.edit("hosts", "two\n")
		b.save()
		b.restart()
		if got := b.read("jail/etc/rc.conf") + b.read("jail/etc/hosts"); got != "one\ntwo\n" {
			t.Errorf("%s a link: live %q", what, got)
		}
		if v := b.look(); len(v.Unsaved) != 0 {
			t.Errorf("%s a link: unsaved %s", what, paths(v.Unsaved))
		}
		check()
	}
}

// forgeJournal writes a journal with the right count and digest.
func (b *box) forgeJournal(lines ...string) {
	b.Helper()
	body := strings.Join(lines, "\n") + "\n"
	h, err := json.Marshal(store.JournalHeader{
		Journal: store.FormatVersion,
		Steps:   len(lines),
		Digest:  tree.Digest(sha256.Sum256([]byte(body))).String(),
	})
	b.must(err)
	b.must(os.WriteFile(b.path("jail/cfg/.cfgd/journal"), []byte(string(h)+"\n"+body), 0o600))
}

// damagedParts lists the names under which damaged parts of the store were kept.
func (b *box) damagedParts() []string {
	b.Helper()
	entries, err := os.ReadDir(b.path("jail/cfg/.cfgd/tmp"))
	b.must(err)
	var out []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), store.DamagedName) {
			b.Errorf(".cfgd/tmp/%s is left", e.Name())
		}
		out = append(out, e.Name())
	}
	return out
}

const good = `,"kind":"file","mode":"0644","digest":"` +
	"2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806" + `"`

func TestForgedJournal(t *testing.T) {
	t.Parallel()
	for _, lines := range [][]string{
		{`{"do":"put","from":"1","path":"../../../host/rc.conf"` + good + `}`},
		{`{"do":"put","from":"1","path":"/etc/passwd"` + good + `}`},
		{`{"do":"put","from":"../1","path":"rc.conf"` + good + `}`},
		{`{"do":"put","from":"a/b","path":"rc.conf"` + good + `}`},
		{`{"do":"put","from":"..","path":"rc.conf"` + good + `}`},
		{`{"do":"put","from":"/x","path":"rc.conf"` + good + `}`},
		{`{"do":"put","path":"rc.conf"` + good + `}`},
		{`{"do":"put","from":"1","path":".cfgd/manifest"` + good + `}`},
		{`{"do":"put","from":"9","path":"rc.conf","kind":"symlink","mode":"0777","link":"eA=="}`},
		{`{"do":"put","from":"9","path":"missing/dir/rc.conf"` + good + `}`},
		{`{"do":"install","from":"1","path":"format"}`},
		{`{"do":"install","from":"1","path":"../rc.conf"}`},
		{`{"do":"install","from":"1","path":"objects"}`},
		{`{"do":"install","path":"manifest"}`},
		{`{"do":"rm","path":"../../host/rc.conf"}`},
		{`{"do":"rm","path":""}`},
		{`{"do":"rm","path":"."}`},
		{`{"do":"rmdir","path":"a/../../../host/empty"}`},
		{`{"do":"rmdir","path":".cfgd"}`},
		{`{"do":"mkdir","path":"a//b","kind":"dir","mode":"0755"}`},
		{`{"do":"exec","path":"rc.conf"}`},
		{`{"do":"meta","path":"rc.conf","kind":"dir","mode":"99999"}`},
		{`{"do":"put","from":"1","path":"x","pathBytes":"Li4veA=="` + good + `}`},
		{`not json`},
	} {
		b, check := hostileBox(t)
		b.edit("rc.conf", "one\n")
		b.save()
		b.must(os.WriteFile(b.path("jail/cfg/.cfgd/tmp/1"), []byte("forged\n"), 0o600))
		b.forgeJournal(lines...)
		b.o = b.overlay()
		v, err := b.o.Look(context.Background(), LookOptions{Lock: true})
		if err != nil {
			t.Errorf("%s: %v", lines, err)
			continue
		}
		if d := b.damagedParts(); len(d) != 1 || !strings.Contains(d[0], "journal") || len(v.Notices) != 1 {
			t.Errorf("%s: kept aside %q, notices %q", lines, d, v.Notices)
		}
		if got := b.read("jail/cfg/rc.conf"); got != "one\n" || v.Current.Generation != 1 {
			t.Errorf("%s: plain rc.conf %q, generation %d", lines, got, v.Current.Generation)
		}
		check()
	}
}

// Journal steps do not follow a link that was planted in cfg, and do not change a directory's mode through
// one.
func TestForgedJournalThroughLinks(t *testing.T) {
	t.Parallel()
	b, check := hostileBox(t)
	b.edit("rc.conf", "one\n")
	b.save()
	b.must(os.Symlink(b.path("host"), b.path("jail/cfg/out")))
	b.must(os.WriteFile(b.path("jail/cfg/.cfgd/tmp/1"), []byte("forged\n"), 0o600))
	b.must(os.WriteFile(b.path("jail/cfg/.cfgd/tmp/2"), []byte("forged\n"), 0o600))
	b.forgeJournal(
		`{"do":"rm","path":"out/rc.conf"}`,
		`{"do":"rmdir","path":"out/empty"}`,
		`{"do":"mkdir","path":"out/made","kind":"dir","mode":"0755"}`,
		`{"do":"put","from":"1","path":"out/rc.conf"`+good+`}`,
		`{"do":"put","from":"2","path":"out/sub/new"`+good+`}`,
		`{"do":"times","path":"out/rc.conf","kind":"file","mode":"0644","mtime":"1.000000000"}`,
		`{"do":"meta","path":"out","kind":"dir","mode":"0777"}`,
		`{"do":"meta","path":"out/sub","kind":"dir","mode":"0777"}`,
	)
	b.o = b.overlay()
	if _, err := b.o.Look(context.Background(), LookOptions{Lock: true}); err != nil {
		t.Error(err)
	}
	check()
}

// forgeManifest writes a manifest with the right count and digest.
func (b *box) forgeManifest(change func(h *store.Header), lines ...string) {
	b.Helper()
	body := ""
	for _, l := range lines {
		body += l + "\n"
	}
	h := store.Header{
		Format:     store.FormatVersion,
		Generation: 7,
		Time:       "2026-01-01T00:00:00Z",
		Base:       "proto/etc@1",
		Entries:    len(lines),
	}
	h.Digest = tree.Digest(sha256.Sum256([]byte(body))).String()
	if change != nil {
		change(&h)
	}
	top, err := json.Marshal(h)
	b.must(err)
	b.must(os.WriteFile(b.path("jail/cfg/.cfgd/manifest"), []byte(string(top)+"\n"+body), 0o600))
}

func TestForgedManifest(t *testing.T) {
	t.Parallel()
	override := func(path string) string {
		b, _ := json.Marshal(pathname.FromPath(path))
		return strings.TrimSuffix(string(b), "}") + `,"type":"override"` + good + `}`
	}
	removal := func(path string) string {
		b, _ := json.Marshal(pathname.FromPath(path))
		return strings.TrimSuffix(string(b), "}") + `,"type":"removal"}`
	}
	for name, c := range map[string]struct {
		change func(*store.Header)
		lines  []string
	}{
		"up":            {nil, []string{override("../../../host/rc.conf")}},
		"up in removal": {nil, []string{removal("../host/rc.conf")}},
		"absolute":      {nil, []string{override("/etc/passwd")}},
		"the store's":   {nil, []string{removal(".cfgd/format")}},
		"the store":     {nil, []string{removal(".cfgd")}},
		"empty":         {nil, []string{removal("")}},
		"dot":           {nil, []string{removal("a/./b")}},
		"long":          {nil, []string{removal(strings.Repeat("x", 256))}},
		"NUL":           {nil, []string{`{"path":"a\u0000b","type":"removal"}`}},
		"double":        {nil, []string{override("rc.conf"), override("rc.conf")}},
		"both":          {nil, []string{override("rc.conf"), removal("rc.conf")}},
		"unsorted":      {nil, []string{removal("b"), removal("a")}},
		"two names":     {nil, []string{`{"path":"rc.conf","pathBytes":"Li4veA==","type":"removal"}`}},
		"device":        {nil, []string{`{"path":"x","type":"override","kind":"device","mode":"0644"}`}},
		"mode":          {nil, []string{`{"path":"x","type":"override","kind":"file","mode":"777777"}`}},
		"size": {nil, []string{
			`{"path":"x","type":"override","kind":"file","mode":"0644","size":-1}`}},
		"type": {nil, []string{`{"path":"x","type":"order"}`}},
		"digest": {func(h *store.Header) { h.Digest = strings.Repeat("0", 64) },
			[]string{removal("hosts")}},
		"no digest":  {func(h *store.Header) { h.Digest = "" }, nil},
		"count":      {func(h *store.Header) { h.Entries = 2 }, []string{removal("hosts")}},
		"format 0":   {func(h *store.Header) { h.Format = 0 }, nil},
		"generation": {func(h *store.Header) { h.Generation = -1 }, nil},
		"huge":       {func(h *store.Header) { h.Generation = 1 << 62 }, nil},
		"time":       {func(h *store.Header) { h.Time = "yesterday" }, nil},
		"pins":       {func(h *store.Header) { h.Pins = [][]byte{[]byte("../x")} }, nil},
		"held":       {func(h *store.Header) { h.HandEdits = [][]byte{[]byte("/x")} }, nil},
		"default's kind": {nil, []string{strings.TrimSuffix(removal("hosts"), "}") +
			`,"default":{"kind":"fifo","mode":"0644"}}`}},
	} {
		t.Run(name, func(t *testing.T) {
			b, check := hostileBox(t)
			b.TB = t
			b.edit("rc.conf", "one\n")
			b.remove("issue")
			b.save()
			b.forgeManifest(c.change, c.lines...)
			b.o = b.overlay()
			v, err := b.o.Look(context.Background(), LookOptions{Lock: true})
			b.must(err)
			if d := b.damagedParts(); len(d) != 1 || !strings.Contains(d[0], "manifest") ||
				len(v.Notices) != 1 {
				t.Errorf("kept aside %q, notices %q", d, v.Notices)
			}
			b.restart()
			if got := b.read("jail/etc/rc.conf") + b.read("jail/etc/issue") +
				b.read("jail/etc/hosts"); got != "one\n(absent)"+etc["hosts"] {
				t.Errorf("live: %q", got)
			}
			check()
		})
	}
}

// Removals that were lost with the manifest come from the file that repeats them. A tree of them is never
// more than the target's.
func TestTornManifestAndRemoved(t *testing.T) {
	t.Parallel()
	b, check := hostileBox(t)
	b.edit("rc.conf", "one\n")
	b.remove("issue")
	b.save()
	whole := b.read("jail/cfg/.cfgd/manifest")
	b.must(
		os.WriteFile(b.path("jail/cfg/.cfgd/removed"),
			[]byte("issue\n../../host/rc.conf\n/etc\n.cfgd\n\"\\q\"\nnowhere\n"), 0o600),
	)
	for n := 0; n < len(whole); n += 1 + n/7 {
		b.must(os.RemoveAll(b.path("jail/cfg/.cfgd/generations")))
		b.must(os.WriteFile(b.path("jail/cfg/.cfgd/manifest"), []byte(whole[:n]), 0o600))
		b.restart()
		if got := b.read("jail/etc/rc.conf") + b.read("jail/etc/issue"); got != "one\n(absent)" {
			t.Errorf("torn at %d: live %q", n, got)
		}
		if v := b.look(); len(v.Unsaved) != 0 {
			t.Errorf("torn at %d: unsaved %s", n, paths(v.Unsaved))
		}
	}
	check()
}

// Not in parallel: it counts what is allocated.
func TestDamagedObjects(t *testing.T) {
	b, check := hostileBox(t)
	b.edit("rc.conf", "one\n")
	b.save()
	b.edit("rc.conf", "two\n")
	b.save()
	name := "jail/cfg/.cfgd/objects/" + tree.Digest(sha256.Sum256([]byte("one\n"))).String() + ".gz"
	if b.read(name) == "(absent)" {
		t.Fatal("the old content is not kept")
	}
	zip := func(content []byte, times int) string {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		for range times {
			_, _ = z.Write(content)
		}
		b.must(z.Close())
		return out.String()
	}
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	for what, content := range map[string]string{
		"other content": zip([]byte("two\n"), 1), "longer": zip([]byte("one\none\n"), 1), "no gzip": "one\n",
		"empty": "", "cut": zip([]byte("one\n"), 1)[:8],
		"a bomb": zip(make([]byte, 1<<20), 512),
	} {
		b.must(os.WriteFile(b.path(name), []byte(content), 0o600))
		if _, err := b.o.Restore(context.Background(), From{Generation: 1}, []string{"rc.conf"},
			""); err == nil {
			t.Errorf("%s: restored from a damaged object", what)
		}
		if _, c, err := b.o.History().Show(context.Background(), 1, "rc.conf"); err == nil {
			t.Errorf("%s: showed %q", what, c)
		}
		if got := b.read("jail/etc/rc.conf"); got != "two\n" {
			t.Errorf("%s: live is now %q", what, got)
		}
	}
	runtime.ReadMemStats(&m1)
	if grown := int64(m1.TotalAlloc) - int64(m0.TotalAlloc); grown > 256<<20 {
		t.Errorf("%d MiB were allocated: a bomb went off", grown>>20)
	}
	for _, plant := range []func() error{
		func() error { return os.Symlink(b.path("host/rc.conf"), b.path(name)) },
		func() error { return unix.Mkfifo(b.path(name), 0o600) },
		func() error { return os.Mkdir(b.path(name), 0o700) },
		func() error { return nil },
	} {
		b.must(os.RemoveAll(b.path(name)))
		b.must(plant())
		if _, err := b.o.Restore(context.Background(), From{Generation: 1}, []string{"rc.conf"},
			""); err == nil {
			t.Error("restored from what is no object")
		}
	}
	b.edit("rc.conf", "three\n") // none of that prevents a save
	b.save()
	check()
}

func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"format", "manifest"} {
		b, check := hostileBox(t)
		b.edit("rc.conf", "one\n")
		b.save()
		if what == "format" {
			b.must(os.WriteFile(b.path("jail/cfg/.cfgd/format"), []byte("2\n"), 0o600))
		} else {
			b.forgeManifest(func(h *store.Header) { h.Format = 2 }, `{"new":"form"}`)
		}
		before := b.shape("jail/cfg")
		b.edit("rc.conf", "two\n")
		b.o = b.overlay()
		if _, err := b.o.Save(context.Background(), SaveOptions{}); !errors.Is(err, store.ErrNewerFormat) ||
			!strings.Contains(err.Error(), "newer") {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := b.o.Look(context.Background(), LookOptions{Lock: true}); !errors.Is(
			err,
			store.ErrNewerFormat,
		) {
			t.Errorf("%s: look: %v", what, err)
		}
		b.same(before, b.shape("jail/cfg"))
		check()
	}
}

func TestGarbageFormat(t *testing.T) {
	t.Parallel()
	for _, garbage := range []string{"", "x\n", "-1\n", "0\n", strings.Repeat("9", 300)} {
		b, check := hostileBox(t)
		b.edit("rc.conf", "one\n")
		b.save()
		b.must(os.WriteFile(b.path("jail/cfg/.cfgd/format"), []byte(garbage), 0o600))
		b.edit("hosts", "two\n")
		b.o = b.overlay()
		b.save()
		if d := b.damagedParts(); len(d) != 1 || b.read("jail/cfg/.cfgd/format") != "1\n" ||
			b.read("jail/cfg/rc.conf") != "one\n" {
			t.Errorf("%.20q: kept aside %q, format %q", garbage, d, b.read("jail/cfg/.cfgd/format"))
		}
		check()
	}
}

func TestDeepDirectories(t *testing.T) {
	t.Parallel()
	b, check := hostileBox(t)
	fd, err := unix.Open(b.path("jail/etc"), unix.O_DIRECTORY|unix.O_RDONLY, 0)
	b.must(err)
	const name = "deeper"
	for range 5000 {
		b.must(unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		b.must(err)
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	b.edit("rc.conf", "one\n")
	r := b.save()
	if !slices.ContainsFunc(r.Kept,
		func(k store.Kept) bool { return strings.Contains(string(k.Reason), "too deep") }) ||
		b.read("jail/cfg/rc.conf") != "one\n" {
		t.Errorf("kept %v", r.Kept)
	}
	b.restart() // clears them all
	if got := b.read("jail/etc/rc.conf"); got != "one\n" {
		t.Errorf("live: %q", got)
	}
	check()
}

// oddNames are names as a jail may have them.
var oddNames = []string{
	" ", "a b", "new\nline", "tab\there", "quo\"te", "back\\slash", "gr\xfcn", "\xff\xfe", "\xef\xbf\xbd",
	"grün", "日本", "-rf", "~x!", "a.b.", "...", "..a", strings.Repeat("n", 255),
	"\x01\x7f", "cfgd", ".hidden", "*", "?[]", "percent%20", "trailing ", "\u202ertl", ".ignored",
	".cfgd.x/y",
}

func TestOddNames(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.write("base/odd/gr\xfcn", "default\n")
	b.populate()
	for i, n := range oddNames {
		b.edit(n, fmt.Sprintf("%d\n", i))
		b.edit("dir/"+n+"/"+n, fmt.Sprintf("%d\n", i))
	}
	b.remove("odd/gr\xfcn")
	b.save()
	if got := b.read("jail/cfg/.cfgd/removed"); got != "\"odd/gr\\374n\"\n" {
		t.Errorf("removed: %q", got)
	}
	want := b.shape("jail/etc")
	b.restart()
	got := b.shape("jail/etc")
	delete(want, ".")
	delete(got, ".")
	b.same(want, got)
	if v := b.look(); len(v.Unsaved) != 0 {
		t.Errorf("unsaved %s", paths(v.Unsaved))
	}
}

const asNobody = "CFGD_TEST_AS_NOBODY"

func TestUnreadableDirectoryIsNoDeletion(t *testing.T) {
	if os.Geteuid() == 0 {
		dir, err := os.MkdirTemp("", "cfgd-nobody")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		exe := filepath.Join(dir, "test")
		b := &box{files: files{TB: t}}
		c, err := os.ReadFile(os.Args[0])
		b.must(err)
		b.must(os.WriteFile(exe, c, 0o755))
		b.must(os.Chmod(dir, 0o777))
		cmd := exec.Command(exe, "-test.run", "^"+t.Name()+"$", "-test.v")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), asNobody+"=1", "TMPDIR="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
		return
	}
	b, check := hostileBox(t)
	b.edit("local/nginx/mime.types", "one\n")
	b.edit("secret", "one\n")
	b.save()
	b.must(os.Chmod(b.path("jail/etc/local/nginx"), 0))
	b.must(os.Chmod(b.path("jail/etc/secret"), 0))
	b.edit("rc.conf", "one\n")
	r := b.save()
	b.kept(r, "local/nginx/mime.types", "permission")
	if got := b.read("jail/cfg/local/nginx/mime.types") + b.read("jail/cfg/secret") +
		b.read("jail/cfg/.cfgd/removed") + b.read("jail/cfg/rc.conf"); got != "one\none\none\n" {
		t.Errorf("cfg: %q", got)
	}
	b.must(os.Chmod(b.path("jail/etc/local/nginx"), 0o755))
	b.must(os.Chmod(b.path("jail/etc/secret"), 0o644))
	if v := b.look(); len(v.Unsaved) != 0 {
		t.Errorf("unsaved %s", paths(v.Unsaved))
	}
	check()
}
