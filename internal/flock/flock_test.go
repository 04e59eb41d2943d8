package flock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestWaitForALockThatIsHeld(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "lock", "vhost1")
	synctest.Test(t, func(t *testing.T) {
		unlock, err := Lock(t.Context(), file, "vhost1", 0)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = Lock(t.Context(), file, "vhost1", time.Minute)
		if !errors.Is(err, ErrHeld) || !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(began) != time.Minute {
			t.Errorf("held: %v after %v", err, time.Since(began))
		}
		time.AfterFunc(time.Second, unlock)
		again, err := Lock(t.Context(), file, "vhost1", Forever)
		if err != nil {
			t.Fatal(err)
		}
		again()
	})
}

// Several processes share a lock, and nobody has it alone meanwhile. The error names who still has it,
// whoever took it last.
func TestHolders(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "lock")
	type taker func(ctx context.Context, file, name string, limit time.Duration) (func(), error)
	take := func(how taker, want string) func() {
		t.Helper()
		unlock, err := how(t.Context(), file, "the box", 0)
		var held *HeldError
		if (err != nil) != (want != "") || err != nil && !errors.As(err, &held) ||
			err != nil && !strings.Contains(err.Error(), want) {
			t.Fatalf("%v, want %q", err, want)
		}
		return unlock
	}
	mine := fmt.Sprintf("another cfgd is at work on the box: process %d (%s", os.Getpid(),
		filepath.Base(os.Args[0]))
	first, second := take(LockShared, ""), take(LockShared, "")
	take(Lock, mine)
	second()
	take(Lock, mine)
	first()
	unlock := take(Lock, "")
	take(LockShared, mine)
	unlock()

	// What a process left that has ended, or somebody else wrote, names nobody.
	f, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for text, want := range map[string]string{
		"": "", "x": "", "-1 init": "", "0 kernel": "", "99999999 cfgd": "",
		fmt.Sprint(os.Getpid(), " a\x1b\a\xff"): fmt.Sprintf("process %d (a??", os.Getpid()),
		fmt.Sprintf("99999999 cfgd\n%d a\n%[1]d a\n%[1]d b\n", os.Getpid()): fmt.Sprintf(
			"process %d (a), process %[1]d (b)", os.Getpid()),
	} {
		if err := errors.Join(f.Truncate(0), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		if got := holders(f); got != want && (want == "" || !strings.HasPrefix(got, want)) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Below --root the tree is not trusted: no planted link makes a lock write into another file.
func TestPlantedLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := filepath.Join(dir, "other", "name")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "other"), 0o700),
		os.Mkdir(filepath.Join(dir, "run"), 0o700),
		os.WriteFile(other, []byte("content"), 0o600), os.Symlink(other, filepath.Join(dir, "run", "name")),
		os.Symlink("other", filepath.Join(dir, "lock"))); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"run/name", "lock/name"} {
		if unlock, err := Lock(t.Context(), filepath.Join(dir, file), "it", 0); err == nil {
			unlock()
		}
		if b, err := os.ReadFile(other); string(b) != "content" {
			t.Errorf("%s: %q, %v", file, b, err)
		}
	}
}

func TestTrySharedAndAlone(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "lock")
	a, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, c := range []struct {
		a, b int
		held bool
	}{
		{unix.LOCK_SH, unix.LOCK_SH, false}, {unix.LOCK_UN, unix.LOCK_EX, false},
		{unix.LOCK_SH, unix.LOCK_SH, true},
	} {
		if err := Try(a, c.a); errors.Is(err, ErrHeld) != c.held {
			t.Errorf("a: %v", err)
		}
		if err := Try(b, c.b); err != nil {
			t.Errorf("b: %v", err)
		}
	}
}
