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

// probe is how often it is looked whether a live tree that is not there has been populated: one small
// file is read.
const probe = 2 * time.Second

// errEnded says that a target is no longer looked after.
var errEnded = errors.New("the daemon no longer looks after it")

// target is the loop of one target. All fields but status and those before calls belong to its goroutine.
type target struct {
	o      *overlay.Overlay
	cfg    *config.Target
	log    zerolog.Logger
	budget *budget
	start  time.Time
	open   func(*overlay.Overlay, *ear) (source, error)
	onLook func(control.Status) // for tests: called after each look
	counts *metrics
	settle func() // for a tree that outlived its jail; nil where nobody sees to that

	calls  chan func(context.Context)
	looked chan struct{} // closed after the first look
	ended  chan struct{} // closed when Run returns

	agenda   *agenda
	src      source
	cost     int           // taken from the budget
	noWatch  time.Duration // watching is not tried again before then
	scanTook time.Duration
	wholes   int // looks at everything

	detached bool
	before   *overlay.Record // the record when it was detached
	down     bool            // live was not populated at the last look
	probeAt  time.Duration
	adopted  bool // AdoptLive was tried
	diary

	cfgGone  bool          // cfg was not mounted at the last look
	settleAt time.Duration // when that is long enough

	mu     sync.Mutex // guards status and busy
	status control.Status
	busy   time.Time // since when a look is at work; zero when none is
}

func newTarget(o *overlay.Overlay, log zerolog.Logger, b *budget) *target {
	name := o.Target.Name
	t := &target{o: o, cfg: o.Target, log: log.With().Str("target", name).Logger(), budget: b,
		start: time.Now(), open: newSource,
		calls: make(chan func(context.Context)), looked: make(chan struct{}), ended: make(chan struct{}),
		agenda: newAgenda(o.Target.Settings, phaseOf(name))}
	t.status = control.Status{Name: name, Base: o.Target.BaseID, Problem: "not looked at yet"}
	return t
}

// phaseOf spreads targets evenly from 0 to 1, however alike their names are.
func phaseOf(name string) float64 {
	sum := sha256.Sum256([]byte(name))
	return float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32)
}

// now is the clock of all decisions: it goes forward whatever happens to the time of day.
func (t *target) now() time.Duration { return time.Since(t.start) }

// Run keeps the target saved until ctx ends; then it saves once more, still or not, within last.
func (t *target) Run(ctx context.Context, last time.Duration) {
	defer close(t.ended)
	defer t.budget.leave()
	t.budget.join()
	defer t.disarm()
	t.look(ctx)
	close(t.looked)
	for ctx.Err() == nil {
		timer := time.NewTimer(t.sleep())
		select {
		case <-ctx.Done():
		case <-t.heard():
			t.listen()
		case f := <-t.calls:
			f(ctx)
		case <-timer.C:
			t.due(ctx)
		}
		timer.Stop()
	}
	t.finish(last)
}

// heard wakes a target that is at rest. One that has something in hand takes what it hears when it looks:
// a storm of events then costs no more than an event.
func (t *target) heard() <-chan struct{} {
	if t.src == nil || !t.agenda.heard.empty() {
		return nil
	}
	return t.src.heard()
}

func (t *target) listen() {
	if t.src != nil {
		t.agenda.heard.merge(t.src.take())
	}
}

func (t *target) sleep() time.Duration {
	at := t.agenda.next()
	if t.detached || t.down {
		at = t.probeAt
	}
	return max(at-t.now(), 0)
}

// due looks, if it is time: what was heard meanwhile may have put it off.
func (t *target) due(ctx context.Context) {
	if (t.detached || t.down) && !t.probe() {
		return
	}
	t.listen()
	if t.agenda.next() <= t.now() {
		t.look(ctx)
	}
}

// probe reports whether a live tree that was not there, or that was let go, has been populated since.
func (t *target) probe() bool {
	t.probeAt = t.now() + probe
	if t.detached {
		return t.reattach()
	}
	if r, err := t.o.Record(); err != nil || r == nil || r.State != overlay.Populated {
		return err != nil // an error is for the look to report
	}
	if s, err := t.o.State(); err == nil && !s.Populated {
		return false
	}
	t.agenda.again()
	return true
}

// reattach ends a detachment when the live tree was populated anew, by an init that did not reach the daemon.
func (t *target) reattach() bool {
	r, err := t.o.Record()
	if err != nil || r == nil || r.State != overlay.Populated {
		return false
	}
	if was := t.before; was != nil && was.Identity == r.Identity && was.Time.Equal(r.Time) {
		return false
	}
	t.detached = false
	t.agenda.again()
	return true
}

// call runs f in the target's goroutine, with its context, and returns when it is done, or when ctx ends.
// It runs to its end even if nobody waits any longer.
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

// detach lets go of live and cfg: when it returns no descriptor below them is open, and none will be
// until attach.
func (t *target) detach() {
	t.disarm()
	t.o.Forget()
	t.before, _ = t.o.Record() // one that cannot be read is not the one of a later start
	t.detached, t.down, t.probeAt = true, false, t.now()+probe
	t.said = ""
	t.mu.Lock()
	t.status.Watched, t.status.Populated, t.status.Down = false, false, true
	t.status.Problem, t.status.Watch = "detached", ""
	t.mu.Unlock()
}

func (t *target) attach(ctx context.Context) {
	t.detached, t.adopted, t.noWatch = false, false, 0
	t.o.Forget()
	t.agenda.again()
	t.look(ctx)
}

// finish is the last save: what is there is saved, still or not.
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
