// Package flock provides locks between processes by flock(2), on files that serve only for that.
//
// What always holds: a lock ends with the process that holds it, however the process ends. A lock file is
// never removed, because another process may have it open. It names the processes that have the lock.
package flock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
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
	Holder string // as in "process 4711 (cfgd jail switch vhost1 2)", or several; "" if not known
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
			return sign(f, how), nil
		}
		if !errors.Is(err, ErrHeld) {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			defer f.Close()
			return nil, &HeldError{name, holders(f), ctx.Err()}
		case <-time.After(retryEvery):
		}
	}
}

// Bounds on the text in a lock file, in bytes.
const (
	maxHolder = 100 // of one process
	maxText   = 4 << 10
)

// sign adds a line with this process to the lock file, and returns the function that takes it out and
// unlocks the file. The lines are for messages alone, so that a full disk, or two processes that write them
// at the same time, do not matter. Below --root a directory may be a link that leads out: nothing is written
// there.
func sign(f *os.File, how int) (unlock func()) {
	if st, err := os.Lstat(filepath.Dir(f.Name())); err != nil || !st.IsDir() {
		return func() { f.Close() }
	}
	args := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	text := fmt.Sprintf("%d %s", os.Getpid(), strings.ToValidUTF8(strings.Join(args, " "), "?"))
	line := strings.ReplaceAll(text[:min(len(text), maxHolder)], "\n", "?") + "\n"
	others := ""
	if how == unix.LOCK_SH { // whoever has it alone has no others: what is there was left by the killed
		others = read(f)
	}
	if len(others)+len(line) > maxText {
		others = ""
	}
	write(f, others+line)
	return func() {
		all := slices.Collect(strings.Lines(read(f)))
		if i := slices.Index(all, line); i >= 0 {
			write(f, strings.Join(slices.Delete(all, i, i+1), ""))
		}
		f.Close()
	}
}

func read(f *os.File) string {
	b := make([]byte, maxText)
	n, _ := f.ReadAt(b, 0)
	return string(b[:n])
}

func write(f *os.File, text string) {
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(text), 0)
}

// holders returns the processes that a lock file names, each once, without those that have ended.
func holders(f *os.File) string {
	var all []string
	for line := range strings.Lines(read(f)) {
		if h := holder(strings.TrimSuffix(line, "\n")); h != "" && !slices.Contains(all, h) {
			all = append(all, h)
		}
	}
	return strings.Join(all, ", ")
}

// holder returns the process that a line names; "" if there is none, or it has ended.
func holder(line string) string {
	number, command, _ := strings.Cut(line, " ")
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
