package nano

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"cfgd/internal/flock"
)

// Trial is the note of a system on trial. Unless somebody confirms the system in time, or its health command
// succeeds, the machine goes back to the other slice and restarts. The note is in cfg, which both systems
// share.
type Trial struct {
	Slice  int           `json:"slice"`
	From   int           `json:"from"` // the slice to go back to
	Within time.Duration `json:"within"`
}

// Trials manages trials. It does not depend on a loader that can boot a slice once: such a loader goes back
// at the next restart, and Trials restarts the machine.
type Trials struct {
	Disk *Disk
	// Read and Write keep the note. Read returns fs.ErrNotExist if there is none. Write removes it if it gets
	// nil.
	Read  func(context.Context) ([]byte, error)
	Write func(context.Context, []byte) error
	// Health returns nil if the system works. If Health is nil, only a confirmation counts.
	Health func(context.Context) error
	// Restart restarts the machine.
	Restart func(context.Context) error
	// Since is when the trial began. If it is zero, the trial begins when Run is called.
	Since time.Time
}

// Begin writes the note: the slice is on trial from its first start on.
func (t *Trials) Begin(ctx context.Context, x Trial) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return t.Write(ctx, append(b, '\n'))
}

// Now returns the trial of the running system; nil if it is not on trial. A note for the other slice belongs
// to a trial that has failed.
func (t *Trials) Now(ctx context.Context) (*Trial, error) {
	x, err := t.note(ctx)
	if err != nil || x == nil || x.Slice != t.Disk.Running {
		return nil, err
	}
	return x, nil
}

func (t *Trials) note(ctx context.Context) (*Trial, error) {
	b, err := t.Read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	x := &Trial{}
	if err := json.Unmarshal(b, x); err != nil || x.Within <= 0 || x.Slice == x.From {
		return nil, fmt.Errorf("the note of a trial is none (%v): cfgd nano confirm removes it", err)
	}
	return x, nil
}

// End removes the note.
func (t *Trials) End(ctx context.Context) error { return t.Write(ctx, nil) }

// drop removes the note if there is one.
func (t *Trials) drop(ctx context.Context) error {
	if _, err := t.Read(ctx); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return t.End(ctx)
}

// Outcome is how a trial ended.
type Outcome string

// The outcomes: there was no trial or it ended early; its health command succeeded; the machine goes back.
const (
	Untried   Outcome = ""
	Confirmed Outcome = "confirmed"
	GoesBack  Outcome = "goes back"
)

// goBack makes the slice boot next that the trial came from. If that one cannot boot any more, goBack makes
// the running one boot next: the loader of the disk may be about to leave it.
func (t *Trials) goBack(ctx context.Context, x *Trial) error {
	all, _, err := t.Disk.Slices(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].Index != x.From {
			continue
		}
		if err := bootable(&all[i]); err != nil {
			return errors.Join(fmt.Errorf("the time of the trial is over, and the machine cannot go back: "+
				"%w; %s stays: cfgd nano confirm ends the trial", err, t.Disk.Name(x.Slice)),
				t.Disk.Activate(ctx, Activation{Slice: x.Slice}))
		}
	}
	return t.Disk.Activate(ctx, Activation{Slice: x.From})
}

// Run waits for the end of the running system's trial and settles it, holding the lock of the disk. To go
// back, it makes the other slice boot next, removes the note, and restarts the machine. If it is interrupted
// before the note is removed, the next start either runs the other slice, which is not on trial, or tries
// again. An error with Untried means that nothing was settled, and Run may be called again.
func (t *Trials) Run(ctx context.Context) (Outcome, error) {
	x, err := t.Now(ctx)
	if err != nil || x == nil {
		return Untried, err
	}
	since := t.Since
	if since.IsZero() {
		since = time.Now()
	}
	timer := time.NewTimer(time.Until(since.Add(x.Within)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return Untried, nil
	case <-timer.C:
	}
	well := false
	if now, err := t.Now(ctx); err != nil || now == nil { // somebody confirmed it, or installed another image
		return Untried, err
	}
	if t.Health != nil { // without the lock, because it may take long, and somebody may confirm meanwhile
		well = t.Health(ctx) == nil
	}
	unlock, err := t.Disk.wait(ctx, flock.Forever)
	if err == nil {
		defer unlock()
	}
	if ctx.Err() != nil { // Health ended for that reason too
		return Untried, nil
	}
	if err != nil {
		return Untried, err
	}
	now, err := t.Now(ctx)
	if err != nil || now == nil {
		return Untried, err
	}
	if well {
		if err := t.Disk.Activate(ctx, Activation{Slice: now.Slice}); err != nil {
			return Untried, err
		}
		return Confirmed, t.End(ctx)
	}
	if err := t.goBack(ctx, now); err != nil {
		return Untried, err
	}
	if err := t.End(ctx); err != nil {
		return GoesBack, err
	}
	return GoesBack, t.Restart(ctx)
}
