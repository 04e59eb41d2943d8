package nano

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Settling a trial is tried again, at growing intervals, until it succeeds or the daemon ends.
func TestRetry(t *testing.T) {
	for _, c := range []struct {
		fails int
		ends  time.Duration // of the daemon
		took  time.Duration
		calls int
	}{
		{0, time.Hour, 0, 1},
		{1, time.Hour, time.Second, 2},
		{4, time.Hour, 15 * time.Second, 5},
		{100, time.Hour, time.Hour, 20}, // 1, 2, 4 … 256 seconds, and then every five minutes
		{100, time.Second / 2, time.Second / 2, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), c.ends)
			defer stop()
			began, calls := time.Now(), 0
			retry(ctx, func() bool { calls++; return calls > c.fails })
			if took := time.Since(began); took != c.took || calls != c.calls {
				t.Errorf("%d failures: %v, %d calls", c.fails, took, calls)
			}
		})
	}
}
