package watcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cfgd/config"
	"cfgd/overlay"
	"cfgd/overlay/tree"
)

// rearms bounds how often one look follows a tree that grows directories while it is looked at.
const rearms = 8

// look scans and saves what is still, and watches what it found. Directories that were not watched while
// they were listed are looked at once more: what was made in them meanwhile is found now, and what is
// made from now on is heard.
func (t *target) look(ctx context.Context) {
	r, err := t.save(ctx, overlay.SaveOptions{}, false)
	for n := 0; err == nil && t.rearm(r); n++ {
		if n == rearms { // the tree still grows: all of it is looked at, and watched, once more after settle
			t.agenda.heard.lose(t.now())
			return
		}
		r, err = t.save(ctx, overlay.SaveOptions{}, false)
	}
}

// flush saves all, still or not, or with paths what is below them.
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
		t.agenda.heard.lose(t.now())
	}
	return r, err
}

// save is one look and what it saves; flush is one that was asked for.
func (t *target) save(ctx context.Context, so overlay.SaveOptions, flush bool) (*overlay.Result, error) {
	began := time.Now()
	t.setBusy(began)
	defer t.setBusy(time.Time{})
	t.listen()
	l := t.agenda.begin(t.now(), time.Now().UnixNano(), flush)
	if l.whole() {
		t.wholes++
	}
	so.Dirty, so.Rehash = l.dirty, l.rehash
	if !flush {
		so.Still = t.still
	}
	r, err := t.saved(ctx, so, flush)
	if errors.Is(err, overlay.ErrNotPopulated) && t.adopt(ctx) {
		r, err = t.saved(ctx, so, flush) // or says that it is of an earlier start
	}
	if err != nil && ctx.Err() != nil { // the daemon is ending: that is no failure
		t.agenda.failed(t.now())
		return r, err
	}
	t.down = errors.Is(err, overlay.ErrNotPopulated)
	if err != nil {
		t.agenda.failed(t.now())
		t.probeAt = t.now() + probe
	} else {
		t.done(l, r)
	}
	if t.down {
		t.disarm()
	}
	t.counts.observe(t.cfg.Name, time.Since(began), r, err)
	t.report(l, r, err)
	t.outlived(err)
	return r, err
}

func (t *target) saved(ctx context.Context, so overlay.SaveOptions, flush bool) (*overlay.Result, error) {
	if !flush {
		if r := t.o.Quiet(ctx, overlay.LookOptions{Dirty: so.Dirty, Rehash: so.Rehash}); r != nil {
			return r, nil
		}
	}
	return t.o.Save(ctx, so)
}

func (t *target) done(l look, r *overlay.Result) {
	for _, p := range r.Unsettled {
		t.agenda.moved(t.now(), p)
	}
	if l.whole() && len(r.Saved)+len(r.Released) == 0 {
		// what there was to save says nothing of the next scan
		t.scanTook = t.now() - l.began
	}
	t.agenda.done(l, t.period())
	t.agenda.pause(l.began, t.now())
}

// still asks the agenda, but for what is not saved anyway: it would be in its way for ever.
func (t *target) still(c tree.Change) bool {
	if c.New != nil && (c.New.Kind.Special() || c.New.Unread != "") {
		return true
	}
	if class, _ := t.cfg.Classes.Of(c.Path); class == config.Report || class == config.Ignore ||
		class == config.Volatile {
		return true
	}
	q := changed{path: c.Path, gone: c.New == nil}
	if c.New != nil {
		q.stamp, q.ctime = c.New.Stamp(), c.New.CTime()
	}
	return t.agenda.still(t.now(), time.Now().UnixNano(), q)
}

// scanShare is the part of a core's time that scan-only targets may take together, as a divisor.
const scanShare = 200

// shortScan is the shortest period of a scan-only target.
const shortScan = time.Second

// period is the time between two scans: the configured one where events tell of changes, else as short as
// the share of a core for scanning allows.
func (t *target) period() time.Duration {
	if t.src != nil {
		return t.cfg.Rescan
	}
	return min(max(t.scanTook*scanShare*time.Duration(t.budget.targets()), shortScan), t.cfg.Rescan)
}

// adopt tries, once a start, to take over a live tree that something else populated. It reports whether there
// is something new to be said of it: that it is taken over, or that it never will be.
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

// anew is after how many whole looks watches are renewed, which takes a seventh of the time of a look.
const anew = 10

// rewatch is the time after which watching is tried again where it could not be had.
const rewatch = 10 * time.Minute

// rearm watches what the look found. It reports whether directories are among it that were not watched
// before.
func (t *target) rearm(r *overlay.Result) bool {
	live := r.View.Live
	if live == nil || t.cfg.Watch == config.WatchScan || t.now() < t.noWatch {
		return false
	}
	if err := t.watch(live); err != nil {
		t.unwatched(err)
		return false
	}
	fresh, err := t.src.arm(live, t.wholes%anew == 0)
	if err != nil {
		t.unwatched(err)
		return false
	}
	for _, d := range fresh {
		t.agenda.heard.list(t.now(), d)
	}
	t.setWatch()
	return len(fresh) > 0
}

// watch opens the source where there is none, and takes what the tree costs from what all targets may take.
func (t *target) watch(live *tree.Tree) error {
	cost := watchCost(live)
	if t.cfg.Watch == config.WatchAuto && !t.budget.take(cost-t.cost) {
		return errTooMany
	}
	t.cost = cost
	if t.cfg.Watch != config.WatchAuto {
		t.cost = 0
	}
	if t.src != nil {
		return nil
	}
	src, err := t.open(t.o, newEar(t.now))
	if err != nil {
		return err
	}
	t.src = src
	return nil
}

// unwatched goes over to scanning.
func (t *target) unwatched(why error) {
	t.noWatch = t.now() + rewatch
	t.disarm()
	t.agenda.nextScan = min(t.agenda.nextScan, t.now()+t.period())
	t.logOnce("watch", "cannot watch; scanning instead: "+why.Error())
	t.setWatch()
}

// disarm closes the source: no descriptor below live is open after it.
func (t *target) disarm() {
	if t.src != nil {
		t.listen()
		if err := t.src.close(); err != nil {
			t.log.Debug().Err(err).Msg("close the source of events")
		}
		t.src = nil
	}
	t.budget.give(t.cost)
	t.cost = 0
}
