package watcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"cfgd/config"
	"cfgd/overlay"
	"cfgd/watcher/control"
)

// The daemon ends within five seconds of SIGTERM. The last saves get less, and the daemon does not wait
// for a target that hangs.
const (
	lastSave  = 4 * time.Second
	endWithin = 4500 * time.Millisecond
)

// ErrRunning reports that another daemon serves this machine.
var ErrRunning = errors.New("another daemon is running")

// Daemon is the autosave daemon of one machine.
type Daemon struct {
	// Load reads the configuration. It is called at start, at every reload and at every attach.
	Load func() (*config.Model, error)
	Log  zerolog.Logger
	// Reload and Info receive SIGHUP and SIGINFO (SIGUSR1 on Linux).
	Reload, Info <-chan os.Signal
	// MountCfg returns a function that mounts a target's cfg on demand. It is nil if every cfg is always
	// mounted.
	MountCfg func(*config.Model, *config.Target) func(context.Context, bool) (func() error, error)
	// ClearStopped clears what is left of a jail that does not run, and returns what it did, "" for nothing.
	// It is nil if nobody does that. It has to make sure that the jail is not being started.
	ClearStopped func(context.Context, *config.Model, *config.Target) (did string, err error)
	// Ready, if not nil, is closed when the control socket answers and every target was scanned.
	Ready chan<- struct{}
	// Version is reported in the metrics.
	Version string

	onScan func(control.Status) // for tests
	hook   func(*target)        // for tests: before a target runs

	bases  *overlay.Bases
	budget *budget
	counts *metrics
	all    sync.WaitGroup // the targets' goroutines

	reloading sync.Mutex // held while a configuration is read and applied

	mu      sync.Mutex // guards the rest; never held while waiting for a target
	model   *config.Model
	running map[string]*runningTarget
	ending  map[string]*target // by name, the target that was stopped last
	stopped bool               // no target is started any more
}

type runningTarget struct {
	*target
	cancel context.CancelFunc
}

// reload reads the configuration again. A faulty one is refused and the old one stays.
func (d *Daemon) reload(ctx context.Context) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	m, err := d.Load()
	if err != nil {
		d.Log.Error().Err(err).Msg("configuration refused; the old one stays")
		return
	}
	d.apply(ctx, m)
	d.Log.Info().Int("targets", len(m.Targets)).Msg("configuration read anew")
}

// apply stops the targets that are gone or changed and starts those that are new or changed.
func (d *Daemon) apply(ctx context.Context, m *config.Model) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped { // an attach may come while the last saves are made
		return
	}
	for name, r := range d.running {
		t := m.Target(name)
		if t == nil {
			t = d.keepFaulty(m, r.cfg)
		}
		if t == nil || !sameTarget(t, r.cfg) {
			r.cancel()
			d.ending[name] = r.target
			delete(d.running, name)
			if t == nil {
				d.counts.forget(name)
			}
		}
	}
	d.model = m
	for _, t := range m.Targets {
		if d.running[t.Name] == nil {
			d.running[t.Name] = d.start(ctx, m, t)
		}
	}
}

// keepFaulty keeps a running target in a model that has an error about it: a typing error about a jail
// does not end its saves.
func (d *Daemon) keepFaulty(m *config.Model, t *config.Target) *config.Target {
	for _, p := range m.Errors() {
		if p.Target == t.Name {
			d.Log.Error().Str("target", t.Name).Msg("configuration refused; the target's old one stays: " +
				p.String())
			m.Targets = append(slices.Clone(m.Targets), t)
			slices.SortStableFunc(m.Targets, func(a, b *config.Target) int {
				return strings.Compare(a.Name, b.Name)
			})
			return t
		}
	}
	return nil
}

// sameTarget reports whether everything is unchanged that a running target depends on.
func sameTarget(a, b *config.Target) bool {
	return a.Root == b.Root && a.Base == b.Base && a.BaseID == b.BaseID && a.Cfg == b.Cfg &&
		a.Live == b.Live &&
		a.CfgMount == b.CfgMount && a.CfgNoauto == b.CfgNoauto && a.CfgReadOnly == b.CfgReadOnly &&
		a.Settings == b.Settings && a.Classes.Equal(b.Classes)
}

// start runs a target, once the previous target of that name has ended: one goroutine owns the trees.
func (d *Daemon) start(ctx context.Context, m *config.Model, t *config.Target) *runningTarget {
	o := overlay.New(m, t)
	o.Bases = d.bases
	if d.MountCfg != nil {
		o.MountCfg = d.MountCfg(m, t)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &runningTarget{newTarget(o, d.Log, d.budget), cancel}
	r.onScan, r.counts, r.left.clear = d.onScan, d.counts, d.stoppedClearer(ctx, m, t)
	if d.hook != nil {
		d.hook(r.target)
	}
	before := d.ending[t.Name]
	delete(d.ending, t.Name)
	d.all.Go(func() {
		if before != nil {
			<-before.ended
		}
		r.Run(ctx, lastSave)
	})
	return r
}

// stopAll makes every target save for the last time, and returns when all have, or when the time for it
// is over.
func (d *Daemon) stopAll() error {
	d.mu.Lock()
	for name, r := range d.running {
		r.cancel()
		d.ending[name] = r.target
	}
	d.running, d.stopped = map[string]*runningTarget{}, true
	d.mu.Unlock()
	ended := make(chan struct{})
	go func() { d.all.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-time.After(endWithin):
		return d.stuck()
	}
}

// stuck returns an error that names the targets that have not ended.
func (d *Daemon) stuck() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name, t := range d.ending {
		select {
		case <-t.ended:
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return fmt.Errorf("ended without the last save of %s, whose filesystem hangs", strings.Join(names, ", "))
}

func (d *Daemon) target(name string) *target {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.running[name]; r != nil {
		return r.target
	}
	return nil
}

// targets returns the targets with these names, all for none, in the model's order.
func (d *Daemon) targets(names []string) []*target {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []*target
	for _, t := range d.model.Targets {
		if r := d.running[t.Name]; r != nil && (len(names) == 0 || slices.Contains(names, t.Name)) {
			list = append(list, r.target)
		}
	}
	return list
}

// statuses returns the status of each target. With scan the targets are scanned first, in parallel, as
// far as they finish before ctx ends.
func (d *Daemon) statuses(ctx context.Context, scan bool, names []string) []control.Status {
	list := d.targets(names)
	out := make([]control.Status, len(list))
	var wg sync.WaitGroup
	for i, t := range list {
		if !scan {
			out[i] = t.Status()
			continue
		}
		wg.Go(func() { out[i] = t.scanNow(ctx) })
	}
	wg.Wait()
	return out
}

// stoppedClearer returns the function that a target calls if it outlived its jail. The target's goroutine
// does not wait for it, because the target has to release the tree meanwhile.
func (d *Daemon) stoppedClearer(ctx context.Context, m *config.Model, t *config.Target) func() {
	if d.ClearStopped == nil || t.Host() || m.Root != "" {
		return nil
	}
	return func() {
		go func() {
			log := d.Log.With().Str("target", t.Name).Logger()
			did, err := d.ClearStopped(ctx, m, t)
			switch {
			case ctx.Err() != nil:
			case err != nil:
				log.Warn().Err(err).Msg("what is left of a jail that does not run")
			case did != "":
				log.Info().Msg("the jail does not run, and cfg was unmounted: " + did)
			}
		}()
	}
}
