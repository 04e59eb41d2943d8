package mount

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cfgd/internal/run"
)

// machine is a system with a simulated /cfg. It counts the calls of mount(8) and umount(8).
type machine struct {
	*testing.T
	dir string

	mu     sync.Mutex // guards the rest
	on     int        // how often it is mounted
	rw     bool       // what fstab has read-only is writable
	log    []string
	before func(ctx context.Context, c run.Cmd) error // an error is the command's
	after  func(c run.Cmd) error
}

func newMachine(t *testing.T) *machine {
	m := &machine{T: t, dir: t.TempDir()}
	m.must(os.Mkdir(filepath.Join(m.dir, "cfg"), 0o755))
	return m
}

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

// cfg returns the OnDemand of a new process.
func (m *machine) cfg() *OnDemand {
	return &OnDemand{
		Dir: filepath.Join(m.dir, "cfg"), RunDir: filepath.Join(m.dir, "run"), Run: m, Mounted: m.mounted,
	}
}

func (m *machine) mounted(dir string) ([]Mount, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if dir != filepath.Join(m.dir, "cfg") {
		return nil, nil
	}
	return make([]Mount, m.on), nil
}

// Run simulates the command. It refuses to mount what is mounted, as UFS and ext4 do.
func (m *machine) Run(ctx context.Context, c run.Cmd) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, strings.ReplaceAll(c.String(), m.dir, ""))
	if m.before != nil {
		if err := m.before(ctx, c); err != nil {
			return "", err
		}
	}
	if c.Name == "mount" && len(c.Args) > 1 { // another mode
		m.rw = strings.HasSuffix(c.Args[len(c.Args)-2], "rw")
		return "", nil
	}
	delta := map[string]int{"mount": 1, "umount": -1}[c.Name]
	if on := m.on + delta; on < 0 || on > 1 {
		m.Errorf("%s: it is mounted %d times", c, m.on)
		return "", errors.New("device busy")
	}
	m.on += delta
	if m.after != nil {
		return "", m.after(c)
	}
	return "", nil
}

// use mounts it, which must succeed, and returns the function that undoes that.
func (m *machine) use() (leave func()) {
	m.Helper()
	unmount, err := m.cfg().Mount(m.Context(), false)
	m.must(err)
	if m.on == 0 {
		m.Error("it is used and not mounted")
	}
	return func() {
		m.Helper()
		m.must(unmount())
	}
}

// ran checks which commands ran since the last time, what is mounted and whether a mark is left.
func (m *machine) ran(want string, on int) {
	m.Helper()
	if got := strings.Join(m.log, ", "); got != want {
		m.Errorf("ran %q, want %q", got, want)
	}
	_, err := os.Stat(m.cfg().mark())
	if m.log = nil; m.on != on || err == nil && on == 0 {
		m.Errorf("mounted %d times, want %d; mark: %v", m.on, on, err)
	}
}

func TestMountedWhileUsed(t *testing.T) {
	m := newMachine(t)
	m.ran("", 0)
	for range 2 {
		leave := m.use()
		m.ran("mount /cfg", 1)
		leave()
		m.ran("umount /cfg", 0)
	}
}

// The last user unmounts it, whoever mounted it.
func TestTwoUsers(t *testing.T) {
	for _, firstLeavesFirst := range []bool{true, false} {
		m := newMachine(t)
		first, second := m.use(), m.use()
		m.ran("mount /cfg", 1)
		if !firstLeavesFirst {
			first, second = second, first
		}
		first()
		m.ran("", 1)
		second()
		m.ran("umount /cfg", 0)
	}
}

func TestManyUsers(t *testing.T) {
	m := newMachine(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				unmount, err := m.cfg().Mount(t.Context(), false)
				if err != nil {
					t.Error(err)
					return
				}
				if on, _ := m.mounted(filepath.Join(m.dir, "cfg")); len(on) != 1 {
					t.Error("it is used and not mounted")
				}
				if err := unmount(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	m.log = nil
	m.ran("", 0)
}

func TestSomebodyElses(t *testing.T) {
	m := newMachine(t)
	m.on = 1
	m.use()()
	m.ran("", 1)
	// A path through a link is the same mount.
	m.must(os.Symlink(filepath.Join(m.dir, "cfg"), filepath.Join(m.dir, "link")))
	c := m.cfg()
	c.Dir = filepath.Join(m.dir, "link")
	unmount, err := c.Mount(t.Context(), false)
	m.must(err)
	m.must(unmount())
	m.ran("", 1)
}

// Somebody else unmounted it, and perhaps mounted it again: that mount is left alone.
func TestSomebodyUnmounts(t *testing.T) {
	m := newMachine(t)
	leave := m.use()
	m.on = 0
	leave()
	m.ran("mount /cfg", 0)
	m.on = 1
	m.use()()
	m.ran("", 1)
}

// killed runs a use of it in a process that is killed in the middle of a command, before or after that had
// its effect.
func (m *machine) killed(name string, effect bool) {
	die := func(c run.Cmd) error {
		if c.Name == name {
			panic("killed")
		}
		return nil
	}
	if effect {
		m.after = die
	} else {
		m.before = func(_ context.Context, c run.Cmd) error { return die(c) }
	}
	func() {
		defer func() { _ = recover() }()
		unmount, err := m.cfg().Mount(m.Context(), false)
		m.must(err)
		m.must(unmount())
		m.Error("it was not killed")
	}()
	m.before, m.after, m.log = nil, nil, nil
}

func TestKilled(t *testing.T) {
	for _, c := range []struct {
		command string
		effect  bool
		next    string // what the next use runs
	}{
		{"mount", false, "mount /cfg, umount /cfg"},
		{"mount", true, "umount /cfg"},
		{"umount", false, "umount /cfg"},
		{"umount", true, "mount /cfg, umount /cfg"},
	} {
		m := newMachine(t)
		m.killed(c.command, c.effect)
		m.use()()
		m.ran(c.next, 0)
	}
}

// A process is killed while it uses the mount: its lock is gone, the mark stays.
func TestKilledInUse(t *testing.T) {
	m := newMachine(t)
	lock := m.use() // of a process that goes on
	m.must(os.WriteFile(m.cfg().mark(), nil, 0o600))
	m.ran("mount /cfg", 1)
	lock()
	m.ran("umount /cfg", 0)

	m.on = 1 // of one that is gone, with all its locks
	m.must(os.WriteFile(m.cfg().mark(), nil, 0o600))
	m.use()()
	m.ran("umount /cfg", 0)
}

func TestMountFails(t *testing.T) {
	m := newMachine(t)
	refused := errors.New("unknown special file or file system")
	m.before = func(context.Context, run.Cmd) error { return refused }
	if _, err := m.cfg().Mount(t.Context(), false); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	m.ran("mount /cfg", 0)
	m.before = nil
	m.use()()
	m.ran("mount /cfg, umount /cfg", 0)

	m.must(os.Remove(filepath.Join(m.dir, "cfg")))
	if _, err := m.cfg().Mount(t.Context(), false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no mountpoint: %v", err)
	}
	m.ran("", 0)
}

// A mount that took too long may have succeeded; then it is undone.
func TestMountCutShort(t *testing.T) {
	for _, mounted := range []bool{false, true} {
		m := newMachine(t)
		ctx, cancel := context.WithCancel(t.Context())
		m.before = func(_ context.Context, c run.Cmd) error {
			if c.Name == "mount" && !mounted {
				cancel()
				return context.Canceled
			}
			return nil
		}
		m.after = func(c run.Cmd) error {
			if c.Name == "mount" {
				cancel()
				return context.Canceled
			}
			return nil
		}
		if _, err := m.cfg().Mount(ctx, false); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		m.ran(map[bool]string{false: "mount /cfg", true: "mount /cfg, umount /cfg"}[mounted], 0)
	}
}

// If it is busy it stays mounted, and the next use tries again to unmount it.
func TestBusy(t *testing.T) {
	m := newMachine(t)
	busy := errors.New("device busy")
	m.before = func(_ context.Context, c run.Cmd) error {
		if c.Name == "umount" {
			return busy
		}
		return nil
	}
	unmount, err := m.cfg().Mount(t.Context(), false)
	m.must(err)
	if err := unmount(); !errors.Is(err, busy) {
		t.Errorf("%v", err)
	}
	m.ran("mount /cfg, umount /cfg", 1)
	m.before = nil
	m.use()()
	m.ran("umount /cfg", 0)
}

// A process that can't get the gate stops waiting, and uses nothing.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		leave, err := m.cfg().gate(t.Context())
		m.must(err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := m.cfg().Mount(ctx, false); !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(err.Error(), "another cfgd is at work on the mount of") {
			t.Errorf("%v", err)
		}
		m.ran("", 0)
		leave()
		m.use()()
		m.ran("mount /cfg, umount /cfg", 0)
	})
}

// A /cfg that fstab mounts read-only is writable while something is saved, and read-only again after the last
// save. Reading it changes nothing.
func TestReadOnlyIsWritableWhileSaved(t *testing.T) {
	for _, mounted := range []bool{false, true} {
		m := newMachine(t)
		if mounted {
			m.on = 1
		}
		use := func(write bool) func() error {
			c := m.cfg()
			c.ReadOnly = func(string) (bool, error) { return !m.rw, nil }
			leave, err := c.Mount(t.Context(), write)
			m.must(err)
			return leave
		}
		leave := use(false)
		if m.rw {
			t.Error("a look made it writable")
		}
		first, second := use(true), use(true)
		if !m.rw || strings.Count(strings.Join(m.log, ","), "rw") != 1 {
			t.Errorf("%v, %q", m.rw, m.log)
		}
		m.must(first())
		m.must(second())
		if !m.rw {
			t.Error("read-only while somebody uses it")
		}
		m.must(leave())
		if m.rw || (m.on == 1) != mounted {
			t.Errorf("mounted %d times, writable %v: %q", m.on, m.rw, m.log)
		}
		// If a process was killed meanwhile, the next one makes it read-only.
		_ = use(true)
		m2 := m.cfg()
		if _, err := os.Stat(m2.wmark()); err != nil || !m.rw {
			t.Error(err)
		}
	}
}
