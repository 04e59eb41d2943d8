package nano

import (
	"context"
	"fmt"
	"time"

	"cfgd/config"
	"cfgd/internal/run"
)

// TrialsOf returns the trials of a host. read and write keep the note in the host's cfg. The health command
// of the host's configuration decides, if there is one. With --root a trial restarts nothing.
func (d *Disk) TrialsOf(
	host *config.Target, read func(context.Context) ([]byte, error),
	write func(context.Context, []byte) error,
) *Trials {
	t := &Trials{Disk: d, Read: read, Write: write, Restart: func(ctx context.Context) error {
		if !d.Command {
			return nil
		}
		_, err := d.Run.Run(ctx,
			run.Command("shutdown", "-r", "now", "cfgd: the image on trial was not confirmed"))
		return err
	}}
	if host.Health != "" {
		t.Health = func(ctx context.Context) error {
			_, err := d.Run.Run(ctx, run.Command("sh", "-c", host.Health))
			return err
		}
	}
	return t
}

// OnTrial returns the index of the slice of the running system if it is on trial, by its loader or by cfgd;
// else 0. trials is nil if the host is no target.
func OnTrial(ctx context.Context, all []Slice, trials *Trials) (int, error) {
	for _, x := range all {
		if x.Trial {
			return x.Index, nil
		}
	}
	if trials == nil {
		return 0, nil
	}
	x, err := trials.Now(ctx)
	if err != nil || x == nil {
		return 0, err
	}
	return x.Slice, nil
}

// Unsettled is what a NanoBSD host's administrator has to settle.
type Unsettled struct {
	Trial  string   // the slice whose system is on trial, or ""
	Failed []string // the slices whose systems did not boot
	Broken *Broken  // nil if nothing is known against what boots next
}

// Broken is a slice that boots next and cannot boot.
type Broken struct {
	Slice  string
	Why    string
	Settle string // the command that settles it
}

// broken returns the slice that boots next and cannot boot, or nil.
func broken(all []Slice, t *Table) *Broken {
	for _, x := range all {
		if !x.Next || x.Image.Trouble == "" {
			continue
		}
		settle := "cfgd nano rollback"
		if t.trying() {
			settle = "cfgd nano confirm"
		}
		return &Broken{x.Name, x.Image.Trouble, settle}
	}
	return nil
}

// Unsettled returns what has to be settled. A disk that can't be read has nothing: Problems reports it.
func (d *Disk) Unsettled(ctx context.Context, trials *Trials) (Unsettled, error) {
	var u Unsettled
	all, t, err := d.Slices(ctx)
	if err == nil {
		u.Broken = broken(all, t)
	}
	for _, x := range all {
		if x.Failed {
			u.Failed = append(u.Failed, x.Name)
		}
	}
	n, err := OnTrial(ctx, all, trials)
	if n != 0 {
		u.Trial = d.Name(n)
	}
	return u, err
}

// SettleTrial waits for the end of the running system's trial and settles it. trials finds the disk, which
// may appear late at boot, as cfg may be mounted late: so both are tried again, at growing intervals,
// until ctx ends. trials returns nil if there is no such disk. told is called with each outcome, and with
// each error that differs from the one before.
func SettleTrial(
	ctx context.Context, trials func(context.Context) (*Trials, error), told func(Outcome, error),
) {
	said, began := "", time.Now()
	retry(ctx, func() bool {
		outcome, err := settleOnce(ctx, trials, began)
		switch {
		case err == nil:
			told(outcome, nil)
		case err.Error() != said:
			said = err.Error()
			told(outcome, err)
		}
		return err == nil || outcome != Untried
	})
}

// settleOnce settles the trial of the running system, if there is one. It began at began.
func settleOnce(
	ctx context.Context, trials func(context.Context) (*Trials, error), began time.Time,
) (Outcome, error) {
	t, err := trials(ctx)
	if err == nil && t == nil {
		return Untried, nil
	}
	if err != nil {
		return Untried, fmt.Errorf("whether the image is on trial is not known: %w", err)
	}
	t.Since = began
	return t.Run(ctx)
}

// The pauses of retry.
const (
	firstPause = time.Second
	mostPause  = 5 * time.Minute
)

// retry calls do until do returns true or ctx ends. The pauses between the calls grow.
func retry(ctx context.Context, do func() (done bool)) {
	for pause := firstPause; !do(); pause = min(2*pause, mostPause) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
