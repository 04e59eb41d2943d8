package nano

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Trial is a system that is tried: unless somebody confirms it in time, or its health command says that it is well, the machine goes back to the other slice and
// restarts. It stands in cfg, which both systems share.
type Trial struct {
	Slice  int           `json:"slice"`
	From   int           `json:"from"` // the slice to go back to
	Within time.Duration `json:"within"`
}

// Trials keep trials. The loader's own way to boot once, where there is one, is beside this: it goes back at the next restart, and this restarts.
type Trials struct {
	Machine *Machine
	// Read and Write keep the note; Read's error is fs.ErrNotExist where there is none, and Write takes it away for nil.
	Read  func(context.Context) ([]byte, error)
	Write func(context.Context, []byte) error
	// Health says whether the system is well; nil where nobody said how to tell, and then only a confirmation counts.
	Health func(context.Context) error
	// Restart restarts the machine.
	Restart func(context.Context) error
	// Since is when the time of a trial began to run; when Run is called, if it is zero.
	Since time.Time
}

// Begin notes that a slice, from its start on, is on trial.
func (t *Trials) Begin(ctx context.Context, x Trial) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return t.Write(ctx, append(b, '\n'))
}

// Now is the trial of the running system, nil where it is on none. A note of the other slice is of one that was left again.
func (t *Trials) Now(ctx context.Context) (*Trial, error) {
	x, err := t.note(ctx)
	if err != nil || x == nil || x.Slice != t.Machine.Running {
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

// End takes the note away.
func (t *Trials) End(ctx context.Context) error { return t.Write(ctx, nil) }

// drop takes it away where it is.
func (t *Trials) drop(ctx context.Context) error {
	if _, err := t.Read(ctx); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return t.End(ctx)
}

// Outcome says what became of a trial.
type Outcome string

// The outcomes: it was on none, or it ended before time; its health command passed; or the machine goes back.
const (
	Untried   Outcome = ""
	Confirmed Outcome = "confirmed"
	GoesBack  Outcome = "goes back"
)

// Run waits for the end of the running system's trial and settles it under the lock of the disk. The order of
// going back: the other slice boots next; the note is removed; the machine restarts. If it is interrupted
// before the note is removed, the next start either runs the other slice, which is not on trial, or tries
// again. An error with Untried means that nothing was settled: Run may be called again.
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
	if now, err := t.Now(ctx); err != nil || now == nil { // somebody confirmed it, or installed anew
		return Untried, err
	}
	if t.Health != nil { // without the lock: it may take long, and somebody may confirm meanwhile
		well = t.Health(ctx) == nil
	}
	unlock, err := t.Machine.wait(ctx)
	if err == nil {
		defer unlock()
	}
	if ctx.Err() != nil { // which ended Health too
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
		if err := t.Machine.Activate(ctx, Activation{Slice: now.Slice}); err != nil {
			return Untried, err
		}
		return Confirmed, t.End(ctx)
	}
	if err := t.Machine.Activate(ctx, Activation{Slice: now.From}); err != nil {
		return Untried, err
	}
	if err := t.End(ctx); err != nil {
		return GoesBack, err
	}
	return GoesBack, t.Restart(ctx)
}
