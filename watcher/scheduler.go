package watcher

import (
	"time"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/overlay"
	"cfgd/overlay/tree"
)

// Bounds of the pauses between tries of a target that fails. lastPause is short for an administrator who
// has fixed the cause and waits, and long enough for a hundred targets that fail at once.
const (
	firstPause = time.Second
	lastPause  = 5 * time.Second
)

// scheduler decides when a target is scanned next, which part of it, and which changes have settled. It
// is pure: the caller passes all times. now is the time since the target's start, by a monotonic clock.
// wall is the clock of file times, in nanoseconds since 1970; somebody may set it. The scheduler trusts
// wall only while it advances evenly with now.
type scheduler struct {
	config.Settings // Settle, MaxWait, Rescan, Rehash

	pending     dirtySet // reported since the last scan began
	current     dirtySet // what the current scan works from
	full        bool     // the next scan is of the whole tree
	waiting     map[string]waitingChange
	prevWaiting map[string]waitingChange // waiting, when the current scan began

	// The stamps of settled changes. Some settled changes are not saved (a conflict, a save that fails).
	// They stay settled and are not waited for again. An entry is kept until a full scan no longer asks
	// for it.
	settled, prevSettled map[string]tree.Stamp

	phase              float64
	nextScan, nextHash time.Duration
	failures           int
	retry              time.Duration
	notBefore          time.Duration // no scan before then, unless one is requested

	wallSeen      bool
	wallOffset    int64         // wall minus now, when last observed
	wallValidFrom time.Duration // since when the wall clock has not been set
}

// waitingChange is a change that has not settled: its stamp, since when it has that stamp, and since when
// it waits.
type waitingChange struct {
	stamp   tree.Stamp
	since   time.Duration
	first   time.Duration // never if it was saved unsettled and has not changed since
	emptied time.Duration // since when all scans found it emptied; never if the last one did not
}

// newScheduler returns a scheduler whose first scan is a full one, at once. phase, from 0 to 1, spreads
// the scans of targets that start together.
func newScheduler(s config.Settings, phase float64) *scheduler {
	return &scheduler{
		Settings: s,
		phase:    phase,
		full:     true,
		waiting:  map[string]waitingChange{},
		settled:  map[string]tree.Stamp{},
		nextScan: never,
		nextHash: scale(s.Rehash, phase),
	}
}

func scale(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

// next returns when to scan. It is never before the time at which something can have settled.
func (a *scheduler) next() time.Duration {
	if a.failures > 0 {
		return a.retry
	}
	if a.full {
		return 0
	}
	at := min(a.nextScan, a.pending.dueAt(a.Settle, a.MaxWait))
	if a.pending.all {
		at = min(at, a.pending.lostAt+min(a.Settle, a.MaxWait))
	}
	for p, w := range a.waiting {
		at = min(at, a.dueAt(p, w))
	}
	return max(at, a.notBefore)
}

// dueAt returns when a waiting change has settled or has waited for max_wait. A file that is empty is
// looked at again before that only if an event says that it may have content again.
func (a *scheduler) dueAt(path string, w waitingChange) time.Duration {
	m, marked := a.pending.paths[path]
	at := min(max(w.since, m.last)+a.Settle, w.first+a.MaxWait)
	if w.emptied == never {
		return at
	}
	at = max(at, w.emptied+a.MaxWait)
	if marked {
		at = min(at, max(w.first+a.MaxWait, m.first+a.Settle))
	}
	return at
}

// scan describes one scan of a target.
type scan struct {
	began  time.Duration
	dirty  map[string]bool // directories to list; nil for all
	rehash bool
}

func (l scan) full() bool { return l.dirty == nil }

// begin starts a scan: a full one if that is requested or due.
func (a *scheduler) begin(now time.Duration, wall int64, whole bool) scan {
	a.observeClock(now, wall)
	l := scan{began: now, rehash: now >= a.nextHash}
	whole = whole || a.full || l.rehash || a.pending.all || now >= a.nextScan
	a.current, a.pending = a.pending, dirtySet{}
	a.prevWaiting, a.waiting = a.waiting, map[string]waitingChange{}
	a.full, a.prevSettled = false, a.settled
	if whole {
		a.settled = map[string]tree.Stamp{}
		return l
	}
	l.dirty = map[string]bool{}
	for d := range a.current.dirs {
		l.dirty[d] = true
	}
	for p := range a.prevWaiting { // the change may be that a directory above it is gone
		for p != "" {
			p = pathname.Parent(p)
			l.dirty[p] = true
		}
	}
	return l
}

// maxUneven is how far the wall clock may deviate from an even pace between two scans. More means that
// somebody set it.
const maxUneven = 50 * time.Millisecond

// observeClock notices that the wall clock was set. Ages of files by that clock then mean nothing, until
// every change from before has settled, or was empty for max_wait, anyway.
func (a *scheduler) observeClock(now time.Duration, wall int64) {
	ahead := wall - int64(now)
	if a.wallSeen && time.Duration(ahead-a.wallOffset).Abs() > maxUneven {
		a.wallValidFrom = now + max(a.Settle, a.MaxWait)
	}
	a.wallSeen, a.wallOffset = true, ahead
}

// changed is a difference that a scan found: a path, its stamp, and its ctime by the wall clock. gone is
// true if the path was deleted, emptied if the file is empty and what is saved of it is not.
type changed struct {
	path    string
	gone    bool
	emptied bool
	stamp   tree.Stamp
	ctime   int64
}

// ready says whether a change has been at rest for settle, or else has waited for max_wait. The caller asks
// about every change that the current scan found. A program that writes a file anew truncates it first, and
// may be slow to go on. So a file that was emptied has not settled until it was empty for max_wait.
func (a *scheduler) ready(now time.Duration, wall int64, c changed) overlay.Readiness {
	a.observeClock(now, wall)
	m, marked := a.current.spanOf(c.path, c.gone)
	if s, ok := a.prevSettled[c.path]; ok && s == c.stamp && !marked {
		a.settled[c.path] = s
		return overlay.Settled
	}
	w, waited := a.prevWaiting[c.path]
	if !waited || w.first == never {
		w.first, w.emptied = now, never
		if marked {
			w.first = m.first
		}
	}
	same := waited && w.stamp == c.stamp
	if !same {
		w.stamp, w.since = c.stamp, a.lastChange(now, wall, c, m, marked)
	} else if marked {
		w.since = max(w.since, m.last)
	}
	switch {
	case !c.emptied:
		w.emptied = never
	case w.emptied == never:
		w.emptied = w.since
	}
	switch {
	case c.emptied && now-w.emptied < a.MaxWait:
	case now-w.since >= a.Settle:
		a.settled[c.path] = c.stamp
		return overlay.Settled
	case now-w.first >= a.MaxWait:
		// scan it again, even without an event
		a.waiting[c.path] = waitingChange{c.stamp, now, never, never}
		return overlay.Overdue
	}
	a.waiting[c.path] = w
	return overlay.Unsettled
}

// lastChange returns the latest time at which a new change can have been made: by its event, by its
// ctime, or else now.
func (a *scheduler) lastChange(now time.Duration, wall int64, c changed, m span, marked bool) time.Duration {
	age := time.Duration(wall - c.ctime)
	if c.ctime%int64(time.Second) == 0 {
		age -= time.Second // a filesystem of whole seconds (vfs.timestamp_precision=0)
	}
	timed := !c.gone && age >= 0 && now >= a.wallValidFrom
	switch {
	case marked && timed:
		return max(m.last, now-age)
	case marked:
		return m.last
	case timed:
		return now - age
	}
	return now
}

// moved records that a path was not saved, because it changed meanwhile. Its wait goes on: it does not begin
// anew, also if the path was overdue.
func (a *scheduler) moved(now time.Duration, path string) {
	if w, ok := a.waiting[path]; ok && w.first != never {
		return
	}
	first := now
	if m, ok := a.current.spanOf(path, true); ok {
		first = m.first
	}
	if w, ok := a.prevWaiting[path]; ok && w.first != never {
		first = w.first
	}
	a.waiting[path] = waitingChange{tree.Stamp{}, now, first, never}
}

// keepWaiting makes the changes that waited before the current scan wait on, except those that saved reports.
func (a *scheduler) keepWaiting(saved func(path string) bool) {
	for p, w := range a.prevWaiting {
		if _, ok := a.waiting[p]; !ok && !saved(p) {
			a.waiting[p] = w
		}
	}
}

// done ends a scan that succeeded. period is the time between two full scans.
func (a *scheduler) done(l scan, period time.Duration) {
	a.failures = 0
	switch {
	case a.nextScan == never:
		a.nextScan = l.began + scale(period, a.phase)
	case l.full():
		a.nextScan = l.began + period
	}
	if l.rehash {
		a.nextHash = l.began + a.Rehash
	}
}

// pause makes the next scan wait as long as this one took, at most max_wait. When changes come faster
// than scans can save them, each scan takes all that came during the one before, and half of the time is
// left to those who make the changes.
func (a *scheduler) pause(began, now time.Duration) { a.notBefore = now + min(now-began, a.MaxWait) }

// failed ends a scan that failed. The next scan is a full one, after a pause that grows.
func (a *scheduler) failed(now time.Duration) {
	a.waiting, a.full = a.prevWaiting, true
	a.current.merge(a.pending)
	a.pending = a.current
	a.retry = now + min(firstPause<<min(a.failures, 10), lastPause)
	a.failures++
}

// requestFull makes the next scan a full one, at once.
func (a *scheduler) requestFull() { a.full, a.failures = true, 0 }
