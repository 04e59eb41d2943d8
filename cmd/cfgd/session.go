package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/mount"
	"cfgd/internal/pathname"
	sysrun "cfgd/internal/run"
	"cfgd/merge"
	"cfgd/merge/check"
	"cfgd/overlay"
	"cfgd/watcher/control"
)

// session is the run of one command line.
type session struct {
	in       io.Reader
	out, err io.Writer
	args     []string // as typed

	root, config string
	json         bool
	level        zerolog.Level
	badArgs      error // the error that arrange found in args

	loaded *config.Model
	bases  *overlay.Bases
}

// patience is how long a command waits for the daemon. It may hang, and a jail must start and stop
// nevertheless.
const patience = 15 * time.Second

// model loads the configuration once.
func (s *session) model() (*config.Model, error) {
	if s.loaded != nil {
		return s.loaded, nil
	}
	m, err := s.load()
	if err == nil {
		s.loaded, s.bases = m, overlay.NewBases()
	}
	return m, err
}

func (s *session) load() (*config.Model, error) {
	return config.Load(config.Options{Root: s.root, File: s.config, Euid: -1})
}

// targets returns the targets with these names, or all targets if there are none. The error has those that a
// problem of the set-up excludes; the others are returned nevertheless if all are meant.
func (s *session) targets(names []string) ([]*config.Target, error) {
	m, err := s.model()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		var excluded []error
		for _, p := range m.Errors() {
			// for other targets only the jail's start is wrong; check reports it
			if m.Target(p.Target) == nil {
				excluded = append(excluded, problemError{p})
			}
		}
		if len(m.Targets) == 0 && len(excluded) == 0 {
			return nil, usagef("no targets on this machine: no /conf/base/etc, and no jail whose fstab " +
				"mounts something on its conf/base/etc; cfgd check shows what was found")
		}
		return m.Targets, errors.Join(excluded...)
	}
	var out []*config.Target
	for _, n := range names {
		t, err := s.target(n)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// target finds one target.
func (s *session) target(name string) (*config.Target, error) {
	m, err := s.model()
	if err != nil {
		return nil, err
	}
	if t := m.Target(name); t != nil {
		return t, nil
	}
	for _, p := range m.Errors() {
		if p.Target == name {
			return nil, problemError{p}
		}
	}
	for _, j := range m.Jails {
		if j.Name == name {
			return nil, usagef("%s is a jail but no target: its fstab mounts nothing on its conf/base/etc",
				name)
		}
	}
	return nil, usagef("no target %q; cfgd check lists them", name)
}

// overlay returns the three trees of a target. It opens nothing yet.
func (s *session) overlay(t *config.Target) *overlay.Overlay {
	o := overlay.New(s.loaded, t)
	o.Bases = s.bases
	o.MountCfg = mountCfg(s.loaded, t)
	o.Tools = s.tools(t, false)
	return o
}

// tools returns the programs that a merge needs. If planned is set, they are only named. With --root none is
// run.
func (s *session) tools(t *config.Target, planned bool) merge.Tools {
	checkers := &check.Checkers{Checkers: t.Checkers, Classes: t.Classes}
	if s.loaded.Root != "" {
		return merge.Tools{Check: checkers.Check}
	}
	checkers.Run = sysrun.System{}
	d := &check.Deriver{
		Run: sysrun.System{}, Dir: s.loaded.Path("/var/run/cfgd/derive/" + t.Name), Dry: planned,
		Has: sysrun.Has,
	}
	return merge.Tools{Check: checkers.Check, Derive: d.Derive}
}

// mountCfg returns the function that mounts a cfg on demand; nil if it is always mounted.
func mountCfg(m *config.Model, t *config.Target) func(context.Context, bool) (func() error, error) {
	if m.Root != "" || !t.CfgNoauto && !t.CfgReadOnly {
		return nil
	}
	c := &mount.OnDemand{Dir: t.Cfg, RunDir: m.RunDir(), Run: sysrun.System{}, Mounted: mount.On}
	if t.CfgReadOnly {
		c.ReadOnly = readOnly
	}
	return c.Mount
}

// readOnly reports whether the filesystem that is mounted on a directory is read-only.
func readOnly(dir string) (bool, error) {
	d, err := dirfd.Open(dir, nil)
	if err != nil {
		return false, err
	}
	defer d.Close()
	space, err := d.Space()
	return space.ReadOnly, err
}

// client returns the client of the machine's daemon.
func (s *session) client() *control.Client {
	return control.NewClient(s.loaded.RunDir())
}

// each runs f for every target at the same time, and prints the errors in the order of the targets. excluded
// is the error for targets that could not be tried.
func (s *session) each(targets []*config.Target, excluded error, f func(t *config.Target) error) error {
	errs := make([]error, len(targets))
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(runtime.NumCPU(), 2))
	for i, t := range targets {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = f(t)
		})
	}
	wg.Wait()
	return s.sum(targets, errs, excluded)
}

// sum prints the errors of the targets, and joins them into one.
func (s *session) sum(targets []*config.Target, errs []error, excluded error) error {
	var first error
	failed, differ := 0, false
	for i, err := range errs {
		if err == nil {
			continue
		}
		if errors.Is(err, errDiffer) {
			differ = true
			continue
		}
		s.complain(targets[i].Name, err)
		failed++
		first = errors.Join(first, err)
	}
	if excluded != nil {
		s.complain("", excluded)
		first = errors.Join(excluded, first)
		failed++
	}
	switch {
	case failed > 0 && failed < len(targets)+one(excluded):
		return errSome
	case failed > 0:
		return printedError{first}
	case differ:
		return errDiffer
	}
	return nil
}

func one(err error) int {
	if err == nil {
		return 0
	}
	return 1
}

// print writes the one JSON object.
func (s *session) print(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s\n", b)
	return err
}

// logger logs to standard error, for people.
func (s *session) logger() zerolog.Logger {
	// errors may contain any name of a file
	text := func(v any) string { return pathname.Plain(fmt.Sprint(v)) }
	w := zerolog.ConsoleWriter{
		Out: s.err, NoColor: true, TimeFormat: time.RFC3339, FormatMessage: text, FormatFieldValue: text,
		FormatErrFieldValue: text,
	}
	return zerolog.New(w).Level(s.level).With().Timestamp().Logger()
}

// rootDir makes --root absolute, because paths in messages and of sockets must not depend on the working
// directory.
func rootDir(root string) (string, error) {
	if root == "" {
		return "", nil
	}
	return filepath.Abs(root)
}
