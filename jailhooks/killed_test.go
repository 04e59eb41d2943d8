package jailhooks

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/machinetest"
	"cfgd/internal/run"
)

var errStep = errors.New("this step fails")

// stopper counts the steps of a hook (commands before and after they had their effect, words to the
// daemon, writes to live and cfg) and stops it at one of them: by an error there, or for good, as SIGKILL
// does.
type stopper struct {
	mu   sync.Mutex
	n    int // steps so far
	at   int
	kill bool
	dead bool
	last string
}

func (s *stopper) step(format string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	if s.n == s.at || s.dead {
		if s.n == s.at {
			s.last = fmt.Sprintf(format, args...)
		}
		s.dead = s.kill
		return errStep
	}
	return nil
}

// watch makes the steps of a machine's hooks known to the stopper. Where the process is dead, a command
// panics: nothing runs any more.
func (s *stopper) watch(m *machine) {
	whole := func(format string, args ...any) error {
		err := s.step(format, args...)
		if err != nil && s.dead {
			panic(s)
		}
		return err
	}
	m.before = func(c run.Cmd) error { return whole("before %s", c) }
	m.after = func(c run.Cmd) error { return whole("after %s", c) }
	m.daemon = func(_ context.Context, what string) error { return whole("%s", what) }
	m.hook = s.op // from several goroutines: none may panic
}

func (s *stopper) op(op dirfd.Op) error { return s.step("%s %s", op.Kind, op.Path) }

func (m *machine) calm() { m.before, m.after, m.daemon, m.hook = nil, nil, nil, nil }

// run runs a hook up to the step, and reports whether there was such a step.
func (s *stopper) run(m *machine, hook func() error) (stopped bool, err error) {
	s.watch(m)
	defer m.calm()
	defer func() {
		if r := recover(); r != nil {
			if r != s {
				panic(r)
			}
			stopped, err = true, errStep
		}
	}()
	err = hook()
	return s.n >= s.at, err
}

func (m *machine) tryInit() error    { _, err := m.hooks().Init(m.Context()); return err }
func (m *machine) tryCleanup() error { _, err := m.hooks().Cleanup(m.Context()); return err }

var edits = map[string]string{"rc.conf": "edited\n", "local/new": "new\n"}

func (m *machine) editAll() {
	for p, content := range edits {
		m.edit(p, content)
	}
}

// eachStep runs a story once for every step at which a hook can stop, by an error and by a kill, on every
// kind of memory.
func eachStep(t *testing.T, story func(m *machine, s *stopper) (stopped bool)) {
	all := append(systems[:len(systems):len(systems)], struct {
		goos    string
		backing config.Backing
	}{"linux", config.BackingDir})
	stride := 1
	_, err := os.Stat(machinetest.Memory)
	switch {
	case testing.Short():
		stride = 5
	case err != nil: // each step waits for a disk several times: the kinds of memory share the steps
		stride = 3
	}
	for i, sys := range all {
		for _, kill := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%s/kill=%v", sys.goos, sys.backing, kill), func(t *testing.T) {
				t.Parallel()
				for at, stopped := 1+i%stride, true; stopped && !t.Failed(); at += stride {
					m := newMachine(t, sys.goos, sys.backing)
					s := &stopper{at: at, kill: kill}
					if stopped = story(m, s); t.Failed() {
						t.Logf("step %d, %s; the log:\n%s", at, s.last, m.said())
						return
					}
					m.must(removeAll(m.dir)) // not thousands of them at the end
				}
			})
		}
	}
}

// unseen takes away the one thing that no hook can know of: an md that mdconfig(8) made without telling
// its name.
func (m *machine) unseen(s *stopper) {
	if s.last == "after mdconfig -a -t swap -s 16384k" {
		delete(m.mds, "md3")
	}
}

// After a start that stops at any step the next start succeeds, and what that made is removed completely.
func TestInitAfterStoppedInit(t *testing.T) {
	eachStep(t, func(m *machine, s *stopper) bool {
		stopped, _ := s.run(m, m.tryInit)
		m.init()
		m.populated(nil)
		m.editAll()
		m.cleanup()
		m.unseen(s)
		m.clean()
		return stopped
	})
}

// A stop cleans up after a start that stops at any step.
func TestCleanupAfterStoppedInit(t *testing.T) {
	eachStep(t, func(m *machine, s *stopper) bool {
		stopped, _ := s.run(m, m.tryInit)
		m.cleanup()
		m.unseen(s)
		m.clean()
		return stopped
	})
}

// A start that fails, and is not killed, leaves nothing behind, and reports why.
func TestFailedInitLeavesNothing(t *testing.T) {
	eachStep(t, func(m *machine, s *stopper) bool {
		s.kill = false
		stopped, err := s.run(m, m.tryInit)
		switch {
		case err == nil:
			m.populated(nil)
		case !errors.Is(err, errStep):
			m.Errorf("the error does not tell why: %v", err)
		case !strings.HasPrefix(s.last, "after "):
			// what had its effect and says that it failed cannot be undone at once
			m.clean()
		}
		return stopped
	})
}

// A stop that stops at any step loses no edit, whichever hook comes next: it is in cfg, or in an archive
// if the save failed.
func TestAfterStoppedCleanup(t *testing.T) {
	next := map[string]func(m *machine){
		"cleanup": func(m *machine) {
			m.cleanup()
			m.clean()
			m.init()
		},
		"init": func(m *machine) { m.init() },
	}
	for name, then := range next {
		t.Run(name, func(t *testing.T) {
			eachStep(t, func(m *machine, s *stopper) bool {
				m.init()
				m.editAll()
				stopped, _ := s.run(m, m.tryCleanup)
				then(m)
				if !maps.Equal(m.rescued(), edits) {
					m.populated(edits)
				}
				m.cleanup()
				m.clean()
				return stopped
			})
		})
	}
}

// The same if cfg was unmounted below a busy tree: a mount of cfg that a killed hook left does not
// prevent anything.
func TestAfterStoppedHostSide(t *testing.T) {
	for _, kind := range cfgKinds {
		t.Run(kind, func(t *testing.T) {
			eachStep(t, func(m *machine, s *stopper) bool {
				m.init()
				m.unmountCfg(kind)
				m.editAll()
				stopped, _ := s.run(m, m.tryCleanup)
				m.cleanup()
				m.clean()
				m.mountCfg()
				m.init()
				if !maps.Equal(m.rescued(), edits) {
					m.populated(edits)
				}
				m.cleanup()
				m.clean()
				return stopped
			})
		})
	}
}

// A start that reads a hidden tree stops at any step: no edit is lost.
func TestAfterStoppedHidden(t *testing.T) {
	eachStep(t, func(m *machine, s *stopper) bool {
		if m.target.Memory != config.BackingMD {
			return false
		}
		m.init()
		m.editAll()
		m.cover()
		stopped, _ := s.run(m, m.tryInit)
		m.init()
		if !maps.Equal(m.rescued(), edits) && m.mds["md3"] == "" {
			m.populated(edits)
		}
		return stopped
	})
}

// A hidden tree is visible again, for a hook that stops at any step: it is archived, and never saved over
// what is newer.
func TestAfterStoppedSeenAgain(t *testing.T) {
	for name, hook := range map[string]func(m *machine) error{
		"cleanup": (*machine).tryCleanup, "init": (*machine).tryInit,
	} {
		t.Run(name, func(t *testing.T) {
			eachStep(t, func(m *machine, s *stopper) bool {
				if m.target.Memory != config.BackingTmpfs {
					return false
				}
				m.init()
				m.editAll()
				m.cover()
				m.init()
				m.edit("rc.conf", "newer\n")
				m.cleanup()
				m.uncover()
				stopped, _ := s.run(m, func() error { return hook(m) })
				for range 3 { // what is over it, it, nothing
					m.cleanup()
				}
				m.clean()
				if m.read("cfg/rc.conf") != "newer\n" || m.read("cfg/local/new") != "(absent)" ||
					!maps.Equal(m.rescued(), edits) {
					m.Errorf("cfg/rc.conf %q, archive %q", m.read("cfg/rc.conf"), m.rescued())
				}
				return stopped
			})
		})
	}
}

// rescued returns the files of the rescue archives.
func (m *machine) rescued() map[string]string {
	m.Helper()
	out := map[string]string{}
	names, err := filepath.Glob(m.path("rescue/*"))
	m.must(err)
	for _, name := range names {
		f, err := os.Open(name)
		m.must(err)
		defer f.Close()
		for r := tar.NewReader(f); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			m.must(err)
			b, err := io.ReadAll(r)
			m.must(err)
			if h.Typeflag == tar.TypeReg {
				out[h.Name] = string(b)
			}
		}
	}
	return out
}
