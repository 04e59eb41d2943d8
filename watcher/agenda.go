package watcher

import (
	"time"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Bounds of the pauses between tries of a target that fails. The last is short enough for an
// administrator who has mended the cause and waits, and long enough for a hundred targets that fail at
// once.
const (
	firstPause = time.Second
	lastPause  = 5 * time.Second
)

// agenda decides when a target is looked at next, at what, and which changes are still. It is pure: it is
// told all times. now is the time since the target's start, by a clock that only goes forward; wall is
// the clock that files are stamped by, in nanoseconds since 1970, which may be set. Wall is believed only
// while it goes evenly with now.
type agenda struct {
	config.Settings // Settle, MaxWait, Rescan, Rehash

	heard  marks // since the last look began
	at     marks // what the look at hand goes by
	whole  bool  // the next look is at everything
	wait   map[string]waiting
	before map[string]waiting // wait, as it was when the look at hand began

	// What was still, by its stamp: what nevertheless is not saved (a conflict, a save that fails) is so
	// for good, and is not waited for again and again. Kept until a look at everything no longer asks for
	// it.
	rested, was map[string]tree.Stamp

	phase              float64
	nextScan, nextHash time.Duration
	failures           int
	retry              time.Duration
	rest               time.Duration // no look before then but one that is asked for

	seen     bool
	ahead    int64         // wall less now, as last seen
	evenFrom time.Duration // the wall clock was not set since
}

// waiting is a change that was not still: its stamp, since when it is known to have it, and since when it
// waits.
type waiting struct {
	stamp tree.Stamp
	since time.Duration
	first time.Duration // never for one that was saved in motion, and has not been seen to move since
}

// newAgenda begins with a whole look at once. phase, from 0 to 1, keeps targets that start together from
// scanning together ever after.
func newAgenda(s config.Settings, phase float64) *agenda {
	return &agenda{
		Settings: s,
		phase:    phase,
		whole:    true,
		wait:     map[string]waiting{},
		rested:   map[string]tree.Stamp{},
		nextScan: never,
		nextHash: scale(s.Rehash, phase),
	}
}

func scale(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

// next is when to look. It is never earlier than what can have changed since the last look.
func (a *agenda) next() time.Duration {
	if a.failures > 0 {
		return a.retry
	}
	if a.whole {
		return 0
	}
	at := min(a.nextScan, a.heard.ripe(a.Settle, a.MaxWait))
	if a.heard.isAll {
		at = min(at, a.heard.lost+min(a.Settle, a.MaxWait))
	}
	for p, w := range a.wait {
		since := max(w.since, a.heard.paths[p].last)
		at = min(at, since+a.Settle, w.first+a.MaxWait)
	}
	return max(at, a.rest)
}

// look is what one look is about.
type look struct {
	began  time.Duration
	dirty  map[string]bool // directories to list; nil is all
	rehash bool
}

func (l look) whole() bool { return l.dirty == nil }

// begin starts a look, of everything where that is asked for or due.
func (a *agenda) begin(now time.Duration, wall int64, whole bool) look {
	a.observe(now, wall)
	l := look{began: now, rehash: now >= a.nextHash}
	whole = whole || a.whole || l.rehash || a.heard.isAll || now >= a.nextScan
	a.at, a.heard = a.heard, marks{}
	a.before, a.wait = a.wait, map[string]waiting{}
	a.whole, a.was = false, a.rested
	if whole {
		a.rested = map[string]tree.Stamp{}
		return l
	}
	l.dirty = map[string]bool{}
	for d := range a.at.dirs {
		l.dirty[d] = true
	}
	for p := range a.before { // a change may be that something above is gone
		for p != "" {
			p = pathname.Parent(p)
			l.dirty[p] = true
		}
	}
	return l
}

// maxUneven is by how much the wall clock may stray from an even pace between two looks: more is a clock
// that was set.
const maxUneven = 50 * time.Millisecond

// observe notices that the wall clock was set: ages of files by it mean nothing until what changed before
// then is still anyway.
func (a *agenda) observe(now time.Duration, wall int64) {
	ahead := wall - int64(now)
	if a.seen && time.Duration(ahead-a.ahead).Abs() > maxUneven {
		a.evenFrom = now + a.Settle
	}
	a.seen, a.ahead = true, ahead
}

// changed is what a look found different: a path, its stamp, and when it was changed by the wall clock.
// Gone is one that was deleted.
type changed struct {
	path  string
	gone  bool
	stamp tree.Stamp
	ctime int64
}

// still decides whether a change has rested for settle, or has waited for max_wait. It is asked of every
// change of the look at hand.
func (a *agenda) still(now time.Duration, wall int64, c changed) bool {
	a.observe(now, wall)
	m, marked := a.at.of(c.path, c.gone)
	if s, ok := a.was[c.path]; ok && s == c.stamp && !marked {
		a.rested[c.path] = s
		return true
	}
	w, waited := a.before[c.path]
	if !waited || w.first == never {
		w.first = now
		if marked {
			w.first = m.first
		}
	}
	same := waited && w.stamp == c.stamp
	if !same {
		w.stamp, w.since = c.stamp, a.since(now, wall, c, m, marked)
	} else if marked {
		w.since = max(w.since, m.last)
	}
	switch {
	case now-w.since >= a.Settle:
		a.rested[c.path] = c.stamp
		return true
	case now-w.first >= a.MaxWait:
		a.wait[c.path] = waiting{c.stamp, now, never} // look again, even if no event tells
		return true
	}
	a.wait[c.path] = w
	return false
}

// since is the last time at which a change that was not seen before can have been made: by its event, by
// its time, or else now.
func (a *agenda) since(now time.Duration, wall int64, c changed, m span, marked bool) time.Duration {
	age := time.Duration(wall - c.ctime)
	if c.ctime%int64(time.Second) == 0 {
		age -= time.Second // a filesystem of whole seconds (vfs.timestamp_precision=0)
	}
	timed := !c.gone && age >= 0 && now >= a.evenFrom
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

// moved is told of a change that moved on while it was saved.
func (a *agenda) moved(now time.Duration, path string) {
	if _, ok := a.wait[path]; ok {
		return
	}
	first := now
	if m, ok := a.at.of(path, true); ok {
		first = m.first
	}
	if w, ok := a.before[path]; ok && w.first != never {
		first = w.first
	}
	a.wait[path] = waiting{tree.Stamp{}, now, first}
}

// done ends a look that succeeded; period is the time between two whole ones.
func (a *agenda) done(l look, period time.Duration) {
	a.failures = 0
	switch {
	case a.nextScan == never:
		a.nextScan = l.began + scale(period, a.phase)
	case l.whole():
		a.nextScan = l.began + period
	}
	if l.rehash {
		a.nextHash = l.began + a.Rehash
	}
}

// pause follows a look that took from began to now: as long again, but no longer than max_wait. While
// more changes than a look can deal with in a settle window, a look takes in what came during the one
// before it, and half of the time is left to those who make the changes.
func (a *agenda) pause(began, now time.Duration) { a.rest = now + min(now-began, a.MaxWait) }

// failed ends one that did not: everything is looked at again, after a pause that grows.
func (a *agenda) failed(now time.Duration) {
	a.wait, a.whole = a.before, true
	a.at.merge(a.heard)
	a.heard = a.at
	a.retry = now + min(firstPause<<min(a.failures, 10), lastPause)
	a.failures++
}

// again makes the next look one at everything, at once.
func (a *agenda) again() { a.whole, a.failures = true, 0 }
