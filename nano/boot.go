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
	wrong, err := t.Marks(t.choice(a))
	if err != nil {
		return err
	}
	if t.Next() != a.Slice || len(wrong) > 0 {
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
