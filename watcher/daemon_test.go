package watcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/overlay"
	"cfgd/overlay/store"
	"cfgd/watcher/control"
)

func TestEditsAreSaved(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 2)
	stop := m.run()
	m.write("j0/etc/rc.conf", "hostname=j0\n")
	m.write("j0/etc/new", "1\n")
	s := m.saved("j0", 2)
	if s.Watch != events || !s.Watched || !s.Populated || s.Generation != 1 || s.SavedAsOf == nil {
		t.Errorf("status %+v", s)
	}
	m.must(os.Remove(m.path("j0/etc/new")))
	m.write("j0/etc/rc.conf", etc["rc.conf"])
	m.saved("j0", 0)
	if got := m.read("j0/cfg/new") + m.read("j0/cfg/rc.conf"); got != "(absent)(absent)" {
		t.Errorf("cfg: %s", got)
	}
	m.write("j1/etc/rc.conf", "at the end\n") // not settled when the daemon ends
	m.must(stop())
	if got := m.read("j1/cfg/rc.conf"); got != "at the end\n" {
		t.Errorf("after the end: %q", got)
	}
}

// No file is missed in directories that are filled at once, moved, or made again, long before the next
// scan.
func TestNewDirectoriesAreFollowed(t *testing.T) {
	t.Parallel()
	followed(t, newMachine(t, 1))
}

func followed(t *testing.T, m *machine) {
	m.run()
	files := map[string]string{}
	put := func(p string) {
		files[p] = p
		m.write("j0/etc/"+p, p)
	}
	for i := range 450 {
		put(fmt.Sprintf("new%d/sub%d/f%d", i%9, i%50, i))
	}
	m.saved("j0", len(files))
	m.must(os.Rename(m.path("j0/etc/new0"), m.path("j0/etc/moved")))
	for p := range files {
		if rest, ok := strings.CutPrefix(p, "new0/"); ok {
			files["moved/"+rest] = p
			delete(files, p)
		}
	}
	put("new0/sub0/again") // a directory of the old name, and of the old name below it
	put("moved/sub0/more")
	m.saved("j0", len(files))
	put("moved/sub0/later")
	put("new0/sub0/later")
	m.saved("j0", len(files))
	m.must(os.RemoveAll(m.path("j0/etc/new1")))
	for p := range files {
		if strings.HasPrefix(p, "new1/") {
			delete(files, p)
		}
	}
	put("new1/f")
	m.saved("j0", len(files))
	put("new1/g")
	m.saved("j0", len(files))
	for p, text := range files {
		if got := m.read("j0/cfg/" + p); got != text {
			t.Errorf("%s: %q", p, got)
		}
	}
}

// All of more files than any queue of events holds are saved, and memory is bounded.
func TestManyFilesAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 30,000 files")
	}
	t.Parallel()
	crowd(t, newMachine(t, 1), 30000)
}

func crowd(t *testing.T, m *machine, many int) {
	m.run()
	began := time.Now()
	for i := range many {
		if i%1000 == 0 {
			m.must(os.MkdirAll(m.path(fmt.Sprintf("j0/etc/many%d", i/1000)), 0o755))
		}
		m.must(os.WriteFile(m.path(fmt.Sprintf("j0/etc/many%d/f%d", i/1000, i)), []byte("x"), 0o644))
	}
	made := time.Since(began)
	m.slow = 30 * made // a machine that makes them slowly (an emulated one) saves them slowly
	m.saved("j0", many)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	t.Logf("made in %v, saved %v later, %d MiB from the system", made, time.Since(began)-made, mem.Sys>>20)
	if mem.Sys > 1<<30 {
		t.Errorf("%d MiB of memory", mem.Sys>>20)
	}
}

// below lists the descriptors of this process that are open below a path.
func below(t testing.TB, path string) (open []string) {
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(fds) == 0 {
		t.Skip("no /proc here")
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, path) {
			open = append(open, to)
		}
	}
	return open
}

func TestDetachLetsGo(t *testing.T) {
	t.Parallel()
	letsGo(t, newMachine(t, 1))
}

func letsGo(t *testing.T, m *machine) {
	m.run()
	ctx, c := context.Background(), m.client()
	m.replace("j0/etc/rc.conf", "1\n")
	m.saved("j0", 1)
	m.must(c.Detach(ctx, "j0"))
	gone := func(when string) {
		if open := below(t, m.path("j0/")); len(open) > 0 {
			t.Errorf("%s: open: %q", when, open)
		}
		if src := m.d.target("j0").src; src != nil {
			t.Errorf("%s: watched", when)
		}
	}
	gone("after detach")
	m.replace("j0/etc/rc.conf", "2\n")
	if _, err := c.Flush(ctx, control.Request{Target: "j0"}); !errors.Is(err, overlay.ErrNotPopulated) {
		t.Errorf("flush of a detached target: %v", err)
	}
	list, err := c.Status(ctx, true, "j0")
	if err != nil || len(list) != 1 || list[0].Watched || !list[0].Down || list[0].Problem != "detached" {
		t.Errorf("status %+v, %v", list, err)
	}
	gone("after status and flush")
	if got := m.read("j0/cfg/rc.conf"); got != "1\n" {
		t.Errorf("saved while detached: %q", got)
	}
	m.must(c.Attach(ctx, "j0"))
	m.await("j0", "saved", func(s control.Status) bool { return s.Generation == 2 })
	m.replace("j0/etc/rc.conf", "3\n")
	m.await("j0", "watched again", func(s control.Status) bool {
		return s.Generation == 3 && s.Watch == events
	})
}

func TestFlush(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 1)
	for _, tg := range m.model.Targets {
		tg.Settle, tg.MaxWait = time.Hour, 2*time.Hour
	}
	m.run()
	ctx, c := context.Background(), m.client()
	m.write("j0/etc/rc.conf", "1\n")
	m.write("j0/etc/ssh/sshd_config", "Port 23\n")
	r, err := c.Flush(ctx, control.Request{Target: "j0", Paths: []string{"ssh"}, Message: "port"})
	if err != nil || r.Generation != 1 || fmt.Sprint(r.Saved) != "[M ssh/sshd_config]" {
		t.Errorf("flush of ssh: %+v, %v", r, err)
	}
	if list, err := c.Status(ctx, true); err != nil || list[0].Unsaved != 1 {
		t.Errorf("status %+v, %v", list, err)
	}
	for p := range etc {
		m.must(os.Remove(m.path("j0/etc/" + p)))
	}
	if _, err := c.Flush(ctx, control.Request{Target: "j0"}); !errors.Is(err, store.ErrHeld) {
		t.Errorf("everything deleted: %v", err)
	}
	if list, err := c.Status(ctx, false); err != nil || !list[0].Held || !list[0].Watched {
		t.Errorf("status %+v, %v", list, err)
	}
	if r, err := c.Flush(ctx, control.Request{Target: "j0", Force: true}); err != nil ||
		len(r.Saved) != len(etc) {
		t.Errorf("forced: %+v, %v", r, err)
	}
	if m.log.count("held") != 1 {
		t.Errorf("log:\n%s", m.log.String())
	}
}

func TestALockThatOutlivesItsDaemonIsWaitedFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		killed, err := onlyOne(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(lockGrace/2, killed)
		unlock, err := onlyOne(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		if _, err := onlyOne(t.Context(), dir); !errors.Is(err, ErrRunning) {
			t.Errorf("held for good: %v", err)
		}
	})
}

func TestTwoDaemonsAreRefused(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 1)
	stop := m.run()
	second := &Daemon{Load: m.d.Load}
	if err := second.Run(context.Background()); !errors.Is(err, ErrRunning) {
		t.Errorf("second daemon: %v", err)
	}
	if _, err := m.client().Status(context.Background(), false); err != nil {
		t.Errorf("the first after that: %v", err)
	}
	m.must(stop())
	if _, err := m.client().Status(context.Background(), false); !errors.Is(err, control.ErrNoDaemon) {
		t.Errorf("after the end: %v", err)
	}
}

func TestSocketIsForItsOwnerAndReplaced(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 1)
	run := m.path("var/run/cfgd")
	m.must(os.MkdirAll(filepath.Join(run, socketTemp, "left"), 0o755)) // of a daemon that was killed
	old, err := net.Listen("unix", filepath.Join(run, control.SocketPath))
	m.must(err)
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	old.Close()
	if _, err := m.client().Status(context.Background(), false); !errors.Is(err, control.ErrNoDaemon) {
		t.Errorf("nobody listens: %v", err)
	}
	m.run()
	st, err := os.Lstat(filepath.Join(run, control.SocketPath))
	if err != nil || st.Mode() != os.ModeSocket|0o600 {
		t.Errorf("socket: %v, %v", st.Mode(), err)
	}
	if _, err := os.Lstat(filepath.Join(run, socketTemp)); !os.IsNotExist(err) {
		t.Errorf("nursery: %v", err)
	}
	if _, err := m.client().Status(context.Background(), false); err != nil {
		t.Error(err)
	}
}

// A reload keeps what did not change running, starts and stops the rest, and refuses what is wrong.
func TestReload(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 3)
	reload := make(chan os.Signal)
	m.d.Reload = reload
	var mu sync.Mutex // guards next and bad: the daemon may still be reading when the second signal was taken
	next, bad := m.model, error(nil)
	m.d.Load = func() (*config.Model, error) {
		mu.Lock()
		defer mu.Unlock()
		return next, bad
	}
	loads := func(model *config.Model, err error) {
		mu.Lock()
		defer mu.Unlock()
		next, bad = model, err
	}
	m.run()
	j0, j1, j2 := m.d.target("j0"), m.d.target("j1"), m.d.target("j2")
	hup := func() { // the second is taken when the first was dealt with
		reload <- os.Interrupt
		reload <- os.Interrupt
	}
	changed := *m.model.Targets[1]
	changed.Settle = time.Minute
	added := m.target("j9")
	m.populate(added)
	same := *m.model.Targets[0]
	second := &config.Model{Root: m.dir, Targets: []*config.Target{&same, &changed, added},
		Problems: []conffile.Problem{{
			Severity: conffile.SeverityError,
			Target:   "j2",
			Message:  "fstab: no such file",
		}}}
	loads(second, nil)
	hup()
	if m.d.target("j0") != j0 || m.d.target("j2") != j2 || m.d.target("j1") == j1 || m.d.target("j9") == nil {
		t.Error("the wrong targets were stopped")
	}
	<-j1.ended
	loads(second, errors.New("cfgd.toml:3: no such key"))
	hup()
	if m.d.target("j9") == nil || m.log.count("no such key") == 0 {
		t.Errorf("bad configuration: log\n%s", m.log.String())
	}
	loads(&config.Model{Root: m.dir, Targets: []*config.Target{added}}, nil)
	m.write("j0/etc/rc.conf", "last\n")
	hup()
	<-j0.ended
	if m.d.target("j0") != nil || m.d.target("j2") != nil || m.read("j0/cfg/rc.conf") != "last\n" {
		t.Error("a target that is gone was not saved and stopped")
	}
	m.write("j9/etc/rc.conf", "1\n")
	m.saved("j9", 1)
}

// An attach reads the configuration again: the jail may be a new one.
func TestAttachOfANewJail(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 1)
	m.run()
	ctx, c := context.Background(), m.client()
	if err := c.Detach(ctx, "j5"); !errors.Is(err, control.ErrUnknownTarget) {
		t.Errorf("unknown: %v", err)
	}
	tg := m.target("j5")
	m.populate(tg)
	next := &config.Model{Root: m.dir, Targets: append(m.model.Targets[:1:1], tg)}
	m.d.reloading.Lock()
	m.d.Load = func() (*config.Model, error) { return next, nil }
	m.d.reloading.Unlock()
	m.must(c.Attach(ctx, "j5"))
	m.write("j5/etc/rc.conf", "1\n")
	m.saved("j5", 1)
}

// If the system allows too few watches, targets are scanned, and status says so.
func TestTooFewWatches(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 2)
	m.d.hook = func(t *target) {
		t.budget.mu.Lock()
		defer t.budget.mu.Unlock()
		t.budget.left = 0
	}
	m.run()
	m.write("j1/etc/rc.conf", "1\n")
	s := m.saved("j1", 1)
	if !strings.HasPrefix(s.Watch, "scan every ") || !s.Watched {
		t.Errorf("status %+v", s)
	}
	if n := m.log.count("scanning instead"); n != 2 {
		t.Errorf("said %d times:\n%s", n, m.log.String())
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 1)
	info := make(chan os.Signal)
	m.d.Info = info
	m.run()
	info <- os.Interrupt
	info <- os.Interrupt
	if m.log.count(`"watch":"`+events+`"`) == 0 {
		t.Errorf("log:\n%s", m.log.String())
	}
}

// A live tree that something else populated is taken over at the first start.
func TestAdoption(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 1)
	m.must(os.RemoveAll(m.path("var/run/cfgd/live")))
	m.run()
	m.write("j0/etc/rc.conf", "1\n")
	m.saved("j0", 1)
	if m.log.count("adopted") != 1 || m.log.count("not populated") != 0 {
		t.Errorf("log:\n%s", m.log.String())
	}
}
