// Package flock provides locks between processes by flock(2), on files that serve only for that.
//
// What always holds: a lock ends with the process that holds it, however the process ends. A lock file is
// never removed, because another process may have it open. It names the process that took the lock last.
package flock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld reports that another process holds a lock.
var ErrHeld = errors.New("locked by another process")

// HeldError is an ErrHeld that says what is locked, and by whom.
type HeldError struct {
	Name   string // what is locked: "jail vhost1"
	Holder string // process and command, as in "process 4711 (cfgd jail switch vhost1 2)"; "" if not known
	ended  error  // the context's error, if the wait ended with it
}

func (e *HeldError) Error() string {
	words := "another cfgd is at work on " + e.Name
	if e.Holder != "" {
		words += ": " + e.Holder
	}
	return words
}

// Unwrap returns ErrHeld, and the error of the context that ended the wait.
func (e *HeldError) Unwrap() []error {
	if e.ended == nil {
		return []error{ErrHeld}
	}
	return []error{ErrHeld, e.ended}
}

// Forever is a limit for a lock that is waited for until a context ends.
const Forever = time.Duration(math.MaxInt64)

// retryEvery is how often a held lock is tried again, because a blocking flock(2) cannot be cancelled.
const retryEvery = 20 * time.Millisecond

// Lock takes the lock of a file for this process alone. The file is created with its directory. Lock tries
// at least once, and for as long as limit and until ctx ends; then it returns a *HeldError with the name.
func Lock(ctx context.Context, file, name string, limit time.Duration) (unlock func(), err error) {
	return wait(ctx, file, name, limit, unix.LOCK_EX)
}

// LockShared is Lock for one of several processes that share the lock, while nobody has it alone.
func LockShared(ctx context.Context, file, name string, limit time.Duration) (unlock func(), err error) {
	return wait(ctx, file, name, limit, unix.LOCK_SH)
}

func wait(ctx context.Context, file, name string, limit time.Duration, how int) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	f, err := Open(file)
	if err != nil {
		return nil, err
	}
	for {
		err := Try(f, how)
		if err == nil {
			return sign(f), nil
		}
		if !errors.Is(err, ErrHeld) {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			defer f.Close()
			return nil, &HeldError{name, holder(f), ctx.Err()}
		case <-time.After(retryEvery):
		}
	}
}

// maxHolder bounds the text in a lock file, in bytes.
const maxHolder = 100

// sign writes this process into the lock file, and returns the function that unlocks it. It is for messages
// alone, so that a full disk does not matter. Of processes that share a lock, the last to take it is named.
// Below --root a directory may be a link that leads out: nothing is written there.
func sign(f *os.File) (unlock func()) {
	if st, err := os.Lstat(filepath.Dir(f.Name())); err != nil || !st.IsDir() {
		return func() { f.Close() }
	}
	args := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	text := fmt.Sprintf("%d %s", os.Getpid(), strings.ToValidUTF8(strings.Join(args, " "), "?"))
	text = text[:min(len(text), maxHolder)]
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(text), 0)
	return func() {
		if read(f) == text {
			_ = f.Truncate(0)
		}
		f.Close()
	}
}

func read(f *os.File) string {
	b := make([]byte, maxHolder)
	n, _ := f.ReadAt(b, 0)
	return string(b[:n])
}

// holder returns the process that a lock file names; "" if there is none, or it has ended.
func holder(f *os.File) string {
	number, command, _ := strings.Cut(read(f), " ")
	pid, err := strconv.Atoi(number)
	if err != nil || pid <= 0 || unix.Kill(pid, 0) == unix.ESRCH {
		return ""
	}
	printable := func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}
	return fmt.Sprintf("process %d (%s)", pid, strings.Map(printable, command))
}

// Open opens a lock file, which is created with its directory. A link is no lock file.
func Open(file string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(file, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
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
