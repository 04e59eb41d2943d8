package flock

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestWaitForALockThatIsHeld(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "lock", "vhost1")
	synctest.Test(t, func(t *testing.T) {
		unlock, err := Wait(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if _, err := Wait(ctx, file); !errors.Is(err, ErrHeld) || !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(began) < time.Minute {
			t.Errorf("held: %v after %v", err, time.Since(began))
		}
		time.AfterFunc(time.Second, unlock)
		again, err := Wait(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		again()
	})
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
