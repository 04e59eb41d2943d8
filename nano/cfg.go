// Package nano knows the NanoBSD host: so far its /cfg, which is mounted only while it is needed.
//
// What always holds: a /cfg that somebody else mounted is never unmounted; the last of those that use a mount of cfgd's own
// unmounts it, whichever process made it; one that is busy then is unmounted after the next use.
package nano

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cfgd/internal/flock"
	"cfgd/internal/memory"
	"cfgd/internal/run"
)

// Cfg is a filesystem for saved configuration that fstab mounts noauto.
type Cfg struct {
	Dir     string // the mountpoint, as fstab has it
	RunDir  string // /var/run/cfgd, for the locks and the mark
	Run     run.Runner
	Mounted func(dir string) ([]memory.Mount, error) // memory.Mounted
	// ReadOnly tells of a mount that it is read-only; not nil where fstab has it so, and it is to be writable while something is saved.
	ReadOnly func(dir string) (bool, error)
}

// Mount makes it reachable and returns what undoes that. Of two locks, flock(2)'s, which go with a process however that ends, the
// gate is held by whoever mounts or unmounts, and only meanwhile; the other is shared by all who use it, and whoever gets it for
// himself, at the gate, is the last. The mark says that the mount is cfgd's own.
func (c *Cfg) Mount(ctx context.Context, write bool) (unmount func() error, err error) {
	leaveGate, err := c.gate(ctx)
	if err != nil {
		return nil, err
	}
	defer leaveGate()
	use, err := flock.Open(filepath.Join(c.RunDir, "cfg.use"))
	if err != nil {
		return nil, err
	}
	err = c.mount(ctx)
	if err == nil && write {
		err = c.writable(ctx)
	}
	if err == nil {
		err = flock.Try(use, unix.LOCK_SH) // it is held alone at the gate only
	}
	if err != nil {
		use.Close()
		return nil, err
	}
	return func() error { return c.leave(context.WithoutCancel(ctx), use) }, nil
}

// leave unmounts it, if nobody else uses it.
func (c *Cfg) leave(ctx context.Context, use *os.File) error {
	leaveGate, err := c.gate(ctx)
	if err != nil {
		use.Close()
		return err
	}
	defer leaveGate()
	defer use.Close() // before the gate is: the next one there may be the last
	if err := flock.Try(use, unix.LOCK_EX); errors.Is(err, flock.ErrHeld) {
		return nil
	} else if err != nil {
		return err
	}
	return c.unmount(ctx)
}

// gate waits until nobody else mounts or unmounts, or until ctx ends.
func (c *Cfg) gate(ctx context.Context) (unlock func(), err error) {
	unlock, err = flock.Wait(ctx, filepath.Join(c.RunDir, "cfg.gate"))
	if errors.Is(err, flock.ErrHeld) {
		return nil, fmt.Errorf("another cfgd mounts or unmounts %s: %w", c.Dir, err)
	}
	return unlock, err
}

func (c *Cfg) mark() string { return filepath.Join(c.RunDir, "cfg.mounted") }

// mounted looks into the table of mounts, which has the path without links.
func (c *Cfg) mounted() (bool, error) {
	dir, err := filepath.EvalSymlinks(c.Dir)
	if err != nil {
		return false, err
	}
	on, err := c.Mounted(dir)
	return len(on) > 0, err
}

// mount mounts it, unless it is mounted. The mark is there before the mount and goes after it: a process that is killed in between
// leaves one without the other, which is believed of a mount alone: a mark that finds nothing mounted says nothing.
func (c *Cfg) mount(ctx context.Context) error {
	on, err := c.mounted()
	if err != nil || on {
		return err
	}
	if err := os.WriteFile(c.mark(), nil, 0o600); err != nil {
		return err
	}
	if _, err := c.Run.Run(ctx, run.Command("mount", c.Dir)); err != nil {
		return errors.Join(err, c.notMounted(ctx))
	}
	return nil
}

// notMounted takes the mark away after a mount that was refused. One that was cut short may have been done all the same: then it
// is undone now, or after the next use.
func (c *Cfg) notMounted(ctx context.Context) error {
	if ctx.Err() != nil {
		if on, err := c.mounted(); err != nil || on {
			return errors.Join(err, c.unmount(context.WithoutCancel(ctx)))
		}
	}
	return os.Remove(c.mark())
}

// unmount unmounts a mount of cfgd's own; the caller is alone with it.
func (c *Cfg) unmount(ctx context.Context) error {
	if err := c.readOnlyAgain(ctx); err != nil {
		return err
	}
	if _, err := os.Stat(c.mark()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody else's
		}
		return err
	}
	if on, err := c.mounted(); err != nil {
		return err
	} else if !on { // somebody unmounted it meanwhile
		return os.Remove(c.mark())
	}
	if _, err := c.Run.Run(ctx, run.Command("umount", c.Dir)); err != nil {
		return err
	}
	return os.Remove(c.mark())
}

// wmark says that a mount was made writable, and is to be read-only again.
func (c *Cfg) wmark() string { return filepath.Join(c.RunDir, "cfg.writable") }

// writable makes a mount that fstab has read-only writable; the caller is at the gate. The mark is there before, as with a mount.
func (c *Cfg) writable(ctx context.Context) error {
	if c.ReadOnly == nil {
		return nil
	}
	ro, err := c.ReadOnly(c.Dir)
	if err != nil || !ro {
		return err
	}
	if err := os.WriteFile(c.wmark(), nil, 0o600); err != nil {
		return err
	}
	if _, err := c.Run.Run(ctx, remount(c.Dir, "rw")); err != nil {
		return errors.Join(err, os.Remove(c.wmark()))
	}
	return nil
}

// readOnlyAgain undoes writable; the caller is alone with the mount.
func (c *Cfg) readOnlyAgain(ctx context.Context) error {
	if _, err := os.Stat(c.wmark()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if on, err := c.mounted(); err != nil {
		return err
	} else if on {
		if _, err := c.Run.Run(ctx, remount(c.Dir, "ro")); err != nil {
			return err
		}
	}
	return os.Remove(c.wmark())
}
