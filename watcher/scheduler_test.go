package watcher

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/overlay"
	"cfgd/overlay/tree"
)

const (
	ms  = time.Millisecond
	sec = time.Second
)

// sim is a tree of a few files, its scheduler and its clocks. Scans take no time in it, unless fate says so.
type sim struct {
	rapid.TB
	*scheduler
	at    time.Duration
	ahead time.Duration // of the wall clock
	files map[string]*simFile
	saves []saved
	scans int

	// fate says how long a save takes and what becomes of a file while it is copied; nil means: no time, and
	// nothing.
	fate    func(path string, how overlay.Readiness) (took time.Duration, f fate)
	longest time.Duration // of the scans
}

// fate is what becomes of a file while it is copied.
type fate int

const (
	rests   fate = iota
	changes      // it is written to, which an event reports
	refused      // it can't be copied, even as it is
)

type saved struct {
	at   time.Duration
	path string
}

func (s saved) String() string { return fmt.Sprintf("%v %s", s.at, s.path) }

// state is what a file is.
type state int

const (
	content state = iota // always another one than before
	empty
	gone
)

// simFile is a file: when it was last written to, and since when and how a change of it is unsaved.
type simFile struct {
	last, first time.Duration
	moving      time.Duration // the first write since a scan saw it as it is saved, there and back or not
	emptied     time.Duration // the last write before a scan, and all scans since, found it emptied
	wasEmptied  bool          // it was, at some time since the first unsaved write
	failed      int           // so often it could not be copied since then
	ctime       int64
	stamp       int64
	dirty       bool
	reported    bool // the first unsaved write was reported
	lost        bool // a write was unreported, and nothing else tells of it
	is, saved   state
}

func (f *simFile) isEmptied() bool { return f.dirty && f.is == empty && f.saved == content }

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
func (w *sim) write(path string, reported bool, to state) {
	f := w.files[path]
	if f == nil {
		f = &simFile{is: gone, saved: gone, moving: never, emptied: never}
		w.files[path] = f
	}
	if to == gone && f.is == gone {
		return
	}
	_, marked := w.pending.spanOf(path, to == gone)
	f.lost = f.lost || !reported && (marked || to == gone) // what is gone has no time that could tell
	f.moving = min(f.moving, w.at)
	f.is = to
	if to == f.saved && to != content { // as it is saved already
		f.dirty = false
		return
	}
	if !f.dirty {
		f.dirty, f.first, f.reported, f.wasEmptied, f.failed = true, w.at, reported, false, 0
	}
	f.last, f.ctime = w.at, w.wall()
	f.wasEmptied = f.wasEmptied || f.isEmptied()
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
	w.at = max(w.at, at)
	w.late()
}

func (w *sim) scan() {
	w.scans++
	l := w.begin(w.at, w.wall(), false)
	ready := map[string]overlay.Readiness{}
	for p, f := range w.files {
		if !l.full() && !l.dirty[pathname.Parent(p)] {
			continue
		}
		switch {
		case !f.isEmptied():
			f.emptied = never
		case f.emptied == never:
			f.emptied = f.last
		}
		if !f.dirty {
			f.moving = never
			continue
		}
		c := changed{path: p, gone: f.is == gone, emptied: f.isEmptied(), ctime: f.ctime}
		if !c.gone {
			c.stamp = stampOf(f.stamp)
		}
		if r := w.ready(w.at, w.wall(), c); r != overlay.Unsettled {
			ready[p] = r
		}
	}
	moved := w.copy(l, ready)
	for _, p := range moved {
		w.moved(w.at, p)
	}
	w.longest = max(w.longest, w.at-l.began)
	w.done(l, w.Rescan)
	w.pause(l.began, w.at)
	if w.next() <= w.at {
		w.Fatalf("at %v: scanned, and the next scan is at %v", w.at, w.next())
	}
}

// copy saves what is ready, and returns what could not be copied.
func (w *sim) copy(l scan, ready map[string]overlay.Readiness) (moved []string) {
	for _, p := range slices.Sorted(maps.Keys(ready)) {
		f, took, becomes := w.files[p], time.Duration(0), rests
		if w.fate != nil {
			took, becomes = w.fate(p, ready[p])
			w.at += took
		}
		switch {
		case becomes == refused, becomes == changes && ready[p] == overlay.Settled:
			f.failed++
			moved = append(moved, p)
		default:
			w.save(l.began, p, f)
		}
		if becomes == changes {
			w.write(p, true, content)
		}
	}
	return moved
}

func stampOf(n int64) tree.Stamp { e := tree.Entry{MTime: n}; return e.Stamp() }

func (w *sim) save(began time.Duration, p string, f *simFile) {
	if quiet, waited := began-f.last, began-f.moving; quiet < w.Settle && waited < w.MaxWait && !f.lost {
		w.Errorf("at %v: %s saved, quiet for %v, waiting for %v", began, p, quiet, waited)
	}
	if f.isEmptied() && began-f.emptied < w.MaxWait && !f.lost {
		w.Errorf("at %v: %s saved empty, emptied at %v", began, p, f.emptied)
	}
	f.dirty, f.lost, f.saved, f.moving, f.emptied = false, false, f.is, never, never
	w.saves = append(w.saves, saved{w.at, p})
}

// late checks that nothing waits for longer than it may: max_wait, one scan and the pause before it. A file
// that was emptied waits for max_wait again. One that can't be copied is tried again in the next scan.
func (w *sim) late() {
	for p, f := range w.files {
		limit := w.MaxWait + time.Duration(f.failed+1)*2*w.longest
		if !f.reported { // the next scan finds it
			limit += w.Rescan + w.Settle
		}
		if f.wasEmptied {
			limit += w.MaxWait + 2*w.longest
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
		w.fate = func(string, overlay.Readiness) (time.Duration, fate) {
			return millis("a copy takes", 1, 300), rapid.SampledFrom(
				[]fate{rests, rests, changes, changes, refused}).Draw(t, "fate")
		}
		set := rapid.IntRange(0, 60).Draw(t, "clock is set at")
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			w.until(w.at + millis("pause", 0, rapid.SampledFrom([]int{10, 300, 3000}).Draw(t, "pace")))
			if i == set {
				w.ahead += rapid.SampledFrom(
					[]time.Duration{-time.Hour, -sec, -100 * ms, 100 * ms, sec, time.Hour},
				).Draw(t, "by")
			}
			path := rapid.SampledFrom([]string{"a", "b", "d/a", "d/b", "d/e/a"}).Draw(t, "path")
			kinds := []string{"reported", "reported", "emptied", "unreported", "lost", "gone"}
			switch rapid.SampledFrom(kinds).Draw(t, "what") {
			case "reported":
				w.write(path, true, content)
			case "emptied":
				w.write(path, rapid.Bool().Draw(t, "reported"), empty)
			case "unreported":
				w.write(path, false, content)
			case "lost":
				w.write(path, false, content)
				w.pending.markAll(w.at)
			case "gone":
				w.write(path, rapid.Bool().Draw(t, "reported"), gone)
			}
		}
		w.fate = nil
		w.until(w.at + w.Rescan + 2*w.MaxWait + 2*w.Settle + 4*w.longest)
		for p, f := range w.files {
			if f.dirty {
				t.Errorf("%s was never saved", p)
			}
		}
	})
}

// write is a write at a time. "~" before the path means that no event reports it, "-" that it is a
// deletion, ">" that the file is emptied.
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
		"emptied: max_wait after it": {[]write{{sec, ">a"}}, []string{"6s a"}, 2},
		"emptied and written: settle after it": {
			[]write{{sec, ">a"}, {3 * sec, "a"}}, []string{"3.5s a"}, 2,
		},
		"emptied, and touched while it is empty": {
			[]write{{sec, ">a"}, {3 * sec, ">a"}}, []string{"6s a"}, 3,
		},
		"a file that never rests, found emptied": {
			slices.Concat([]write{{0, "a"}}, every(sec, 5950*ms, 100*ms, "a"),
				every(5950*ms, 8*sec, 200*ms, ">a")),
			[]string{"500ms a", "10.95s a"}, 7,
		},
		"emptied twice, and written when it has waited for max_wait": {
			slices.Concat([]write{{0, "a"}}, every(sec, 1800*ms, 400*ms, "a"),
				[]write{{1800 * ms, ">a"}, {5950 * ms, ">a"}, {6050 * ms, "a"}}),
			[]string{"500ms a", "6.45s a"}, 3,
		},
		"emptied and unreported: its age tells": {
			[]write{{57500 * ms, "~>a"}}, []string{"1m2.5s a"}, 2,
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
				path, deleted := cut(path, "-")
				path, emptied := cut(path, ">")
				to := content
				switch {
				case deleted:
					to = gone
				case emptied:
					to = empty
				}
				if to != content && w.files[path] == nil {
					w.files[path] = &simFile{moving: never, emptied: never}
				}
				w.write(path, !unreported, to)
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

// A file that was emptied without an event is not older because the wall clock was set forward meanwhile.
func TestEmptiedWhileTheClockIsSet(t *testing.T) {
	t.Parallel()
	w := newSim(t, settings(500*ms, 5*sec, time.Minute))
	w.files["d/a"] = &simFile{moving: never, emptied: never}
	w.until(58 * sec)
	w.write("d/a", false, empty)
	w.write("b", true, content)
	w.ahead += 4 * sec
	for len(w.saves) < 2 { // the scan for b sees that the clock was set, and the rescan finds d/a
		w.until(w.next())
	}
	if got, want := fmt.Sprint(sortedSaves(w.saves)), "[58.5s b 1m5s d/a]"; got != want {
		t.Errorf("saved %s, want %s", got, want)
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
		a.ready(now, 0, changed{path: "a", stamp: stampOf(1), ctime: int64(time.Hour * 1e4)})
		if now > 10*sec+700*ms {
			a.ready(now, 0, changed{path: "b", stamp: stampOf(2), ctime: int64(time.Hour * 1e4)})
			a.ready(now, 0, changed{path: "c", gone: true})
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

// An overdue file that can't be copied even as it is, is tried again in the next scans, and does not begin to
// wait anew.
func TestAnOverdueFileThatCannotBeCopied(t *testing.T) {
	t.Parallel()
	w := newSim(t, settings(500*ms, 5*sec, time.Minute))
	tries := 0
	w.fate = func(string, overlay.Readiness) (time.Duration, fate) {
		if tries++; tries < 4 {
			return 10 * ms, refused
		}
		return 10 * ms, rests
	}
	for _, s := range every(0, 6*sec, 100*ms, "a") {
		w.until(s.at)
		w.write(s.path, true, content)
	}
	// three scans of 10 ms, each with a pause as long after it, and the one that saves
	if got := fmt.Sprint(w.saves); got != "[5.07s a]" {
		t.Errorf("saved %s", got)
	}
}
