package watcher

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"cfgd/config"
	"cfgd/overlay"
)

// Bounds of the pauses between tries of a target that fails.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// scanShare is the part of a core's time that scan-only targets may take together, as a divisor.
const scanShare = 200

// shortScan is the shortest period of a scan-only target.
const shortScan = time.Second

// target is the loop of one target. All fields but status belong to its goroutine.
type target struct {
	o      *overlay.Overlay
	cfg    *config.Target
	log    zerolog.Logger
	budget *budget
	peers  func() int // how many targets there are
	open   func(root string) (source, error)

	calls chan func(context.Context)

	src      source
	cost     int // taken from the budget
	detached time.Time
	adopted  bool // AdoptLive was tried

	dirty      map[string]bool
	all        bool      // everything is dirty
	firstDirty time.Time // of the dirt that is not looked at yet
	lastDirty  time.Time
	pending    map[string]waiting // what was not still at the last look

	nextScan, nextHash time.Time
	scanTook           time.Duration
	failures           int
	retry              time.Time
	said               string // the problem that was logged last

	mu     sync.Mutex // guards status
	status Status
}

// waiting is a path that was not still: its stamp, since when it has that stamp, and since when it waits.
type waiting struct {
	stamp overlay.Stamp
	since time.Time
	first time.Time
}

func newTarget(o *overlay.Overlay, log zerolog.Logger, b *budget, peers func() int) *target {
	t := &target{o: o, cfg: o.Target, log: log.With().Str("target", o.Target.Name).Logger(), budget: b, peers: peers,
		calls: make(chan func(context.Context)), dirty: map[string]bool{}, pending: map[string]waiting{}, all: true}
	t.open = func(root string) (source, error) { return newNotify(root) }
	t.status = Status{Name: o.Target.Name, Problem: "not looked at yet"}
	return t
}

// Run keeps the target saved until ctx ends; then it saves once more, still or not, within last.
func (t *target) Run(ctx context.Context, last time.Duration) {
	defer t.disarm()
	t.look(ctx, false)
	for {
		timer := time.NewTimer(max(time.Until(t.wake()), 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			t.finish(last)
			return
		case e := <-t.sourceEvents():
			t.mark(e)
		case f := <-t.calls:
			f(ctx)
		case <-timer.C:
			t.due(ctx)
		}
		timer.Stop()
	}
}

// call runs f in the target's goroutine and returns when it is done, or when ctx ends.
func (t *target) call(ctx context.Context, f func(context.Context)) error {
	done := make(chan struct{})
	select {
	case t.calls <- func(context.Context) { defer close(done); f(ctx) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-done
	return nil
}

func (t *target) sourceEvents() <-chan event {
	if t.src == nil {
		return nil
	}
	return t.src.events()
}

func (t *target) mark(e event) {
	now := time.Now()
	if len(t.dirty) == 0 && !t.all {
		t.firstDirty = now
	}
	t.lastDirty = now
	if e.lost {
		t.all = true
		return
	}
	t.dirty[e.dir] = true
}

// wake is when the target is to be looked at next.
func (t *target) wake() time.Time {
	switch {
	case !t.detached.IsZero():
		return t.retry
	case t.failures > 0:
		return t.retry
	}
	at := t.nextScan
	if len(t.dirty) > 0 || t.all {
		at = earlier(at, earlier(t.lastDirty.Add(t.cfg.Settle), t.firstDirty.Add(t.cfg.MaxWait)))
	}
	for _, w := range t.pending {
		at = earlier(at, earlier(w.since.Add(t.cfg.Settle), w.first.Add(t.cfg.MaxWait)))
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// due does what wake was about.
func (t *target) due(ctx context.Context) {
	if !t.detached.IsZero() && !t.reattach() {
		return
	}
	t.look(ctx, false)
}

// reattach ends a detachment when the live tree was populated anew, by an init that did not reach the daemon.
func (t *target) reattach() bool {
	t.retry = time.Now().Add(lastPause)
	r, err := t.o.Record()
	if err != nil || r == nil || r.State != overlay.Populated || !r.Time.After(t.detached) {
		return false
	}
	t.detached = time.Time{}
	return true
}

// look scans and saves what is still, or with force all; it plans the next look.
func (t *target) look(ctx context.Context, flush bool) *overlay.Result {
	r, err := t.save(ctx, flush, overlay.SaveOptions{})
	for n := 0; n < rearms && err == nil && t.rearm(r); n++ {
		// New directories were not watched while they were listed: what was made in them meanwhile is found now.
		r, err = t.save(ctx, flush, overlay.SaveOptions{})
	}
	t.report(r, err)
	return r
}

// rearms bounds how often one look follows a tree that grows directories while it is looked at.
const rearms = 8

// save is one scan and save. What it looks at is what is dirty, or all when a scan is due.
func (t *target) save(ctx context.Context, flush bool, so overlay.SaveOptions) (*overlay.Result, error) {
	now := time.Now()
	if !t.all && now.Before(t.nextScan) && len(t.pending)+len(t.dirty) > 0 && !flush {
		so.Dirty = maps.Clone(t.dirty)
		for p := range t.pending {
			so.Dirty[dirOf(p)] = true
		}
	}
	so.Rehash = !now.Before(t.nextHash)
	if so.Rehash {
		so.Dirty = nil
	}
	if !flush && so.Still == nil {
		so.Still = t.still
	}
	clear(t.dirty)
	t.all = false
	if !flush && t.o.Quiet(ctx, overlay.LookOptions{Dirty: so.Dirty, Rehash: so.Rehash}) {
		t.scheduled(so, now)
		return nil, nil
	}
	seen := t.pending
	t.pending = map[string]waiting{}
	r, err := t.o.Save(ctx, so)
	if err != nil {
		t.pending = seen
		t.all = true
		return r, err
	}
	for _, p := range r.Unsettled { // moved on while it was copied: still() did not see it
		if _, ok := t.pending[p]; !ok {
			t.pending[p] = waiting{since: now, first: now}
		}
	}
	for p, w := range t.pending {
		if was, ok := seen[p]; ok {
			w.first = was.first
			t.pending[p] = w
		}
	}
	t.scheduled(so, now)
	return r, nil
}

// scheduled plans the next scans after one that began at now.
func (t *target) scheduled(so overlay.SaveOptions, now time.Time) {
	t.scanTook = time.Since(now)
	if so.Dirty == nil {
		t.nextScan = now.Add(t.period())
	}
	if so.Rehash {
		t.nextHash = now.Add(t.cfg.Rehash)
	}
}

// period is the time between two scans: the configured one where events tell of changes, else as short as the share of
// a core for scanning allows.
func (t *target) period() time.Duration {
	if t.src != nil {
		return t.cfg.Rescan
	}
	return min(max(t.scanTook*scanShare*time.Duration(t.peers()), shortScan), t.cfg.Rescan)
}

// still decides whether a changed path has been as it is for settle, or has waited for max_wait.
func (t *target) still(c overlay.Change) bool {
	now := time.Now()
	if c.New == nil {
		return true
	}
	if quiet := now.UnixNano() - c.New.CTime(); quiet >= int64(t.cfg.Settle) {
		return true
	}
	w, ok := t.pending[c.Path]
	stamp := c.New.Stamp()
	if !ok || w.stamp != stamp {
		if !ok {
			w.first = now
		}
		w.stamp, w.since = stamp, now
	}
	if now.Sub(w.since) >= t.cfg.Settle || now.Sub(w.first) >= t.cfg.MaxWait {
		return true
	}
	t.pending[c.Path] = w
	return false
}

func dirOf(p string) string {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] == '/' {
			return p[:i]
		}
	}
	return ""
}

// rearm watches the directories that the look found. It reports whether some of them were not watched before.
func (t *target) rearm(r *overlay.Result) bool {
	if r == nil || r.View == nil || r.View.Live == nil || t.cfg.Watch == config.WatchScan {
		return false
	}
	if t.src == nil && !t.startSource(r.View.Live) {
		return false
	}
	fresh, err := t.src.arm(r.View.Live.Dirs())
	if err != nil {
		t.log.Warn().Err(err).Msg("cannot watch; scanning instead")
		t.disarm()
		return false
	}
	for _, d := range fresh {
		t.dirty[d] = true
	}
	t.all = t.all || len(fresh) > 64
	return len(fresh) > 0
}

func (t *target) startSource(live *overlay.Tree) bool {
	cost := watchCost(live)
	if t.cfg.Watch == config.WatchAuto && !t.budget.take(cost) {
		return false
	}
	src, err := t.open(t.o.Path(t.cfg.Live))
	if err != nil {
		t.log.Warn().Err(err).Msg("cannot watch; scanning instead")
		t.budget.give(cost)
		return false
	}
	t.src, t.cost = src, cost
	if t.cfg.Watch != config.WatchAuto {
		t.cost = 0
	}
	return true
}

// disarm closes the source: no descriptor below live is open after it.
func (t *target) disarm() {
	if t.src == nil {
		return
	}
	if err := t.src.close(); err != nil {
		t.log.Debug().Err(err).Msg("close watches")
	}
	t.budget.give(t.cost)
	t.src, t.cost = nil, 0
}

// report keeps the status, logs what is new in it, and plans the next try after a failure.
func (t *target) report(r *overlay.Result, err error) {
	if errors.Is(err, overlay.ErrNotPopulated) {
		t.disarm()
		if t.adopt() {
			t.failures, t.retry, t.all = 1, time.Now(), true
			return
		}
	}
	s := t.Status()
	s.Watched, s.Watch = err == nil, t.how()
	s.fill(r, err)
	if err == nil && r == nil { // a quiet look
		now := time.Now().UTC()
		s.SavedAsOf = &now
	}
	t.mu.Lock()
	t.status = s
	t.mu.Unlock()
	t.say(r, err, s.Problem)
	t.plan(err)
}

func (t *target) how() string {
	if t.src != nil {
		return string(config.WatchFsnotify)
	}
	return fmt.Sprintf("%s every %s", config.WatchScan, t.period().Round(100*time.Millisecond))
}

func (t *target) plan(err error) {
	if err == nil {
		t.failures = 0
		return
	}
	t.retry = time.Now().Add(min(firstPause<<min(t.failures, 10), lastPause))
	t.failures++
}

// say logs what was saved, and each problem once.
func (t *target) say(r *overlay.Result, err error, words string) {
	if err == nil && r != nil && (len(r.Saved) > 0 || len(r.Released) > 0) {
		t.log.Info().Int("generation", r.Generation).Int("paths", len(r.Saved)).Int("released", len(r.Released)).Msg("saved")
	}
	if r != nil && r.View != nil {
		for _, n := range r.View.Notices {
			t.log.Warn().Msg(n)
		}
	}
	if words == t.said {
		return
	}
	t.said = words
	if words == "" {
		t.log.Info().Msg("all is well again")
	} else {
		t.log.Warn().Msg(words)
	}
}

// adopt tries, once a start, to take over a live tree that something else populated.
func (t *target) adopt() bool {
	if t.adopted {
		return false
	}
	t.adopted = true
	if r, err := t.o.Record(); err != nil || r != nil {
		return false
	}
	if err := t.o.AdoptLive(context.Background()); err != nil {
		t.log.Debug().Err(err).Msg("not adopted")
		return false
	}
	t.log.Info().Msg("adopted the live tree that is in place")
	return true
}

// Status is what the last look found. It is safe to call from anywhere.
func (t *target) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// detach lets go of live and cfg: when it returns no descriptor below them is open, and none will be until attach.
func (t *target) detach() {
	t.disarm()
	t.o.Forget()
	t.detached, t.retry = time.Now(), time.Now().Add(lastPause)
	t.said = ""
	t.mu.Lock()
	t.status.Watched, t.status.Populated, t.status.Down, t.status.Problem, t.status.Watch = false, false, true, "detached", ""
	t.mu.Unlock()
}

func (t *target) attach(ctx context.Context) {
	t.detached, t.failures, t.all, t.adopted = time.Time{}, 0, true, false
	t.nextScan = time.Time{}
	t.o.Forget()
	t.look(ctx, false)
}

// finish is the last save: what is there is saved, still or not.
func (t *target) finish(within time.Duration) {
	if !t.detached.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	r, err := t.o.Save(ctx, overlay.SaveOptions{Times: true})
	if err != nil && !errors.Is(err, overlay.ErrNotPopulated) {
		t.log.Error().Err(err).Msg("last save")
	}
	if r != nil && err == nil {
		t.say(r, nil, "")
	}
}
