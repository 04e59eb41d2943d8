package watcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/flock"
	"cfgd/overlay"
	"cfgd/overlay/store"
	"cfgd/watcher/control"
)

// logDedup records what a target has logged, so that nothing is logged twice.
type logDedup struct {
	lastProblem string // the kind of the problem that was logged last, "" for none
	notices     map[string]string
}

// maxNotices bounds how many notices are remembered.
const maxNotices = 100

// stuckAfter is how long a scan may take before status mentions it. A scan waits without limit for
// another cfgd that holds the target's lock, and for a filesystem that hangs.
const stuckAfter = 10 * time.Second

// report updates the status and logs what is new in it.
func (t *target) report(l scan, r *overlay.Result, err error) {
	s := t.lastStatus()
	s.Fill(r, err, l.full())
	s.Watched, s.Watch = err == nil || r != nil && r.View != nil && r.View.Live != nil, t.watchMode()
	t.setStatus(s)
	if err == nil {
		t.logSaved(r)
	}
	if r != nil && r.View != nil {
		for _, n := range r.View.Notices {
			t.logOnce(n, n)
		}
		if words := strings.Join(control.Quoted(r.Conflicts), ", "); words != "" {
			t.logOnce("conflict", "changed in cfg by hand and in live, and left as they are: "+words)
		} else {
			delete(t.notices, "conflict")
		}
	}
	t.logProblem(kind(err), s)
	if t.onScan != nil {
		t.onScan(s)
	}
}

func (t *target) logSaved(r *overlay.Result) {
	if len(r.Saved) > 0 || len(r.Released) > 0 {
		t.log.Info().Int("generation", r.Generation).Int("paths", len(r.Saved)).
			Int("released", len(r.Released)).Msg("saved")
	}
}

// logOnce logs a warning about a subject, unless the last warning about it was the same.
func (t *target) logOnce(subject, words string) {
	if t.notices == nil || len(t.notices) > maxNotices {
		t.notices = map[string]string{}
	}
	if t.notices[subject] != words {
		t.log.Warn().Msg(words)
	}
	t.notices[subject] = words
}

// logProblem logs a problem when it begins, when it changes, and when it ends.
func (t *target) logProblem(kind string, s control.Status) {
	if kind == t.lastProblem {
		return
	}
	was := t.lastProblem
	t.lastProblem = kind
	switch {
	case s.Down: // a stopped jail is no problem
		t.log.Info().Msg(s.Problem)
	case kind != "":
		t.log.Warn().Msg(s.Problem)
	case was != "":
		t.log.Info().Msg("all is well again")
	}
}

// kinds are the errors whose text changes from try to try, for example by the missing space.
var kinds = []error{
	overlay.ErrEarlier, overlay.ErrNotPopulated, store.ErrHeld, overlay.ErrReadOnly, store.ErrNoSpace,
	flock.ErrHeld,
}

// kind returns what identifies a problem, "" for none.
func kind(err error) string {
	if err == nil {
		return ""
	}
	for _, k := range kinds {
		if errors.Is(err, k) {
			return k.Error()
		}
	}
	return err.Error()
}

func (t *target) watchMode() string {
	if t.src != nil {
		return events
	}
	return fmt.Sprintf("%s every %s", config.WatchScan, t.period().Round(100*time.Millisecond))
}

// setWatch updates how the target is watched.
func (t *target) setWatch() {
	how := t.watchMode()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status.Watch = how
}

func (t *target) setStatus(s control.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status = s
}

func (t *target) setBusy(since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy = since
}

func (t *target) lastStatus() control.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// Status returns what the last scan found, and whether the current one is stuck. It is safe for
// concurrent use.
func (t *target) Status() control.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.status
	if took := time.Since(t.busy); !t.busy.IsZero() && took > stuckAfter {
		s.Problem = fmt.Sprintf("a scan or save has been at work for %s: another cfgd holds the lock of "+
			"the target, or a filesystem hangs", took.Round(time.Second))
	}
	return s
}

// scanNow returns the status after a full scan, or what is known if the target does not get to it before
// ctx ends.
func (t *target) scanNow(ctx context.Context) control.Status {
	err := t.call(ctx, func(ctx context.Context) {
		if !t.detached {
			t.sched.requestFull()
			t.scanAndSave(ctx)
		}
	})
	s := t.Status()
	if err != nil && s.Problem == "" {
		s.Problem = fmt.Sprintf("the daemon is busy with it: %v", err)
	}
	return s
}
