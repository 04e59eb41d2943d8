package watcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"cfgd/internal/flock"
	"cfgd/overlay"
	"cfgd/watcher/control"
)

// Run serves until ctx ends. Then it saves every target once more.
func (d *Daemon) Run(ctx context.Context) error {
	m, err := d.Load()
	if err != nil {
		return err
	}
	runDir := m.RunDir()
	unlock, err := onlyOne(ctx, runDir)
	if err != nil {
		return err
	}
	defer unlock()
	l, err := listen(runDir)
	if err != nil {
		return err
	}
	d.init()
	served := make(chan error, 1)
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	d.apply(inner, m)
	go func() { served <- d.serve(inner, l) }()
	if d.Ready != nil {
		go d.ready(inner)
	}
	err = d.wait(ctx, inner, served)
	stopped := d.stopAll()
	cancel()
	if err == nil {
		err = <-served
	}
	// so that a client reports "no daemon" and not "refused"
	_ = os.Remove(filepath.Join(runDir, control.SocketPath))
	return errors.Join(err, stopped)
}

func (d *Daemon) init() {
	d.bases, d.budget = overlay.NewBases(), newBudget()
	d.running, d.ending = map[string]*runningTarget{}, map[string]*target{}
	d.counts = newMetrics(d.Version, func() []control.Status {
		return d.statuses(context.Background(), false, nil)
	})
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

// ready closes Ready when every target was scanned.
func (d *Daemon) ready(ctx context.Context) {
	for _, t := range d.targets(nil) {
		select {
		case <-t.firstScan:
		case <-ctx.Done():
			return
		}
	}
	close(d.Ready)
}

// lockGrace is how long the lock of a killed daemon may outlive it: a command that it was starting holds
// the lock's descriptor until its exec(2).
const lockGrace = 2 * time.Second

// onlyOne takes the daemon's own lock, which is held as long as the process lives.
func onlyOne(ctx context.Context, runDir string) (unlock func(), err error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, err
	}
	unlock, err = flock.Lock(ctx, filepath.Join(runDir, "daemon.lock"), "this machine", lockGrace)
	if errors.Is(err, flock.ErrHeld) {
		return nil, fmt.Errorf("%w: %w", ErrRunning, err)
	}
	return unlock, err
}

// info writes the state of every target to the log.
func (d *Daemon) info() {
	for _, s := range d.statuses(context.Background(), false, nil) {
		e := d.Log.Info().Str("target", s.Name).Str("base", s.Base).Int("generation", s.Generation).
			Int("local", s.Local).
			Int("unsaved", s.Unsaved).Str("watch", s.Watch).Str("problem", s.Problem)
		if s.SavedAsOf != nil {
			e = e.Time("savedAsOf", *s.SavedAsOf)
		}
		e.Msg("status")
	}
}
