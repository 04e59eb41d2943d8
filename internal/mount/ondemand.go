package mount

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cfgd/internal/flock"
	"cfgd/internal/run"
)

// OnDemand is the filesystem for saved configuration, which fstab has with noauto.
type OnDemand struct {
	Dir     string // the mountpoint, as fstab has it
	RunDir  string // /var/run/cfgd, for the locks and the mark
	Run     run.Runner
	Mounted func(dir string) ([]Mount, error) // On
	// ReadOnly reports whether the mount is read-only. It is nil unless fstab mounts it read-only, so that it
	// must be made writable while something is saved.
	ReadOnly func(dir string) (bool, error)
}

// Mount mounts it and returns the function that undoes that. There are two locks of flock(2), which end with
// their process. The gate is held only while a process mounts or unmounts. The other lock is shared by all
// users; who gets it exclusively, while holding the gate, is the last user. The mark says that cfgd made the
// mount.
func (c *OnDemand) Mount(ctx context.Context, write bool) (unmount func() error, err error) {
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
		err = flock.Try(use, unix.LOCK_SH) // it is held exclusively only at the gate
	}
	if err != nil {
		use.Close()
		return nil, err
	}
	return func() error { return c.leave(context.WithoutCancel(ctx), use) }, nil
}

// leave unmounts it if nobody else uses it.
func (c *OnDemand) leave(ctx context.Context, use *os.File) error {
	leaveGate, err := c.gate(ctx)
	if err != nil {
		use.Close()
		return err
	}
	defer leaveGate()
	defer use.Close() // before the gate opens, because the next process there may be the last user
	if err := flock.Try(use, unix.LOCK_EX); errors.Is(err, flock.ErrHeld) {
		return nil
	} else if err != nil {
		return err
	}
	return c.unmount(ctx)
}

// gate waits until nobody else mounts or unmounts, or until ctx ends.
func (c *OnDemand) gate(ctx context.Context) (unlock func(), err error) {
	return flock.Lock(ctx, filepath.Join(c.RunDir, "cfg.gate"), "the mount of "+c.Dir, flock.Forever)
}

func (c *OnDemand) mark() string { return filepath.Join(c.RunDir, "cfg.mounted") }

// mounted looks into the table of mounts, which has the path without symbolic links.
func (c *OnDemand) mounted() (bool, error) {
	dir, err := filepath.EvalSymlinks(c.Dir)
	if err != nil {
		return false, err
	}
	on, err := c.Mounted(dir)
	return len(on) > 0, err
}

// mount mounts it, unless it is mounted. The mark is made before the mount and removed after the unmount. A
// process that is killed in between may leave a mark without a mount. Such a mark is ignored.
func (c *OnDemand) mount(ctx context.Context) error {
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

// notMounted removes the mark after a mount that failed. A mount that was interrupted may have succeeded
// nevertheless: then it is undone now, or after the next use.
func (c *OnDemand) notMounted(ctx context.Context) error {
	if ctx.Err() != nil {
		if on, err := c.mounted(); err != nil || on {
			return errors.Join(err, c.unmount(context.WithoutCancel(ctx)))
		}
	}
	return os.Remove(c.mark())
}

// unmount unmounts a mount that cfgd made. The caller is the only user.
func (c *OnDemand) unmount(ctx context.Context) error {
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

// wmark is the mark that a mount was made writable, and has to be made read-only again.
func (c *OnDemand) wmark() string { return filepath.Join(c.RunDir, "cfg.writable") }

// writable makes a mount writable that fstab has read-only. The caller holds the gate. The mark is made
// before, as for a mount.
func (c *OnDemand) writable(ctx context.Context) error {
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

// readOnlyAgain undoes writable. The caller is the only user.
func (c *OnDemand) readOnlyAgain(ctx context.Context) error {
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
