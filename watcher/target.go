package watcher

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"cfgd/config"
	"cfgd/overlay"
	"cfgd/watcher/control"
)

// errEnded reports that the daemon no longer serves a target.
var errEnded = errors.New("the daemon no longer watches it")

// target is the loop of one target. All fields belong to its goroutine, except those before calls, and
// published.
type target struct {
	o      *overlay.Overlay
	cfg    *config.Target
	budget *budget
	start  time.Time
	open   func(*overlay.Overlay, *collector) (source, error)
	onScan func(control.Status) // for tests: called after each scan
	counts *metrics

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

	left outlived
	published
}

func newTarget(o *overlay.Overlay, log zerolog.Logger, b *budget) *target {
	name := o.Target.Name
	t := &target{o: o, cfg: o.Target, budget: b,
		start: time.Now(), open: newSource,
		logDedup:  logDedup{log: log.With().Str("target", name).Logger()},
		calls:     make(chan func(context.Context)),
		firstScan: make(chan struct{}), ended: make(chan struct{}),
		sched: newScheduler(o.Target.Settings, phaseOf(name))}
	t.status = control.Status{Name: name, Base: o.Target.BaseID, Problem: "not scanned yet"}
	return t
}

// phaseOf returns a number from 0 to 1 that differs between targets, however similar their names are.
func phaseOf(name string) float64 {
	sum := sha256.Sum256([]byte(name))
	return float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32)
}

// now is the monotonic clock of all decisions. Setting the time of day does not change it.
func (t *target) now() time.Duration { return time.Since(t.start) }

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

// probe is how often the daemon checks whether a missing live tree has been populated. The check reads
// one small file.
const probe = 2 * time.Second
