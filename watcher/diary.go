package watcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/overlay"
	"cfgd/overlay/store"
	"cfgd/watcher/control"
)

// diary is what a target has said in the log, so that it says nothing twice.
type diary struct {
	said    string // the kind of the problem that was logged last
	notices map[string]string
}

// maxNotices bounds what is remembered of them.
const maxNotices = 100

// stuckAfter is how long a look may take before status says so. A look waits for another cfgd that holds
// the target's lock, and for filesystems that hang, as long as it takes.
const stuckAfter = 10 * time.Second

// report keeps the status and logs what is new in it.
func (t *target) report(l look, r *overlay.Result, err error) {
	s := t.lastStatus()
	s.Fill(r, err, l.whole())
	s.Watched, s.Watch = err == nil || r != nil && r.View != nil && r.View.Live != nil, t.how()
	t.setStatus(s)
	if err == nil {
		t.logSaved(r)
	}
	if r != nil && r.View != nil {
		for _, n := range r.View.Notices {
			t.logOnce(n, n)
		}
		if words := strings.Join(quoted(r.Conflicts), ", "); words != "" {
			t.logOnce("conflict", "changed in cfg by hand and in live, and left as they are: "+words)
		} else {
			delete(t.notices, "conflict")
		}
	}
	t.logProblem(kind(err), s)
	if t.onLook != nil {
		t.onLook(s)
	}
}

func (t *target) logSaved(r *overlay.Result) {
	if len(r.Saved) > 0 || len(r.Released) > 0 {
		t.log.Info().Int("generation", r.Generation).Int("paths", len(r.Saved)).
			Int("released", len(r.Released)).Msg("saved")
	}
}

// logOnce logs a warning about a subject, unless it is what was said last about it.
func (t *target) logOnce(subject, words string) {
	if t.notices == nil || len(t.notices) > maxNotices {
		t.notices = map[string]string{}
	}
	if t.notices[subject] != words {
		t.log.Warn().Msg(words)
	}
	t.notices[subject] = words
}

// logProblem logs a problem when it comes, when it becomes another, and when it is gone.
func (t *target) logProblem(kind string, s control.Status) {
	if kind == t.said {
		return
	}
	was := t.said
	t.said = kind
	switch {
	case s.Down: // a jail that does not run is no trouble
		t.log.Info().Msg(s.Problem)
	case kind != "":
		t.log.Warn().Msg(s.Problem)
	case was != "":
		t.log.Info().Msg("all is well again")
	}
}

// kinds are the problems whose words change from try to try, such as by how much room is missing.
var kinds = []error{
	overlay.ErrEarlier, overlay.ErrNotPopulated, store.ErrHeld, overlay.ErrReadOnly, store.ErrNoSpace,
	overlay.ErrLocked,
}

// kind tells one problem from another, "" for none.
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

func (t *target) how() string {
	if t.src != nil {
		return events
	}
	return fmt.Sprintf("%s every %s", config.WatchScan, t.period().Round(100*time.Millisecond))
}

// setWatch says how the target is watched from now on.
func (t *target) setWatch() {
	how := t.how()
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

// Status is what the last look found, and whether the one after it is stuck. It is safe to call from
// anywhere.
func (t *target) Status() control.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.status
	if took := time.Since(t.busy); !t.busy.IsZero() && took > stuckAfter {
		s.Problem = fmt.Sprintf("a look or save has been at work for %s: another cfgd holds the lock of "+
			"the target, or a filesystem hangs", took.Round(time.Second))
	}
	return s
}

// lookNow is the status after a look at everything, or what is known without one where the target does
// not come to it in time.
func (t *target) lookNow(ctx context.Context) control.Status {
	err := t.call(ctx, func(ctx context.Context) {
		if !t.detached {
			t.agenda.again()
			t.look(ctx)
		}
	})
	s := t.Status()
	if err != nil && s.Problem == "" {
		s.Problem = fmt.Sprintf("the daemon is busy with it: %v", err)
	}
	return s
}
