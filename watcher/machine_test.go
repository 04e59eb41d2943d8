package watcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"cfgd/config"
	"cfgd/overlay"
	"cfgd/watcher/control"
)

// machine is a few jails on one base in a directory, and a daemon for them.
type machine struct {
	testing.TB
	dir   string
	model *config.Model
	d     *Daemon
	log   safeBuffer
	scans chan control.Status
	last  map[string]control.Status // what was received from scans
	slow  time.Duration             // added to patience
}

type safeBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.b.String(), text)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// patience ends a test that waits in vain.
const patience = 30 * time.Second

var etc = map[string]string{
	"rc.conf":         "hostname=proto\n",
	"hosts":           "127.0.0.1 localhost\n",
	"motd.template":   "hello\n",
	"ssh/sshd_config": "Port 22\n",
	"ssh/moduli":      "1\n",
}

// newMachine has populated jails j0, j1, … with quick settings.
func newMachine(t testing.TB, jails int) *machine {
	dir := t.TempDir()
	m := &machine{
		TB:    t,
		dir:   dir,
		scans: make(chan control.Status, 1<<16),
		last:  map[string]control.Status{},
		model: &config.Model{Root: dir},
	}
	for p, text := range etc {
		m.write("base/"+p, text)
	}
	for i := range jails {
		m.model.Targets = append(m.model.Targets, m.target(fmt.Sprintf("j%d", i)))
	}
	for _, tg := range m.model.Targets {
		m.populate(tg)
	}
	m.d = &Daemon{Load: func() (*config.Model, error) { return m.model, nil }, Log: zerolog.New(&m.log),
		onScan: func(s control.Status) { m.scans <- s }}
	return m
}

func (m *machine) target(name string) *config.Target {
	tg := &config.Target{
		Name:   name,
		Root:   "/" + name,
		Base:   "/base",
		BaseID: "proto/etc@1",
		Cfg:    "/" + name + "/cfg",
		Live:   "/" + name + "/etc",
	}
	tg.Settings = config.Settings{Settle: 20 * ms, MaxWait: 500 * ms, Rescan: time.Minute, Rehash: time.Hour,
		Memory:  config.BackingDir,
		MaxFile: 1 << 20, KeepGenerations: 100, KeepBytes: 64 << 20, Watch: config.WatchAuto}
	tg.Classes = builtIn(m)
	for _, d := range []string{"etc", "cfg"} {
		m.must(os.MkdirAll(m.path(name+"/"+d), 0o755))
	}
	return tg
}

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *machine) path(p string) string { return filepath.Join(m.dir, p) }

func (m *machine) write(p, text string) {
	m.Helper()
	m.must(os.MkdirAll(filepath.Dir(m.path(p)), 0o755))
	m.must(os.WriteFile(m.path(p), []byte(text), 0o644))
}

// replace writes a file whole: whoever looks sees the old text or the new one, and never an empty file.
func (m *machine) replace(p, text string) {
	m.Helper()
	m.write("replace", text)
	m.must(os.Rename(m.path("replace"), m.path(p)))
}

func (m *machine) read(p string) string {
	b, err := os.ReadFile(m.path(p))
	if errors.Is(err, fs.ErrNotExist) {
		return "(absent)"
	}
	m.must(err)
	return string(b)
}

func (m *machine) populate(tg *config.Target) {
	m.Helper()
	_, err := overlay.New(m.model, tg).Populate(context.Background(), "dir", "")
	m.must(err)
}

// run runs the daemon until stop, which the end of the test does too, and returns when every target was
// scanned.
func (m *machine) run() (stop func() error) {
	m.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	m.d.Ready = ready
	go func() { ended <- m.d.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	m.Cleanup(func() { _ = stop() })
	select {
	case <-ready:
	case err := <-ended:
		m.Fatal(err)
	case <-time.After(patience):
		m.Fatal("the daemon is not ready")
	}
	return stop
}

// await returns the first status of a target, of this scan or a later one, that is as wanted.
func (m *machine) await(name, what string, ok func(control.Status) bool) control.Status {
	m.Helper()
	if s, known := m.last[name]; known && ok(s) {
		return s
	}
	timeout := time.After(patience + m.slow)
	for {
		select {
		case s := <-m.scans:
			m.last[s.Name] = s
			if s.Name == name && ok(s) {
				return s
			}
		case <-timeout:
			m.Fatalf("%s: never %s; last %+v\n%s", name, what, m.last[name], m.log.String())
		}
	}
}

// saved awaits that a target has saved this many local changes, and all of them.
func (m *machine) saved(name string, local int) control.Status {
	m.Helper()
	return m.await(name, fmt.Sprintf("saved with %d local changes", local), func(s control.Status) bool {
		return s.Local == local && s.Unsaved == 0 && s.Problem == ""
	})
}

func (m *machine) client() *control.Client { return control.NewClient(m.path("var/run/cfgd")) }

// builtIn are the classes of a machine without a configuration.
func builtIn(m *machine) *config.Classes {
	loaded, err := config.Load(config.Options{Root: m.dir, Euid: -1})
	m.must(err)
	return loaded.Classes
}
