package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process has been writing to the target for too long.
var ErrLocked = errors.New("another cfgd is at work on this target")

const (
	lockWait     = 20 * time.Millisecond
	lockPatience = 30 * time.Second // more than any save or restore takes
)

// lock takes the target's lock, which one writer holds at a time. It waits for a while, or until ctx ends, and at least once looks.
// The lock is flock(2)'s: it goes with the process, however that ends.
func (o *Overlay) lock(ctx context.Context) (unlock func(), err error) {
	dir := filepath.Join(o.RunDir, "lock")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, o.Target.Name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("%s: %w: %w", o.Target.Name, ErrLocked, ctx.Err())
		case <-time.After(lockWait):
		}
	}
}
