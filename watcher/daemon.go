package watcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/overlay"
)

// lastSave bounds the saves at the end, so that the daemon ends within five seconds of SIGTERM.
const lastSave = 4 * time.Second

// ErrRunning says that another daemon serves this machine.
var ErrRunning = errors.New("another daemon is running")

// Daemon is the autosave daemon of one machine.
type Daemon struct {
	// Load reads the configuration; it is called at start and at every reload.
	Load func() (*config.Model, error)
	Log  zerolog.Logger
	// Reload and Info are SIGHUP and SIGINFO (SIGUSR1 on Linux).
	Reload, Info <-chan os.Signal
	// MountCfg gives the way to a target's cfg that is mounted on demand; nil where it is always there.
	MountCfg func(*config.Model, *config.Target) func(context.Context) (func() error, error)
	// Ready is closed, if not nil, when the control socket answers and every target was looked at.
	Ready chan<- struct{}

	bases  *overlay.Bases
	budget *budget

	mu      sync.Mutex // guards model and running
	model   *config.Model
	running map[string]*runningTarget
}

type runningTarget struct {
	*target
	cancel context.CancelFunc
	ended  chan struct{}
}

// Run serves until ctx ends. Then every target is saved once more.
func (d *Daemon) Run(ctx context.Context) error {
	m, err := d.Load()
	if err != nil {
		return err
	}
	runDir := m.Path("/var/run/cfgd")
	unlock, err := onlyOne(runDir)
	if err != nil {
		return err
	}
	defer unlock()
	l, err := listen(runDir)
	if err != nil {
		return err
	}
	d.bases, d.budget, d.running = overlay.NewBases(), newBudget(), map[string]*runningTarget{}
	served := make(chan error, 1)
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	d.apply(inner, m)
	go func() { served <- d.serve(inner, l) }()
	if d.Ready != nil {
		_ = d.statuses(ctx, false, nil)
		close(d.Ready)
	}
	err = d.wait(ctx, inner, served)
	d.stopAll()
	cancel()
	if err == nil {
		err = <-served
	}
	_ = os.Remove(filepath.Join(runDir, SocketPath)) // a client then hears "no daemon" and not "refused"
	return err
}

// wait handles signals until the end.
func (d *Daemon) wait(ctx, inner context.Context, served <-chan error) error {
	for {
		select {
		case <-ctx.Done():
			d.Log.Info().Msg("ending: last saves")
			return nil
		case err := <-served:
			return fmt.Errorf("control socket: %w", err)
		case <-d.Reload:
			d.reload(inner)
		case <-d.Info:
			d.info()
		}
	}
}

// onlyOne holds the daemon's own lock for as long as the process lives.
func onlyOne(runDir string) (func(), error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(runDir, "daemon.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s is locked", ErrRunning, f.Name())
	}
	return func() { f.Close() }, nil
}

// reload reads the configuration anew. A bad one is refused and the old one stays.
func (d *Daemon) reload(ctx context.Context) {
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
	for name, r := range d.running {
		if t := m.Target(name); t == nil || !sameTarget(t, r.cfg) {
			r.stop()
			delete(d.running, name)
		}
	}
	d.model = m
	for _, t := range m.Targets {
		if d.running[t.Name] == nil {
			d.running[t.Name] = d.start(ctx, m, t)
		}
	}
}

// sameTarget reports whether nothing changed that a running target goes by.
func sameTarget(a, b *config.Target) bool {
	return a.Root == b.Root && a.Base == b.Base && a.BaseID == b.BaseID && a.Cfg == b.Cfg && a.Live == b.Live &&
		a.CfgNoauto == b.CfgNoauto && a.Settings == b.Settings && a.Classes.Equal(b.Classes)
}

func (d *Daemon) start(ctx context.Context, m *config.Model, t *config.Target) *runningTarget {
	o := overlay.New(m, t)
	o.Bases = d.bases
	if d.MountCfg != nil {
		o.MountCfg = d.MountCfg(m, t)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &runningTarget{newTarget(o, d.Log, d.budget, d.count), cancel, make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.Run(ctx, lastSave)
	}()
	return r
}

func (r *runningTarget) stop() {
	r.cancel()
	<-r.ended
}

func (d *Daemon) stopAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.running {
		r.cancel()
	}
	for _, r := range d.running {
		<-r.ended
	}
	d.running = map[string]*runningTarget{}
}

func (d *Daemon) target(name string) *target {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.running[name]; r != nil {
		return r.target
	}
	return nil
}

// count is how many targets there are. Targets ask it from their own goroutines, also while apply waits for one of them.
func (d *Daemon) count() int {
	if !d.mu.TryLock() {
		return 1
	}
	defer d.mu.Unlock()
	return max(len(d.running), 1)
}

// statuses lists the targets in the model's order; with look each is looked at first, side by side.
func (d *Daemon) statuses(ctx context.Context, look bool, names []string) []Status {
	d.mu.Lock()
	var list []*target
	for _, t := range d.model.Targets {
		if r := d.running[t.Name]; r != nil && (len(names) == 0 || slices.Contains(names, t.Name)) {
			list = append(list, r.target)
		}
	}
	d.mu.Unlock()
	out := make([]Status, len(list))
	var wg sync.WaitGroup
	for i, t := range list {
		wg.Go(func() {
			if err := t.call(ctx, func(ctx context.Context) {
				if look && t.detached.IsZero() {
					t.all = true
					t.look(ctx, false)
				}
			}); err != nil {
				s := t.Status()
				s.Problem = "busy: " + err.Error()
				out[i] = s
				return
			}
			out[i] = t.Status()
		})
	}
	wg.Wait()
	return out
}

// info writes every target's state to the log.
func (d *Daemon) info() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.model.Targets {
		if r := d.running[t.Name]; r != nil {
			s := r.Status()
			d.Log.Info().Str("target", s.Name).Str("base", s.Base).Int("generation", s.Generation).Int("local", s.Local).
				Int("unsaved", s.Unsaved).Str("watch", s.Watch).Str("problem", s.Problem).Msg("status")
		}
	}
}
