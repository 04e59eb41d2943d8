package watcher

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

const (
	ms  = time.Millisecond
	sec = time.Second
)

// sim is a tree of a few files, its scheduler and its clocks. Scans take no time in it.
type sim struct {
	rapid.TB
	*scheduler
	at    time.Duration
	ahead time.Duration // of the wall clock
	files map[string]*simFile
	saves []saved
	scans int
}

type saved struct {
	at   time.Duration
	path string
}

func (s saved) String() string { return fmt.Sprintf("%v %s", s.at, s.path) }

// simFile is a file: when it was last written to, and since when and how a change of it is unsaved.
type simFile struct {
	last, first time.Duration
	moving      time.Duration // the first write since a scan saw it as it is saved, there and back or not
	ctime       int64
	stamp       int64
	dirty       bool
	reported    bool // the first unsaved write was reported
	lost        bool // a write was unreported, and nothing else tells of it
	gone        bool
	away        bool // what is saved of it is that it is gone
}

func settings(settle, maxWait, rescan time.Duration) config.Settings {
	return config.Settings{Settle: settle, MaxWait: maxWait, Rescan: rescan, Rehash: time.Hour}
}

// newSim returns a sim after its first scan.
func newSim(t rapid.TB, s config.Settings) *sim {
	w := &sim{TB: t, scheduler: newScheduler(s, 1), ahead: 1e9 * sec / 1000, files: map[string]*simFile{}}
	w.scan()
	return w
}

func (w *sim) wall() int64 { return int64(w.at + w.ahead) }

// write changes a file now, and tells the scheduler if the write is reported.
func (w *sim) write(path string, reported, gone bool) {
	f := w.files[path]
	if f == nil {
		f = &simFile{away: true, gone: true, moving: never}
		w.files[path] = f
	}
	if gone && f.gone {
		return
	}
	_, marked := w.pending.spanOf(path, gone)
	f.lost = f.lost || !reported && (marked || gone) // what is gone has no time that could tell
	f.moving = min(f.moving, w.at)
	if gone && f.away { // as it is saved already
		f.gone, f.dirty = true, false
		return
	}
	if !f.dirty {
		f.dirty, f.first, f.reported = true, w.at, reported
	}
	f.last, f.ctime, f.gone = w.at, w.wall(), gone
	f.stamp++
	if reported {
		w.pending.add(w.at, path, pathname.Parent(path))
	}
}

// until advances the time, and does the scans that are due meanwhile.
func (w *sim) until(at time.Duration) {
	for w.next() <= at {
		w.at = max(w.at, w.next())
		w.scan()
	}
	w.at = at
	w.late()
}

func (w *sim) scan() {
	w.scans++
	l := w.begin(w.at, w.wall(), false)
	for p, f := range w.files {
		if !l.full() && !l.dirty[pathname.Parent(p)] {
			continue
		}
		if !f.dirty {
			f.moving = never
			continue
		}
		c := changed{path: p, gone: f.gone, ctime: f.ctime}
		if !f.gone {
			c.stamp = stampOf(f.stamp)
		}
		if w.isSettled(w.at, w.wall(), c) {
			w.save(p, f)
		}
	}
	w.done(l, w.Rescan)
	if w.next() <= w.at {
		w.Fatalf("at %v: scanned, and the next scan is at %v", w.at, w.next())
	}
}

func stampOf(n int64) tree.Stamp { e := tree.Entry{MTime: n}; return e.Stamp() }

func (w *sim) save(p string, f *simFile) {
	if quiet, waited := w.at-f.last, w.at-f.moving; quiet < w.Settle && waited < w.MaxWait && !f.lost {
		w.Errorf("at %v: %s saved, quiet for %v, waiting for %v", w.at, p, quiet, waited)
	}
	f.dirty, f.lost, f.away, f.moving = false, false, f.gone, never
	w.saves = append(w.saves, saved{w.at, p})
}

// late checks that nothing waits for longer than it may.
func (w *sim) late() {
	for p, f := range w.files {
		limit := w.MaxWait
		if !f.reported { // the next scan finds it
			limit += w.Rescan + w.Settle
		}
		if f.dirty && w.at-f.first > limit {
			w.Errorf("at %v: %s is unsaved since %v", w.at, p, f.first)
		}
	}
}

// For all sequences of events, reported or not, with a clock that is set once: nothing is saved before it
// has settled, unless it has waited for max_wait. Nothing waits longer than that, or, if no event was
// reported, longer than that and the next scan.
func TestNothingIsSavedTooEarlyOrTooLate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		millis := func(name string, lo, hi int) time.Duration {
			return time.Duration(rapid.IntRange(lo, hi).Draw(t, name)) * ms
		}
		w := newSim(t, settings(millis("settle", 1, 1000), millis("max_wait", 1, 10000),
			millis("rescan", 100, 60000)))
		set := rapid.IntRange(0, 60).Draw(t, "clock is set at")
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			w.until(w.at + millis("pause", 0, rapid.SampledFrom([]int{10, 300, 3000}).Draw(t, "pace")))
			if i == set {
				w.ahead += rapid.SampledFrom(
					[]time.Duration{-time.Hour, -sec, -100 * ms, 100 * ms, sec, time.Hour},
				).Draw(t, "by")
			}
			path := rapid.SampledFrom([]string{"a", "b", "d/a", "d/b", "d/e/a"}).Draw(t, "path")
			kinds := []string{"reported", "reported", "unreported", "lost", "gone"}
			switch rapid.SampledFrom(kinds).Draw(t, "what") {
			case "reported":
				w.write(path, true, false)
			case "unreported":
				w.write(path, false, false)
			case "lost":
				w.write(path, false, false)
				w.pending.markAll(w.at)
			case "gone":
				w.write(path, rapid.Bool().Draw(t, "reported"), true)
			}
		}
		w.until(w.at + w.Rescan + w.MaxWait + 2*w.Settle)
		for p, f := range w.files {
			if f.dirty {
				t.Errorf("%s was never saved", p)
			}
		}
	})
}

// write is a write at a time. "~" before the path means that no event reports it, "-" that it is a
// deletion.
type write struct {
	at   time.Duration
	path string
}

func every(from, to, step time.Duration, path string) (w []write) {
	for at := from; at < to; at += step {
		w = append(w, write{at, path})
	}
	return w
}

func TestWhenThingsAreSaved(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		writes []write
		want   []string
		scans  int
	}{
		"a quiet file after settle, with one scan": {[]write{{sec, "a"}}, []string{"1.5s a"}, 1},
		"writes of one edit": {
			every(sec, sec+100*ms, 10*ms, "a"), []string{"1.59s a"}, 1,
		},
		"one window, one scan": {
			[]write{{sec, "a"}, {sec + 400*ms, "d/b"}}, []string{"1.9s a", "1.9s d/b"}, 1,
		},
		"two windows, two scans": {
			[]write{{sec, "a"}, {sec + 600*ms, "d/b"}}, []string{"1.5s a", "2.1s d/b"}, 2,
		},
		"a file that never rests": {
			every(sec, 14*sec, 100*ms, "log"), []string{"6s log", "11s log", "14.4s log"}, 3,
		},
		"a quiet one beside it": {
			append(every(sec, 5*sec, 100*ms, "log"), write{2050 * ms, "a"}), []string{"2.55s a", "5.4s log"},
			2,
		},
		"a deletion": {[]write{{sec, "-d/a"}}, []string{"1.5s d/a"}, 1},
		"unreported: its age tells at the next scan": {[]write{{sec, "~a"}}, []string{"1m0s a"}, 1},
		"unreported and just changed: settle after it": {
			[]write{{time.Minute - 100*ms, "~a"}}, []string{"1m0.4s a"}, 2,
		},
		"an unreported deletion: settle after it was seen": {[]write{{sec, "~-a"}}, []string{"1m0.5s a"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSim(t, settings(500*ms, 5*sec, time.Minute))
			w.scans = 0
			last := time.Duration(0)
			for _, s := range sortedWrites(c.writes) {
				w.until(s.at)
				path, unreported := cut(s.path, "~")
				path, gone := cut(path, "-")
				if gone {
					w.files[path] = &simFile{moving: never}
				}
				w.write(path, !unreported, gone)
				last = max(last, s.at)
			}
			for range 20 { // scan by scan, so that the rescans of an idle target are not counted
				if !w.anyDirty() {
					break
				}
				w.until(w.next())
			}
			if got, want := fmt.Sprint(sortedSaves(w.saves)), fmt.Sprint(c.want); got != want ||
				w.scans != c.scans {
				t.Errorf("saved %s with %d scans, want %s with %d", got, w.scans, want, c.scans)
			}
		})
	}
}

// An idle target is scanned every rescan and not more often.
func TestIdleLooksAtThePaceOfRescan(t *testing.T) {
	t.Parallel()
	w := newSim(t, settings(500*ms, 5*sec, time.Minute))
	w.scans = 0
	w.until(10*time.Minute + sec)
	if w.scans != 10 {
		t.Errorf("%d scans in 10 minutes", w.scans)
	}
}

// Changes that have settled but are not saved, of files from the future, are not waited for again and
// again.
func TestWhatIsNeverSavedCostsNoLooks(t *testing.T) {
	t.Parallel()
	a := newScheduler(settings(500*ms, 5*sec, time.Minute), 1)
	now, scans := time.Duration(0), 0
	for ; now < 10*time.Minute; now = a.next() {
		scans++
		l := a.begin(now, 0, false)
		a.isSettled(now, 0, changed{path: "a", stamp: stampOf(1), ctime: int64(time.Hour * 1e4)})
		if now > 10*sec+700*ms {
			a.isSettled(now, 0, changed{path: "b", stamp: stampOf(2), ctime: int64(time.Hour * 1e4)})
			a.isSettled(now, 0, changed{path: "c", gone: true})
		}
		a.done(l, time.Minute)
	}
	if scans != 12 { // one a minute, and two to see that they rest
		t.Errorf("%d scans in ten minutes", scans)
	}
}

func TestPausesGrowAndEnd(t *testing.T) {
	t.Parallel()
	a := newScheduler(settings(500*ms, 5*sec, time.Minute), 1)
	now := time.Duration(0)
	var pauses []time.Duration
	for range 6 {
		a.begin(now, 0, false)
		a.pending.add(now, "a", "") // an event does not shorten the pause
		a.failed(now)
		pauses = append(pauses, a.next()-now)
		now = a.next()
	}
	if got := fmt.Sprint(pauses); got != "[1s 2s 4s 5s 5s 5s]" {
		t.Errorf("pauses %s", got)
	}
	l := a.begin(now, 0, false)
	if !l.full() {
		t.Error("after a failure not all is scanned")
	}
	a.done(l, time.Minute)
	if got := a.next() - now; got != time.Minute {
		t.Errorf("after it was mended the next scan is in %v", got)
	}
}

// Above its bound a dirtySet reports that anything may have changed, and takes no more memory.
func TestMarksAreBounded(t *testing.T) {
	t.Parallel()
	var m, sum dirtySet
	for i := range 30000 {
		m.add(time.Duration(i), fmt.Sprintf("d%d/f", i), fmt.Sprintf("d%d", i))
	}
	sum.merge(m)
	for _, m := range []dirtySet{m, sum} {
		if len(m.paths) > maxDirty || len(m.dirs) > maxDirty || !m.all {
			t.Errorf("%d paths, %d directories, all %v", len(m.paths), len(m.dirs), m.all)
		}
	}
}

func (w *sim) anyDirty() bool {
	for _, f := range w.files {
		if f.dirty {
			return true
		}
	}
	return false
}

// A long scan is followed by an equally long pause, at most max_wait, unless a full scan is requested.
func TestPauseAfterALook(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ took, want time.Duration }{
		{0, 500 * ms}, {100 * ms, 500 * ms}, {2 * sec, 2 * sec}, {time.Minute, 5 * sec},
	} {
		a := newScheduler(config.Settings{
			Settle:  500 * ms,
			MaxWait: 5 * sec,
			Rescan:  time.Hour,
			Rehash:  2 * time.Hour,
		}, 0.5)
		l := a.begin(0, 0, false)
		a.done(l, time.Hour)
		a.pause(0, c.took)
		a.pending.add(c.took, "f", "")
		if got := a.next() - c.took; got != c.want {
			t.Errorf("after a scan of %v: %v later, want %v", c.took, got, c.want)
		}
		if a.requestFull(); a.next() != 0 {
			t.Errorf("asked for: %v", a.next())
		}
	}
}
