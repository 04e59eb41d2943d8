package nano

import (
	"context"
	"errors"
	"fmt"

	"cfgd/internal/run"
)

// Decision tells which slice boots from now on.
type Decision struct {
	Slice Slice
	// the slice that was to boot next, was not tried, and no longer boots next; "" for none
	Off      string
	Commands []run.Cmd // what was run, or would be
}

// Pick chooses a slice.
type Pick func(all []Slice, t *Table) (*Slice, error)

// ErrUntried is the error of Confirm if there is nothing to confirm yet.
var ErrUntried = errors.New("nothing is on trial")

// Confirm picks the running slice. If another one was chosen to boot next, and was not booted yet, it returns
// ErrUntried: whoever confirms too early must not call off what was installed.
func Confirm(all []Slice, t *Table) (*Slice, error) {
	if next := t.Next(); next != 0 && next != t.disk.Running && !t.trying() {
		return nil, fmt.Errorf("%w, and nothing was changed: %s boots next, and was not tried yet: restart, "+
			"and confirm it when it runs; cfgd nano rollback keeps %s", ErrUntried, t.NextName(),
			t.disk.Name(t.disk.Running))
	}
	return running(all), nil
}

// running returns the slice that runs.
func running(all []Slice) *Slice {
	for i := range all {
		if all[i].Running {
			return &all[i]
		}
	}
	return nil
}

// Rollback picks the running slice if another one was chosen to boot next. Otherwise, and if the running
// slice is on trial, it picks the other one.
func Rollback(all []Slice, t *Table) (*Slice, error) {
	if t.Next() == t.disk.Running || t.trying() {
		return Other(all), nil
	}
	return running(all), nil
}

// Named picks a slice by its name or number.
func Named(name string) Pick {
	return func(all []Slice, _ *Table) (*Slice, error) {
		for i := range all {
			if all[i].called(name) {
				return &all[i], nil
			}
		}
		return nil, fmt.Errorf("that %w: %s and %s are", ErrNoSlice, all[0].Name, all[1].Name)
	}
}

// ErrNoSlice is the error for a slice that is not one of the two for systems.
var ErrNoSlice = errors.New("is no slice for a system")

// Plan tells what Decide would do.
func (d *Disk) Plan(ctx context.Context, pick Pick) (*Decision, error) {
	all, t, err := d.Slices(ctx)
	if err != nil {
		return nil, err
	}
	x, err := pick(all, t)
	if err == nil {
		err = bootable(x)
	}
	if err != nil {
		return nil, err
	}
	decision := &Decision{Slice: *x}
	if next := t.Next(); next != 0 && next != x.Index && next != d.Running && !t.trying() {
		decision.Off = d.Name(next)
	}
	decision.Commands, err = t.Commands(Activation{Slice: x.Index})
	return decision, err
}

// Decide makes a slice boot from now on. It ends a trial, because somebody has decided.
func (d *Disk) Decide(ctx context.Context, pick Pick, trials *Trials) (*Decision, error) {
	unlock, err := d.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	x, err := d.Plan(ctx, pick)
	if err != nil {
		return nil, err
	}
	if err := d.Activate(ctx, Activation{Slice: x.Slice.Index}); err != nil {
		return nil, err
	}
	if trials == nil {
		return x, nil
	}
	if err := trials.drop(ctx); err != nil {
		return x, fmt.Errorf("%s boots next, but the note of a trial in cfg is still there: %w", x.Slice.Name,
			err)
	}
	return x, nil
}
