// Package nano knows the NanoBSD host: so far its /cfg, which is mounted only while it is needed.
//
// What always holds: a /cfg that somebody else mounted is never unmounted; the last of those that use a mount of cfgd's own
// unmounts it, whichever process made it.
package nano

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cfgd/internal/memory"
	"cfgd/internal/run"
)

// Cfg is a filesystem for saved configuration that fstab mounts noauto.
type Cfg struct {
	Dir     string // the mountpoint, as fstab has it
	RunDir  string // /var/run/cfgd, for the lock and the mark
	Run     run.Runner
	Mounted func(dir string) ([]memory.Mount, error) // memory.Mounted
}

// Mount makes it reachable and returns what undoes that. The lock is shared while it is used and exclusive while it is mounted or
// unmounted; the mark says that the mount is cfgd's own.
func (c *Cfg) Mount(ctx context.Context) (unmount func() error, err error) {
	lock, err := c.lock()
	if err != nil {
		return nil, err
	}
	if err := c.mount(ctx); err != nil {
		lock.Close()
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH); err != nil {
		lock.Close()
		return nil, err
	}
	return func() error {
		defer lock.Close()
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return nil // another process uses it, and unmounts it after that
		}
		return c.unmount(context.WithoutCancel(ctx))
	}, nil
}

// lock opens the lock, held exclusively: nobody mounts or unmounts meanwhile.
func (c *Cfg) lock() (*os.File, error) {
	dir := filepath.Join(c.RunDir, "lock")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "cfg.mount"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// Those who share the lock use a mount that is there: to look, it is enough to share it too.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		return f, nil
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

func (c *Cfg) mark() string { return filepath.Join(c.RunDir, "cfg.mounted") }

func (c *Cfg) mount(ctx context.Context) error {
	on, err := c.Mounted(c.Dir)
	if err != nil || len(on) > 0 {
		return err
	}
	if err := os.WriteFile(c.mark(), nil, 0o600); err != nil {
		return err
	}
	if _, err := c.Run.Run(ctx, run.Command("mount", c.Dir)); err != nil {
		return errors.Join(err, os.Remove(c.mark()))
	}
	return nil
}

func (c *Cfg) unmount(ctx context.Context) error {
	if _, err := os.Stat(c.mark()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody else's mount
		}
		return err
	}
	if _, err := c.Run.Run(ctx, run.Command("umount", c.Dir)); err != nil {
		return err
	}
	return os.Remove(c.mark())
}
