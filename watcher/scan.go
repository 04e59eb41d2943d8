package watcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/overlay"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
	"cfgd/watcher/control"
)

// scanAndSave scans, saves what has settled, and watches what it found. Directories that were not watched
// while they were listed are scanned once more: that finds what was made in them meanwhile, and later
// changes are reported as events.
func (t *target) scanAndSave(ctx context.Context) {
	r, err := t.save(ctx, overlay.SaveOptions{}, false)
	for n := 0; err == nil && t.rearm(r); n++ {
		if n == maxRearms { // the tree still grows: a full scan follows after settle
			t.sched.pending.markAll(t.now())
			return
		}
		r, err = t.save(ctx, overlay.SaveOptions{}, false)
	}
}

// flush saves everything, settled or not; with paths, what is below them.
func (t *target) flush(ctx context.Context, so overlay.SaveOptions) (*overlay.Result, error) {
	if t.detached && !t.reattach() {
		return nil, fmt.Errorf("%w: the daemon has let go of it; cfgd jail init %s attaches it",
			overlay.ErrNotPopulated, t.cfg.Name)
	}
	so.Times = true
	r, err := t.save(ctx, so, true)
	if err == nil {
		t.rearm(r)
	}
	if len(so.Paths) > 0 { // the rest is still to be saved
		t.sched.keepWaiting(store.OnlyBelow(so.Paths))
		t.sched.pending.markAll(t.now())
	}
	return r, err
}

// save does one scan and saves what it found. flush means that somebody asked for the save.
func (t *target) save(ctx context.Context, so overlay.SaveOptions, flush bool) (*overlay.Result, error) {
	began := time.Now()
	t.setBusy(began)
	defer t.setBusy(time.Time{})
	t.collect()
	l := t.sched.begin(t.now(), time.Now().UnixNano(), flush)
	if l.full() {
		t.fullScans++
	}
	so.Dirty, so.Rehash = l.dirty, l.rehash
	so.Ready = t.ready
	if flush {
		so.Ready = overlay.AsItIs
	}
	r, err := t.saved(ctx, so, flush)
	if errors.Is(err, overlay.ErrNotPopulated) && t.adopt(ctx) {
		r, err = t.saved(ctx, so, flush) // or reports that it belongs to an earlier start
	}
	if err != nil && ctx.Err() != nil { // the daemon is ending: that is no failure
		t.sched.failed(t.now())
		return r, err
	}
	t.down = errors.Is(err, overlay.ErrNotPopulated)
	if err != nil {
		t.sched.failed(t.now())
		t.probeAt = t.now() + probe
	} else {
		t.done(l, r)
	}
	if t.down {
		t.disarm()
	}
	t.counts.observe(t.cfg.Name, time.Since(began), r, err)
	t.report(l, r, err)
	t.left.scanned(t.now(), err)
	return r, err
}

func (t *target) saved(ctx context.Context, so overlay.SaveOptions, flush bool) (*overlay.Result, error) {
	if !flush {
		if r := t.o.Unchanged(ctx, overlay.LookOptions{Dirty: so.Dirty, Rehash: so.Rehash}); r != nil {
			return r, nil
		}
	}
	return t.o.Save(ctx, so)
}

func (t *target) done(l scan, r *overlay.Result) {
	for _, p := range r.Unsettled {
		t.sched.moved(t.now(), p)
	}
	if l.full() && len(r.Saved)+len(r.Released) == 0 {
		// a scan that saved something is no measure of the next one
		t.scanTook = t.now() - l.began
	}
	t.sched.done(l, t.period())
	t.sched.pause(l.began, t.now())
}

// ready asks the scheduler about a change. A change that is never saved always counts as settled, because
// otherwise it would be waited for without end.
func (t *target) ready(c tree.Change) overlay.Readiness {
	if c.New != nil && (c.New.Kind.Special() || c.New.Unread != "" && c.New.Unread != tree.MovedOn) {
		return overlay.Settled
	}
	if class, _ := t.cfg.Classes.Of(c.Path); class == config.Report || class == config.Ignore ||
		class == config.Volatile {
		return overlay.Settled
	}
	q := changed{path: c.Path, gone: c.New == nil, emptied: emptied(c)}
	if c.New != nil {
		q.stamp, q.ctime = c.New.Stamp(), c.New.CTime()
	}
	return t.sched.ready(t.now(), time.Now().UnixNano(), q)
}

// emptied reports whether a change puts an empty file in place of a file with content, or of a link.
func emptied(c tree.Change) bool {
	if c.Old == nil || c.New == nil || c.New.Kind != dirfd.KindFile || c.New.Size > 0 {
		return false
	}
	return c.Old.Kind == dirfd.KindFile && c.Old.Size > 0 || c.Old.Kind == dirfd.KindSymlink
}

// adopt tries, once for each start, to take over a live tree that something else populated. It reports
// whether there is news about the tree: it was taken over, or it never will be.
func (t *target) adopt(ctx context.Context) bool {
	if t.adopted {
		return false
	}
	t.adopted = true
	if r, err := t.o.Record(); err != nil || r != nil {
		return false
	}
	taken, err := t.o.AdoptLive(ctx)
	if err != nil {
		t.log.Debug().Err(err).Msg("not adopted")
		return errors.Is(err, overlay.ErrEarlier)
	}
	if taken.Merge != nil {
		t.log.Info().Str("from", taken.Merge.From).Str("to", taken.Merge.To).
			Int("conflicts", taken.Merge.Conflicts()).Msg("merged with the defaults of another image")
	}
	if taken.Unmerged != nil {
		t.log.Warn().Err(taken.Unmerged).Msg("not merged with the defaults of another image")
	}
	t.log.Info().Msg("adopted the live tree that is in place")
	return true
}

// report updates the status and logs what is new in it.
func (t *target) report(l scan, r *overlay.Result, err error) {
	s := t.update(func(s *control.Status) {
		s.Fill(r, err, l.full())
		s.Watched, s.Watch = err == nil || r != nil && r.View != nil && r.View.Live != nil, t.watchMode()
	})
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

// maxRearms bounds how often one scan follows a tree that gets new directories while it is scanned.
const maxRearms = 8
