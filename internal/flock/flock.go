// Package flock provides locks between processes by flock(2), on files that serve only for that.
//
// What always holds: a lock ends with the process that holds it, however the process ends. A lock file is
// never removed, because another process may have it open.
package flock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld reports that another process holds the lock.
var ErrHeld = errors.New("locked by another process")

// retryEvery is how often a held lock is tried again, because a blocking flock(2) cannot be cancelled.
const retryEvery = 20 * time.Millisecond

// Wait takes the exclusive lock of a file, which is created with its directory. It tries at least once,
// and until ctx ends; then the error is ErrHeld.
func Wait(ctx context.Context, file string) (unlock func(), err error) {
	f, err := Open(file)
	if err != nil {
		return nil, err
	}
	for {
		err := Try(f, unix.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, ErrHeld) {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		case <-time.After(retryEvery):
		}
	}
}

// Open opens a lock file, which is created with its directory.
func Open(file string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
}

// Try takes the lock of an open file, LOCK_EX or LOCK_SH of flock(2), or returns ErrHeld at once.
func Try(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch err {
		case nil:
			return nil
		case unix.EINTR:
			continue
		case unix.EWOULDBLOCK:
			return fmt.Errorf("%s: %w", f.Name(), ErrHeld)
		}
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
}
