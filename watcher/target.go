package watcher

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"cfgd/config"
	"cfgd/overlay"
	"cfgd/watcher/control"
)

// probe is how often the daemon checks whether a missing live tree has been populated. The check reads
// one small file.
const probe = 2 * time.Second

// errEnded reports that the daemon no longer serves a target.
var errEnded = errors.New("the daemon no longer looks after it")

// target is the loop of one target. All fields belong to its goroutine, except those before calls, and
// status and busy.
type target struct {
	o         *overlay.Overlay
	cfg       *config.Target
	log       zerolog.Logger
	budget    *budget
	start     time.Time
	open      func(*overlay.Overlay, *collector) (source, error)
	onScan    func(control.Status) // for tests: called after each scan
	counts    *metrics
	clearLeft func() // clears a tree that outlived its jail; nil if that is not done

	calls     chan func(context.Context)
	firstScan chan struct{} // closed after the first scan
	ended     chan struct{} // closed when Run returns

	sched     *scheduler
	src       source
	cost      int           // taken from the budget
	noWatch   time.Duration // watching is not tried before then
	scanTook  time.Duration
	fullScans int // number of full scans

	detached bool
	before   *overlay.Record // the populate record at detach
	down     bool            // live was not populated at the last scan
	probeAt  time.Duration
	adopted  bool // AdoptLive was tried
	logDedup

	cfgGone bool          // cfg was not mounted at the last scan
	clearAt time.Duration // when to clear the tree

	mu     sync.Mutex // guards status and busy
	status control.Status
	busy   time.Time // when the current scan began; zero if none runs
}

func newTarget(o *overlay.Overlay, log zerolog.Logger, b *budget) *target {
	name := o.Target.Name
	t := &target{o: o, cfg: o.Target, log: log.With().Str("target", name).Logger(), budget: b,
		start: time.Now(), open: newSource,
		calls: make(chan func(context.Context)), firstScan: make(chan struct{}), ended: make(chan struct{}),
		sched: newScheduler(o.Target.Settings, phaseOf(name))}
	t.status = control.Status{Name: name, Base: o.Target.BaseID, Problem: "not looked at yet"}
	return t
}

// phaseOf returns a number from 0 to 1 that differs between targets, however similar their names are.
func phaseOf(name string) float64 {
	sum := sha256.Sum256([]byte(name))
	return float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32)
}

// now is the monotonic clock of all decisions. Setting the time of day does not change it.
func (t *target) now() time.Duration { return time.Since(t.start) }

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

// signal wakes a target that is idle. A target with pending changes takes further events when it scans,
// so a storm of events costs no more than one event.
func (t *target) signal() <-chan struct{} {
	if t.src == nil || !t.sched.pending.empty() {
		return nil
	}
	return t.src.signal()
}

func (t *target) collect() {
	if t.src != nil {
		t.sched.pending.merge(t.src.take())
	}
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

// reattach ends a detachment if the live tree was populated again, by an init that did not reach the
// daemon.
func (t *target) reattach() bool {
	r, err := t.o.Record()
	if err != nil || r == nil || r.State != overlay.Populated {
		return false
	}
	if was := t.before; was != nil && was.Identity == r.Identity && was.Time.Equal(r.Time) {
		return false
	}
	t.detached = false
	t.sched.requestFull()
	return true
}

// call runs f in the target's goroutine, with that goroutine's context. It returns when f is done or ctx
// ends. f runs to its end even if nobody waits for it.
func (t *target) call(ctx context.Context, f func(context.Context)) error {
	done := make(chan struct{})
	select {
	case t.calls <- func(ctx context.Context) { defer close(done); f(ctx) }:
	case <-t.ended:
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// detach releases live and cfg: when it returns, no descriptor below them is open, and none will be until
// attach.
func (t *target) detach() {
	t.disarm()
	t.o.Forget()
	t.before, _ = t.o.Record() // a record that cannot be read is not that of a later start
	t.detached, t.down, t.probeAt = true, false, t.now()+probe
	t.lastProblem = ""
	t.mu.Lock()
	t.status.Watched, t.status.Populated, t.status.Down = false, false, true
	t.status.Problem, t.status.Watch = "detached", ""
	t.mu.Unlock()
}

func (t *target) attach(ctx context.Context) {
	t.detached, t.adopted, t.noWatch = false, false, 0
	t.o.Forget()
	t.sched.requestFull()
	t.scanAndSave(ctx)
}

// finish does the last save: of everything, settled or not.
func (t *target) finish(within time.Duration) {
	if t.detached {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if t.o.Quiet(ctx, overlay.LookOptions{}) != nil {
		return
	}
	r, err := t.o.Save(ctx, overlay.SaveOptions{Times: true})
	switch {
	case err == nil:
		t.logSaved(r)
	case !errors.Is(err, overlay.ErrNotPopulated):
		t.log.Error().Err(err).Msg("last save")
	}
}
