package watcher

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"cfgd/config"
	"cfgd/internal/flock"
	"cfgd/overlay"
)

// A tree is cleared only if cfg is unmounted for long enough without a break. A try that did not help is
// not repeated at once.
func TestOutlived(t *testing.T) {
	down := overlay.ErrNotPopulated
	gone := fmt.Errorf("cfg: %w", overlay.ErrNotMounted)
	for name, c := range map[string]struct {
		scans []error // one each ten seconds
		want  int
	}{
		"never gone":           {[]error{nil, nil, nil, nil, nil, nil, nil, nil}, 0},
		"a stop":               {[]error{nil, gone, gone, gone, down, down, gone, gone}, 0},
		"a start":              {[]error{gone, gone, gone, nil, nil, nil, nil, nil, nil}, 0},
		"left":                 {[]error{nil, gone, gone, gone, gone}, 1},
		"left, and tried once": {[]error{gone, gone, gone, gone, gone, gone, gone, gone, gone, gone}, 1},
		"another error": {
			[]error{gone, flock.ErrHeld, gone, flock.ErrHeld, gone, down, gone, gone}, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				o, start := &outlived{clear: func() { n++ }}, time.Now()
				for _, err := range c.scans {
					o.scanned(time.Since(start), err)
					time.Sleep(10 * time.Second)
				}
				if n != c.want {
					t.Errorf("cleared %d times, want %d", n, c.want)
				}
				if c.want > 0 {
					time.Sleep(clearRetry)
					if o.scanned(time.Since(start), gone); n != c.want+1 {
						t.Errorf("cleared %d times after a long pause", n)
					}
				}
			})
		})
	}
}

// The host has no jail, and with --root nothing is mounted.
func TestWhoOutlives(t *testing.T) {
	with := &Daemon{
		ClearStopped: func(context.Context, *config.Model, *config.Target) (string, error) {
			return "", errors.ErrUnsupported
		},
	}
	for name, c := range map[string]struct {
		d    *Daemon
		m    config.Model
		t    config.Target
		want bool
	}{
		"a jail":     {with, config.Model{}, config.Target{Name: "vhost1"}, true},
		"the host":   {with, config.Model{}, config.Target{Name: config.HostName}, false},
		"with a dir": {with, config.Model{Root: "/x"}, config.Target{Name: "j"}, false},
		"nobody":     {&Daemon{}, config.Model{}, config.Target{Name: "vhost1"}, false},
	} {
		if got := c.d.stoppedClearer(t.Context(), &c.m, &c.t) != nil; got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
