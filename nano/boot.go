package nano

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"cfgd/internal/disk"
	"cfgd/internal/run"
)

// Activation describes how a slice is made to boot next.
type Activation struct {
	Slice int
	Once  bool // then the running one boots again, unless the slice is confirmed
}

func (t *Table) choice(a Activation) disk.Choice {
	return disk.Choice{Slice: a.Slice, Once: a.Once, Back: t.disk.Running}
}

// Commands returns the commands of an activation. There are none if the table is right already.
func (t *Table) Commands(a Activation) ([]run.Cmd, error) {
	d := t.disk
	marks, err := t.Marks(t.choice(a))
	var all []run.Cmd
	for _, x := range marks {
		n := strconv.Itoa(x.Slice)
		switch {
		case x.Name == disk.Boot0Default:
			all = append(all, run.Command("gpart", "bootcode", "-N", "-b", d.bootCode(), d.Drive))
		case x.Set:
			all = append(all, run.Command("gpart", "set", "-a", x.Name, "-i", n, d.Drive))
		default:
			all = append(all, run.Command("gpart", "unset", "-a", x.Name, "-i", n, d.Drive))
		}
	}
	return all, err
}

// bootCode is the file from which gpart(8) writes boot0 with another default. boot0cfg(8) can't be used. It
// opens the disk for writing, which GEOM allows while the machine's root is mounted read-only; but GEOM then
// takes away all slices of the disk (g_vfs_open of sys/geom/geom_vfs.c, g_part_spoiled of
// sys/geom/part/g_part.c), and from then on every read of / fails. -N is needed for the form of boot0 that
// has its default where another form has a serial number.
func (d *Disk) bootCode() string { return filepath.Join(d.RunDir, "nano.boot0") }

// writeBootCode makes that file: the first sector of the disk, with another default.
func (d *Disk) writeBootCode(ctx context.Context, slice int) error {
	f, size, err := d.open(ctx, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	code, err := disk.Boot0Code(f, size, slice)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.RunDir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(d.bootCode(), code, 0o600)
}

// Activate makes a slice boot next, and checks that the disk says so.
func (d *Disk) Activate(ctx context.Context, a Activation) error {
	t, err := d.Table(ctx)
	if err != nil {
		return err
	}
	if err := d.apply(ctx, t, a); err != nil {
		return err
	}
	if t, err = d.Table(ctx); err != nil {
		return err
	}
	left, err := t.Marks(t.choice(a))
	if err != nil {
		return err
	}
	if t.Next() != a.Slice || len(left) > 0 {
		why := append([]string{"the table still says that " + t.NextName() + " boots next"}, t.Doubts()...)
		return errors.New(strings.Join(why, "; "))
	}
	if err := d.notes().choose(a.Slice); err != nil {
		d.warn("%s boots next, but the note of that could not be written (%v): cfgd nano rollback before "+
			"the restart will not know of it", d.Name(a.Slice), err)
	}
	return nil
}

func (d *Disk) warn(format string, args ...any) {
	if d.Warn != nil {
		d.Warn(fmt.Sprintf(format, args...))
	}
}

func (d *Disk) apply(ctx context.Context, t *Table, a Activation) error {
	if d.Command {
		commands, err := t.Commands(a)
		if err != nil {
			return err
		}
		writes := func(c run.Cmd) bool { return slices.Contains(c.Args, d.bootCode()) }
		if slices.ContainsFunc(commands, writes) {
			if err := d.writeBootCode(ctx, a.Slice); err != nil {
				return err
			}
			defer os.Remove(d.bootCode())
		}
		for _, c := range commands {
			if _, err := d.Run.Run(ctx, c); err != nil {
				return err
			}
		}
		return nil
	}
	f, size, err := d.open(ctx, os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	return t.Apply(f, size, t.choice(a))
}

// Decision tells which slice boots from now on.
type Decision struct {
	Slice Slice
	// the slice that was to boot next, was not tried, and no longer boots next; "" for none
	Off      string
	Commands []run.Cmd // what was run, or would be
}

// Pick chooses a slice.
type Pick func(all []Slice, t *Table) *Slice

// Confirm picks the running slice.
func Confirm(all []Slice, _ *Table) *Slice {
	for i := range all {
		if all[i].Running {
			return &all[i]
		}
	}
	return nil
}

// Rollback picks the running slice if another one was chosen to boot next. Otherwise, and if the running
// slice is on trial, it picks the other one.
func Rollback(all []Slice, t *Table) *Slice {
	if t.Next() == t.disk.Running || t.trying() {
		return Other(all)
	}
	return Confirm(all, t)
}

// Named picks a slice by its name or number.
func Named(name string) Pick {
	return func(all []Slice, _ *Table) *Slice {
		for i := range all {
			if all[i].called(name) {
				return &all[i]
			}
		}
		return nil
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
	x := pick(all, t)
	if x == nil {
		return nil, fmt.Errorf("that %w: %s and %s are", ErrNoSlice, all[0].Name, all[1].Name)
	}
	if x.Image.Trouble != "" && !x.Running {
		return nil, fmt.Errorf("%s holds no system that can be read: %s", x.Name, x.Image.Trouble)
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
