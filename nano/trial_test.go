package nano

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cfgd/config"
	"cfgd/internal/disk/disktest"
)

// tried is a machine that runs from its second slice, on trial for an hour.
type tried struct {
	*Trials
	restarts int
	mu       sync.Mutex // guards what the tests and the trial both use
	note     []byte
	fail     error // Write's
}

func newTried(t *testing.T, running int) *tried {
	file := filepath.Join(t.TempDir(), "disk")
	d := make([]byte, 2<<20)
	copy(d, disktest.MBR(2, disktest.Slice{Index: 1, Start: 63, Count: 1024, Type: 0xa5}, disktest.Slice{
		Index: 2, Start: 2000, Count: 1024, Type: 0xa5, Active: true,
	}))
	for _, at := range []int{63, 2000} {
		copy(d[at*sector:], tinyImage(t))
	}
	if err := os.WriteFile(file, d, 0o600); err != nil {
		t.Fatal(err)
	}
	x := &tried{}
	n := config.Nano{Drive: "ada0", Kind: "s", Running: running}
	x.Trials = &Trials{Disk: &Disk{Nano: n, File: file, RunDir: t.TempDir()},
		Read: func(context.Context) ([]byte, error) {
			x.mu.Lock()
			defer x.mu.Unlock()
			if x.note == nil {
				return nil, fs.ErrNotExist
			}
			return x.note, nil
		},
		Write: func(_ context.Context, b []byte) error {
			x.mu.Lock()
			defer x.mu.Unlock()
			if x.fail == nil {
				x.note = b
			}
			return x.fail
		},
		Restart: func(context.Context) error { x.restarts++; return nil },
	}
	if err := x.Begin(t.Context(), Trial{Slice: 2, From: 1, Within: time.Hour}); err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *tried) set(f func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f()
}

func (x *tried) next(t *testing.T) int {
	tab, err := x.Disk.Table(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tab.Next()
}

func TestTrials(t *testing.T) {
	bad := errors.New("not well")
	for name, c := range map[string]struct {
		running  int
		during   func(x *tried) // after half of the time
		health   error          // nil is none
		well     bool
		outcome  Outcome
		next     int
		restarts int
		noted    bool
	}{
		"nobody says anything": {2, nil, nil, false, GoesBack, 1, 1, false},
		"confirmed in time": {2, func(x *tried) { _ = x.End(context.Background()) }, nil, false, Untried,
			2, 0, false},
		"it is well":         {2, nil, nil, true, Confirmed, 2, 0, false},
		"it is not well":     {2, nil, bad, false, GoesBack, 1, 1, false},
		"the other one runs": {1, nil, nil, false, Untried, 2, 0, true},
		"the note is lost": {2, func(x *tried) { x.set(func() { x.note = nil }) }, nil, false, Untried,
			2, 0, false},
		"cfg cannot be written": {2, func(x *tried) { x.set(func() { x.fail = errors.New("full") }) }, nil,
			false, GoesBack, 1, 0, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			x := newTried(t, c.running)
			if c.well || c.health != nil {
				x.Health = func(context.Context) error { return c.health }
			}
			if c.during != nil {
				time.AfterFunc(30*time.Minute, func() { c.during(x) })
			}
			began := time.Now()
			outcome, err := x.Run(t.Context())
			if outcome != c.outcome || (err != nil) != (x.fail != nil) || x.next(t) != c.next ||
				x.restarts != c.restarts || (x.note != nil) != c.noted {
				t.Errorf("%s: %q, %v; %d boots next, %d restarts, note %s", name, outcome, err, x.next(t),
					x.restarts, x.note)
			}
			if took := time.Since(began); c.running == 2 && took != time.Hour {
				t.Errorf("%s: after %v", name, took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // the daemon ends before
		x := newTried(t, 2)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if outcome, err := x.Run(ctx); outcome != Untried || err != nil || x.note == nil || x.restarts > 0 {
			t.Errorf("%q, %v", outcome, err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // it ends while the health command runs, which that kills
		x := newTried(t, 2)
		ctx, stop := context.WithCancel(t.Context())
		x.Health = func(ctx context.Context) error { stop(); return ctx.Err() }
		if outcome, err := x.Run(ctx); outcome != Untried || err != nil || x.note == nil || x.next(t) != 2 {
			t.Errorf("%q, %v", outcome, err)
		}
		unlock, err := x.Disk.Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		unlock()
	})
	for _, note := range []string{"", "{", `{"slice":2,"from":2,"within":1}`, `{"slice":2,"from":1}`} {
		x := newTried(t, 2)
		x.note = []byte(note)
		if outcome, err := x.Run(t.Context()); outcome != Untried || err == nil {
			t.Errorf("%q: %q, %v", note, outcome, err)
		}
	}
}

// A trial whose time is over does not go back to a slice that cannot boot: the running one stays, and boots
// next.
func TestTrialCannotGoBack(t *testing.T) {
	t.Parallel()
	x := newTried(t, 2)
	x.note = []byte(`{"slice":2,"from":1,"within":1}`)
	d, err := os.ReadFile(x.Disk.File)
	if err != nil {
		t.Fatal(err)
	}
	clear(d[63*sector : 1000*sector])
	if err := os.WriteFile(x.Disk.File, d, 0o600); err != nil {
		t.Fatal(err)
	}
	outcome, err := x.Run(t.Context())
	var cannot *CannotBoot
	if outcome != Untried || !errors.As(err, &cannot) || x.next(t) != 2 || x.restarts != 0 || x.note == nil {
		t.Errorf("%q, %v: %d boots next, %d restarts", outcome, err, x.next(t), x.restarts)
	}
}

// The end of a trial waits for the lock of the disk, and then reads the note again.
func TestTrialWaitsForTheLock(t *testing.T) {
	for name, c := range map[string]struct {
		during   func(x *tried)
		outcome  Outcome
		restarts int
	}{
		"an installation that ends the trial": {func(x *tried) { _ = x.End(context.Background()) }, Untried,
			0},
		"another one": {func(*tried) {}, GoesBack, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			x := newTried(t, 2)
			unlock, err := x.Disk.Lock(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(2*time.Hour, func() {
				if x.next(t) != 2 {
					t.Errorf("%s: the table was changed without the lock", name)
				}
				c.during(x)
				unlock()
			})
			began := time.Now()
			outcome, err := x.Run(t.Context())
			if err != nil || outcome != c.outcome || x.restarts != c.restarts ||
				time.Since(began) < 2*time.Hour {
				t.Errorf("%s: %q, %v, %d restarts, after %v", name, outcome, err, x.restarts,
					time.Since(began))
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // the daemon ends meanwhile
		x := newTried(t, 2)
		unlock, err := x.Disk.Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Hour)
		defer stop()
		if outcome, err := x.Run(ctx); outcome != Untried || err != nil || x.next(t) != 2 {
			t.Errorf("%q, %v", outcome, err)
		}
	})
}
