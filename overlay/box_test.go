package overlay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
	"cfgd/merge"
	"cfgd/overlay/tree"
)

// files are the files below a directory, for a test. Paths count from there.
type files struct {
	testing.TB
	dir string
}

// box is a target in its own directory: base, cfg, live and run.
type box struct {
	files
	o      *Overlay
	on     string // the path of the base, "" for /base
	tools  merge.Tools
	policy config.OnConflict // "" means mine

	clock sync.Mutex // guards now
	now   time.Time
	lent  string // the directory of another box whose bases are used
}

func newBox(t testing.TB, base map[string]string) *box { return newBoxIn(t, t.TempDir(), base) }

func newBoxIn(t testing.TB, dir string, base map[string]string) *box {
	b := &box{files: files{t, dir}, now: time.Now()}
	for _, d := range []string{"base", "jail/etc", "jail/cfg", "run"} {
		b.must(os.MkdirAll(filepath.Join(b.dir, d), 0o755))
	}
	for p, content := range base {
		b.write("base/"+p, content)
	}
	b.o = b.overlay()
	return b
}

// overlay returns a new Overlay, as a new process would make it.
func (b *box) overlay() *Overlay {
	tg := &config.Target{
		Name:   "vhost1",
		Root:   "/jail",
		Base:   cmp.Or(b.on, "/base"),
		BaseID: "proto/etc@1",
		Cfg:    "/jail/cfg",
		Live:   "/jail/etc",
	}
	tg.MaxFile, tg.KeepGenerations, tg.KeepBytes, tg.Memory = 1<<20, 100, 16<<20, config.BackingDir
	tg.Classes, tg.OnConflict = testClasses(b), cmp.Or(b.policy, config.ConflictMine)
	if b.on != "" {
		tg.BaseID = "proto/etc@" + strings.TrimPrefix(b.on, "/base")
	}
	m := &config.Model{Root: b.dir, Targets: []*config.Target{tg}}
	o := New(m, tg)
	if b.lent != "" {
		own := o.path
		o.path = func(p string) string {
			if strings.HasPrefix(p, "/base") {
				return filepath.Join(b.lent, p)
			}
			return own(p)
		}
	}
	o.Tools = b.tools
	// The real clock, because the files' times come from it, but never the same time twice.
	o.Now = func() time.Time {
		b.clock.Lock()
		defer b.clock.Unlock()
		if now := time.Now(); now.After(b.now) {
			b.now = now
		} else {
			b.now = b.now.Add(time.Nanosecond)
		}
		return b.now
	}
	return o
}

func (b *files) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *files) path(p string) string { return filepath.Join(b.dir, p) }

func (b *files) write(p, content string) {
	b.Helper()
	b.must(os.MkdirAll(filepath.Dir(b.path(p)), 0o755))
	b.must(os.WriteFile(b.path(p), []byte(content), 0o644))
}

// edit writes a file of live, such as rc.conf.
func (b *files) edit(p, content string) { b.Helper(); b.write("jail/etc/"+p, content) }

func (b *files) remove(p string) { b.Helper(); b.must(os.RemoveAll(b.path("jail/etc/" + p))) }

func (b *box) populate() *Population {
	b.Helper()
	p, err := b.o.Populate(context.Background(), "dir", "")
	b.must(err)
	return p
}

func (b *box) save() *Result {
	b.Helper()
	r, err := b.o.Save(context.Background(), SaveOptions{})
	b.must(err)
	b.settled()
	return r
}

// settled checks that the manifest describes the plain tree: the next opening has nothing to mend or adopt.
func (b *box) settled() {
	b.Helper()
	v, err := b.overlay().Look(context.Background(), LookOptions{})
	b.must(err)
	if len(v.Adopted) > 0 || len(v.Notices) > 0 {
		b.Errorf("after a save: adopted %q, notices %q", v.Adopted, v.Notices)
	}
}

// restart stops and starts the jail: live is then the saved tree.
func (b *box) restart() {
	b.Helper()
	b.must(b.o.Clear(context.Background()))
	b.o = b.overlay()
	b.populate()
}

func (b *box) look() *View {
	b.Helper()
	v, err := b.o.Look(context.Background(), LookOptions{})
	b.must(err)
	return v
}

func (b *files) read(p string) string {
	b.Helper()
	c, err := os.ReadFile(b.path(p))
	if errors.Is(err, fs.ErrNotExist) {
		return "(absent)"
	}
	b.must(err)
	return string(c)
}

// shape lists all of a tree that a restart must keep, in words.
func (b *files) shape(p string) map[string]string {
	b.Helper()
	out := map[string]string{}
	root := b.path(p)
	b.must(filepath.WalkDir(root, func(full string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, full)
		var st unix.Stat_t
		if err := unix.Lstat(full, &st); err != nil {
			return err
		}
		s := dirfdStat(st)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			c, _ := os.ReadFile(full)
			s += fmt.Sprintf(" %q", c)
		case unix.S_IFLNK:
			l, _ := os.Readlink(full)
			s += " -> " + l
		}
		out[rel] = s
		return nil
	}))
	return out
}

func dirfdStat(st unix.Stat_t) string {
	mode := fmt.Sprintf("%o", st.Mode)
	mtime := time.Unix(st.Mtim.Unix()).UTC().Format(time.RFC3339Nano)
	return fmt.Sprintf("%s %d:%d %s", mode, st.Uid, st.Gid, mtime)
}

func (b *files) same(want, got map[string]string) {
	b.Helper()
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if got[p] != want[p] {
			b.Errorf("%q: %s, want %s", p, got[p], want[p])
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			b.Errorf("%q: there, and should not be: %s", p, got[p])
		}
	}
}

func paths(changes []tree.Change) string {
	var s []string
	for _, c := range changes {
		s = append(s, c.Kind.Letter()+" "+c.Path)
	}
	return strings.Join(s, ", ")
}

var etc = map[string]string{
	"rc.conf": "hostname=\"proto\"\n", "issue": "welcome\n", "hosts": "127.0.0.1 localhost\n",
	"ssh/sshd_config":        "Port 22\n",
	"local/nginx/nginx.conf": "worker_processes 1;\n", "local/nginx/mime.types": "text/html html;\n",
	"periodic/daily/100.clean": "#!/bin/sh\n",
}

var _ = dirfd.KindFile
