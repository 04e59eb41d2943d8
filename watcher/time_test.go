package watcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay"
	"cfgd/overlay/tree"
	"cfgd/watcher/control"
)

// bubble is a machine in a synctest bubble: sleeping takes no real time. Its targets get only the events
// that a test sends. File times come from the real clock, far in the future of the bubble: no decision
// may depend on them.
type bubble struct {
	*machine
	mu      sync.Mutex // guards sources
	sources map[string]*fakeSource
	ctx     context.Context // of the targets
	stop    context.CancelFunc
	fail    atomic.Pointer[func(name string, op dirfd.Op) error] // before each change of live or cfg
}

// fakeSource reports only what a test sends.
type fakeSource struct {
	*collector
	armed  map[string]bool
	grows  int // for so many times a directory is fresh
	arms   int
	closed bool
}

func (f *fakeSource) arm(live *tree.Tree, _ bool) (fresh []string, err error) {
	if f.arms++; f.grows > 0 {
		f.grows--
		fresh = append(fresh, "")
	}
	for _, d := range live.Dirs() {
		if !f.armed[d] {
			f.armed[d] = true
			fresh = append(fresh, d)
		}
	}
	return fresh, nil
}

func (f *fakeSource) close() error { f.closed = true; return nil }

func inBubble(t *testing.T, jails int, f func(b *bubble)) {
	t.Helper()
	inBubbleAfter(t, jails, func(*bubble) {}, f)
}

// inBubbleAfter does something before the targets run.
func inBubbleAfter(t *testing.T, jails int, before, f func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{machine: newMachine(t, jails), sources: map[string]*fakeSource{}}
		b.d.hook = func(t *target) {
			name := t.cfg.Name
			t.open = func(_ *overlay.Overlay, e *collector) (source, error) {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.sources[name] = &fakeSource{collector: e, armed: map[string]bool{}}
				return b.sources[name], nil
			}
			t.o.Hook = func(op dirfd.Op) error {
				if f := b.fail.Load(); f != nil {
					return (*f)(name, op)
				}
				return nil
			}
		}
		b.ctx, b.stop = context.WithCancel(context.Background())
		defer func() { b.stop(); b.d.all.Wait() }()
		b.d.init()
		for _, tg := range b.model.Targets {
			tg.Settle, tg.MaxWait = 500*ms, 5*sec
		}
		before(b)
		b.apply()
		f(b)
	})
}

// apply starts what is new in the model.
func (b *bubble) apply() {
	b.d.apply(b.ctx, b.model)
	synctest.Wait()
}

// source returns the source of a watched target. The test ends if the target is not watched.
func (b *bubble) source(name string) *fakeSource {
	b.Helper()
	b.mu.Lock()
	f := b.sources[name]
	b.mu.Unlock()
	if f == nil {
		b.Fatalf("%s is not watched: %+v", name, b.status(name))
	}
	return f
}

// savedAsOf returns that of the status. The test ends if there is none.
func (b *bubble) savedAsOf(name string) time.Time {
	b.Helper()
	s := b.status(name)
	if s.SavedAsOf == nil {
		b.Fatalf("%s was never saved whole: %+v", name, s)
	}
	return *s.SavedAsOf
}

// edit writes a file of live, and reports it as an event.
func (b *bubble) edit(name, path, text string) {
	b.Helper()
	b.write(name+"/etc/"+path, text)
	b.source(name).update(func(m *dirtySet, now time.Duration) { m.add(now, path, pathname.Parent(path)) })
}

func (b *bubble) failWith(f func(name string, op dirfd.Op) error) {
	if f == nil {
		b.fail.Store(nil)
		return
	}
	b.fail.Store(&f)
}

func (b *bubble) status(name string) control.Status {
	synctest.Wait()
	return b.d.target(name).Status()
}

// pass lets time pass.
func (b *bubble) pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

func TestAnEditIsSavedAfterSettle(t *testing.T) {
	t.Parallel()
	inBubble(t, 1, func(b *bubble) {
		b.edit("j0", "rc.conf", "1\n")
		b.pass(499 * ms)
		if got := b.read("j0/cfg/rc.conf"); got != "(absent)" {
			t.Errorf("saved before settle")
		}
		b.pass(1 * ms)
		if got := b.read("j0/cfg/rc.conf"); got != "1\n" {
			t.Errorf("after settle: %q", got)
		}
	})
}

// A file that is written to without end is saved every max_wait, and one beside it after settle.
func TestWritesWithoutEnd(t *testing.T) {
	t.Parallel()
	inBubble(t, 1, func(b *bubble) {
		for i := range 160 {
			b.edit("j0", "log", fmt.Sprint(i))
			if i == 20 {
				b.edit("j0", "ssh/sshd_config", "Port 23\n")
			}
			b.pass(100 * ms)
			if i == 26 && b.read("j0/cfg/ssh/sshd_config") != "Port 23\n" {
				t.Error("the quiet one was not saved")
			}
			if i == 26 && b.read("j0/cfg/log") != "(absent)" {
				t.Error("the other was")
			}
		}
		if g := b.status("j0").Generation; g != 4 { // the quiet one, and after 5, 10 and 15 seconds the other
			t.Errorf("generation %d after 16 s", g)
		}
	})
}

// What no event told is found by the next scan; when it is known that events were lost, soon.
func TestLostEvents(t *testing.T) {
	t.Parallel()
	inBubble(t, 1, func(b *bubble) {
		b.pass(2 * time.Minute)
		for i := range 10 {
			b.write(fmt.Sprintf("j0/etc/new/d%d/f", i), "x")
		}
		b.must(os.Remove(b.path("j0/etc/hosts")))
		b.pass(time.Minute + 500*ms)
		if s := b.status("j0"); s.Local != 11 || s.Unsaved != 0 {
			t.Errorf("after a scan: %+v", s)
		}
		b.write("j0/etc/rc.conf", "1\n")
		b.source("j0").lost()
		b.pass(sec)
		if s := b.status("j0"); s.Local != 12 || s.Unsaved != 0 {
			t.Errorf("events lost: %+v", s)
		}
	})
}

// A tree that has new directories at every scan is scanned until it has none, however long that takes.
// Watching begins after the last scan.
func TestATreeThatGrowsIsFollowed(t *testing.T) {
	t.Parallel()
	for _, grows := range []int{0, 1, maxRearms, maxRearms + 1, 5 * maxRearms} {
		inBubble(t, 1, func(b *bubble) {
			f := b.source("j0")
			f.arms, f.grows = 0, grows
			b.edit("j0", "rc.conf", "1\n")
			b.pass(10 * sec)
			if f.grows > 0 || f.arms < grows+1 {
				t.Errorf("%d times: watched %d times, %d are left", grows, f.arms, f.grows)
			}
		})
	}
}

func fails(err error) func(string, dirfd.Op) error {
	return func(string, dirfd.Op) error { return err }
}

// A target that fails is tried again until the cause is fixed, logs that once, and is saved a few seconds
// after the cause is fixed.
func TestFailuresAreSaidOnceAndMended(t *testing.T) {
	t.Parallel()
	move := func(from, to string) func(*bubble) {
		return func(b *bubble) { b.must(os.Rename(b.path(from), b.path(to))) }
	}
	for name, c := range map[string]struct {
		break_, mend func(b *bubble)
		problem      string
		down         bool
	}{
		"base missing": {
			move("base", "away"), move("away", "base"), "no such file or directory (is it mounted?)", false,
		},
		"cfg missing": {
			move("j0/cfg", "away"), move("away", "j0/cfg"), "no such file or directory (is it mounted?)",
			false,
		},
		"cfg read-only": {
			func(b *bubble) { b.failWith(fails(unix.EROFS)) }, func(b *bubble) { b.failWith(nil) },
			"read-only file system", false,
		},
		"cfg full": {
			func(b *bubble) { b.failWith(fails(unix.ENOSPC)) }, func(b *bubble) { b.failWith(nil) },
			"no room", false,
		},
		"live gone": {move("j0/etc", "away"), move("away", "j0/etc"), "not populated", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, 2, func(b *bubble) {
				b.edit("j0", "rc.conf", "1\n")
				c.break_(b)
				b.pass(time.Minute)
				s := b.status("j0")
				if !strings.Contains(s.Problem, c.problem) || s.Down != c.down {
					t.Errorf("problem %q, down %v", s.Problem, s.Down)
				}
				if n := b.log.count(`"target":"j0","message":"`); n != 1 {
					t.Errorf("said %d times:\n%s", n, b.log.String())
				}
				c.mend(b)
				b.pass(lastPause + sec)
				if got := b.read("j0/cfg/rc.conf"); got != "1\n" {
					t.Errorf("after it was mended: %q\n%s", got, b.log.String())
				}
				if s := b.status("j0"); s.Problem != "" || s.Unsaved != 0 || !s.Watched || s.Watch != events {
					t.Errorf("mended: %+v", s)
				}
			})
		})
	}
}

// A target that hangs delays no save of another, no status, and the end of the daemon by 5 s at most.
func TestAStuckTargetHoldsUpNobody(t *testing.T) {
	t.Parallel()
	inBubble(t, 2, func(b *bubble) {
		hang := make(chan struct{})
		b.failWith(func(name string, _ dirfd.Op) error {
			if name == "j0" {
				<-hang
			}
			return nil
		})
		b.edit("j0", "rc.conf", "1\n")
		b.edit("j1", "rc.conf", "1\n")
		b.pass(20 * sec)
		if got := b.read("j1/cfg/rc.conf"); got != "1\n" {
			t.Errorf("the other: %q", got)
		}
		if s := b.status("j0"); !strings.Contains(s.Problem, "at work for 2") {
			t.Errorf("status %+v", s)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), scanWithin)
		defer cancel()
		list := b.d.statuses(ctx, true, nil)
		if took := time.Since(began); took > scanWithin || len(list) != 2 || list[0].Problem == "" ||
			list[1].Problem != "" {
			t.Errorf("after %v: %+v", took, list)
		}
		code, reply := act(ctx, b.d.target("j0"), control.Request{Target: "j0"}, detach)
		if code != 503 || !strings.Contains(reply.Error, "busy") {
			t.Errorf("detach: %d %+v", code, reply)
		}

		changed := *b.model.Targets[0]
		changed.MaxFile++
		next := &config.Model{Root: b.dir, Targets: []*config.Target{&changed, b.model.Targets[1]}}
		old := b.d.target("j0")
		b.d.apply(b.ctx, next) // returns, and starts the new one only when the old one has ended
		if b.status("j0").Problem != "not scanned yet" || b.d.target("j0") == old {
			t.Errorf("after a reload: %+v", b.status("j0"))
		}

		b.write("j1/etc/hosts", "last\n")
		began = time.Now()
		err := b.d.stopAll()
		if took := time.Since(began); took > 5*sec || err == nil || !strings.Contains(err.Error(), "j0") {
			t.Errorf("ended after %v with %v", took, err)
		}
		if got := b.read("j1/cfg/hosts"); got != "last\n" {
			t.Errorf("last save of the other: %q", got)
		}
		close(hang)
		b.d.all.Wait()
	})
}

// A scan waits for another cfgd that holds the target's lock, and status names it.
func TestLockedByAnother(t *testing.T) {
	t.Parallel()
	inBubble(t, 1, func(b *bubble) {
		f, err := os.OpenFile(b.path("var/run/cfgd/lock/j0"), os.O_RDWR, 0)
		b.must(err)
		b.must(unix.Flock(int(f.Fd()), unix.LOCK_EX))
		b.edit("j0", "rc.conf", "1\n")
		b.pass(15 * sec)
		if s := b.status("j0"); !strings.Contains(s.Problem, "another cfgd holds the lock") {
			t.Errorf("status %+v", s)
		}
		f.Close()
		b.pass(sec)
		if got := b.read("j0/cfg/rc.conf"); got != "1\n" {
			t.Errorf("afterwards: %q", got)
		}
	})
}

// An idle target writes and mounts nothing, also if a class excludes changed files.
func TestIdleMeansIdle(t *testing.T) {
	t.Parallel()
	inBubble(t, 1, func(b *bubble) {
		var mounts, writes atomic.Int32
		name := "noauto"
		tg := b.target(name)
		b.populate(tg)
		b.d.MountCfg = func(*config.Model, *config.Target) func(context.Context, bool) (func() error, error) {
			return func(context.Context, bool) (func() error, error) {
				mounts.Add(1)
				return func() error { return nil }, nil
			}
		}
		b.model.Targets = append(b.model.Targets, tg)
		b.apply()
		b.edit(name, "rc.conf", "1\n")
		b.edit(name, "big", strings.Repeat("x", 1<<20+1))
		b.must(unix.Mkfifo(b.path(name+"/etc/fifo"), 0o600))
		b.pass(10 * time.Minute)
		if s := b.status(name); s.Local != 3 || s.Unsaved != 0 || s.NotSaved != 2 || s.SavedAsOf == nil {
			t.Errorf("status %+v", s)
		}
		b.failWith(func(string, dirfd.Op) error { writes.Add(1); return nil })
		mounts.Store(0)
		scans := len(b.scans)
		b.pass(59 * time.Minute) // a full scan each minute, of content once
		if n := len(b.scans) - scans; mounts.Load() != 0 || writes.Load() != 0 || n < 2*58 || n > 2*62 {
			t.Errorf("in an hour: %d mounts, %d writes, %d scans at two targets", mounts.Load(),
				writes.Load(), n)
		}
		if at := b.savedAsOf(name); time.Since(at) > time.Minute {
			t.Errorf("saved as of %v, now %v", at, time.Now())
		}
		b.edit(name, "rc.conf", "2\n")
		b.pass(sec)
		if mounts.Load() == 0 || b.read(name+"/cfg/rc.conf") != "2\n" {
			t.Errorf("an edit after that: %d mounts, %q", mounts.Load(), b.read(name+"/cfg/rc.conf"))
		}
		mounts.Store(0)
		if err := b.d.stopAll(); err != nil || mounts.Load() != 0 {
			t.Errorf("at the end, with nothing to save: %d mounts, %v", mounts.Load(), err)
		}
	})
}

// savedAsOf is when the last full scan began that found everything saved.
func TestSavedAsOf(t *testing.T) {
	t.Parallel()
	inBubble(t, 1, func(b *bubble) {
		b.pass(3 * time.Minute)
		first := b.savedAsOf("j0")
		if age := time.Since(first); age > time.Minute {
			t.Errorf("%v old after three minutes", age)
		}
		b.pass(time.Until(first) + 65*sec) // between two full scans
		first = b.savedAsOf("j0")
		b.edit("j0", "rc.conf", "1\n")
		b.pass(sec)
		if s := b.status("j0"); !b.savedAsOf("j0").Equal(first) || s.Generation != 1 {
			t.Errorf("a scan of a part moved it: %+v", s)
		}
		b.failWith(fails(unix.ENOSPC))
		b.edit("j0", "pwd.db", "derived\n")
		b.pass(3 * time.Minute)
		if s := b.status("j0"); s.Unsaved != 1 || time.Since(b.savedAsOf("j0")) < 2*time.Minute {
			t.Errorf("a derived file is unsaved: %+v", s)
		}
		b.failWith(nil)
		b.pass(2 * time.Minute)
		last := b.savedAsOf("j0")
		b.write("j0/cfg/hosts", "by hand\n")
		b.edit("j0", "hosts", "in live\n")
		b.pass(3 * time.Minute)
		if s := b.status("j0"); s.Conflicts != 1 || s.Unsaved != 1 ||
			b.savedAsOf("j0").Sub(last) > time.Minute+sec {
			t.Errorf("a conflict is unsaved: %+v", s)
		}
	})
}

// After a detach the target is not scanned until an attach, or until the tree has been populated again.
func TestDetachedUntilPopulatedAnew(t *testing.T) {
	t.Parallel()
	inBubble(t, 1, func(b *bubble) {
		ctx := context.Background()
		tg := b.d.target("j0")
		b.must(tg.call(ctx, func(context.Context) { tg.detach() }))
		if !b.source("j0").closed {
			t.Error("still watched")
		}
		scans := len(b.scans)
		b.edit("j0", "rc.conf", "1\n")
		b.pass(10 * time.Minute)
		if len(b.scans) != scans || b.read("j0/cfg/rc.conf") != "(absent)" {
			t.Error("scanned while detached")
		}
		o := overlay.New(b.model, b.model.Targets[0])
		b.must(o.Clear(ctx))
		b.pass(10 * time.Minute)
		if _, err := o.Populate(ctx, "dir", ""); err != nil {
			t.Fatal(err)
		}
		b.pass(probe + sec)
		b.edit("j0", "rc.conf", "2\n")
		b.pass(sec)
		if got := b.read("j0/cfg/rc.conf"); got != "2\n" {
			t.Errorf("populated anew: %q", got)
		}
	})
}

// A target that gets no watches is scanned, logs that once, and tries again later.
func TestWatchesThatCannotBeHad(t *testing.T) {
	t.Parallel()
	inBubble(t, 1, func(b *bubble) {
		var tries atomic.Int32
		tg := b.target("j7")
		b.populate(tg)
		b.model.Targets = []*config.Target{tg}
		hook := b.d.hook
		b.d.hook = func(t *target) {
			hook(t)
			open := t.open
			t.open = func(o *overlay.Overlay, e *collector) (source, error) {
				if tries.Add(1) < 3 {
					return nil, errors.New("no space left on device")
				}
				return open(o, e)
			}
		}
		b.apply()
		b.write("j7/etc/rc.conf", "1\n")
		b.pass(2 * time.Minute)
		if s := b.status("j7"); tries.Load() != 1 || !strings.HasPrefix(s.Watch, "scan every") ||
			b.read("j7/cfg/rc.conf") != "1\n" {
			t.Errorf("%d tries, status %+v", tries.Load(), s)
		}
		b.pass(25 * time.Minute)
		if s := b.status("j7"); tries.Load() != 3 || s.Watch != events ||
			b.log.count("scanning instead") != 1 {
			t.Errorf("%d tries, status %+v\n%s", tries.Load(), s, b.log.String())
		}
	})
}
