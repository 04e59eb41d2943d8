package watcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cfgd/overlay"
	"cfgd/overlay/tree"
	"cfgd/watcher/control"
)

// Run keeps the target saved until ctx ends. Then it saves once more, settled or not, within last.
func (t *target) Run(ctx context.Context, last time.Duration) {
	defer close(t.ended)
	defer t.budget.leave()
	t.budget.join()
	defer t.disarm()
	t.scanAndSave(ctx)
	close(t.firstScan)
	for ctx.Err() == nil {
		timer := time.NewTimer(t.sleep())
		select {
		case <-ctx.Done():
		case <-t.signal():
			t.collect()
		case f := <-t.calls:
			f(ctx)
		case <-timer.C:
			t.due(ctx)
		}
		timer.Stop()
	}
	t.finish(last)
}

func (t *target) sleep() time.Duration {
	at := t.sched.next()
	if t.detached || t.down {
		at = t.probeAt
	}
	return max(at-t.now(), 0)
}

// due scans, if it is time: events that came meanwhile may have put the scan off.
func (t *target) due(ctx context.Context) {
	if (t.detached || t.down) && !t.probe() {
		return
	}
	t.collect()
	if t.sched.next() <= t.now() {
		t.scanAndSave(ctx)
	}
}

// probe reports whether a live tree that was missing or detached has been populated since.
func (t *target) probe() bool {
	t.probeAt = t.now() + probe
	if t.detached {
		return t.reattach()
	}
	if r, err := t.o.Record(); err != nil || r == nil || r.State != overlay.Populated {
		return err != nil // the scan reports the error
	}
	if s, err := t.o.State(); err == nil && !s.Populated {
		return false
	}
	t.sched.requestFull()
	return true
}

func (t *target) attach(ctx context.Context) {
	t.detached, t.adopted, t.noWatch = false, false, 0
	t.o.Forget()
	t.sched.requestFull()
	t.scanAndSave(ctx)
}

// detach releases live and cfg: when it returns, no descriptor below them is open, and none will be until
// attach.
func (t *target) detach() {
	t.disarm()
	t.o.Forget()
	t.before, _ = t.o.Record() // a record that cannot be read is not that of a later start
	t.detached, t.down, t.probeAt = true, false, t.now()+probe
	t.lastProblem = ""
	t.update(func(s *control.Status) {
		s.Watched, s.Populated, s.Down = false, false, true
		s.Problem, s.Watch = "detached", ""
	})
}

// finish does the last save: of everything, settled or not. But a file that has just been emptied may be half
// written: what is saved of it stays.
func (t *target) finish(within time.Duration) {
	if t.detached {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if t.o.Unchanged(ctx, overlay.LookOptions{}) != nil {
		return
	}
	t.collect()
	t.sched.begin(t.now(), time.Now().UnixNano(), true)
	r, err := t.o.Save(ctx, overlay.SaveOptions{Times: true, Ready: t.readyAtEnd})
	switch {
	case err == nil:
		t.logSaved(r)
		t.logLeft(r)
	case !errors.Is(err, overlay.ErrNotPopulated):
		t.log.Error().Err(err).Msg("last save")
	}
}

// readyAtEnd is the Ready of the last save.
func (t *target) readyAtEnd(c tree.Change) overlay.Readiness {
	if emptied(c) && t.ready(c) == overlay.Unsettled {
		return overlay.Unsettled
	}
	return overlay.Overdue
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
