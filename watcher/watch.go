package watcher

import (
	"fmt"
	"time"

	"cfgd/config"
	"cfgd/overlay"
	"cfgd/overlay/tree"
	"cfgd/watcher/control"
)

// rearm watches what the scan found. It reports whether it found directories that were not watched
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
	fresh, err := t.src.arm(live, t.fullScans%renewEvery == 0)
	if err != nil {
		t.unwatched(err)
		return false
	}
	for _, d := range fresh {
		t.sched.pending.markDir(t.now(), d)
	}
	t.update(func(s *control.Status) { s.Watch = t.watchMode() })
	return len(fresh) > 0
}

// renewEvery is the number of full scans after which the watches are renewed. Renewing takes a seventh of
// the time of a scan.
const renewEvery = 10

// watch opens the source if there is none, and takes the cost of the tree from the budget of all targets.
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
	src, err := t.open(t.o, newCollector(t.now))
	if err != nil {
		return err
	}
	t.src = src
	return nil
}

// watchRetry is the time after which watching is tried again if it failed.
const watchRetry = 10 * time.Minute

// unwatched switches from events to scanning.
func (t *target) unwatched(why error) {
	t.noWatch = t.now() + watchRetry
	t.disarm()
	t.sched.nextScan = min(t.sched.nextScan, t.now()+t.period())
	t.logOnce("watch", "cannot watch; scanning instead: "+why.Error())
	t.update(func(s *control.Status) { s.Watch = t.watchMode() })
}

// disarm closes the source. After it no descriptor below live is open.
func (t *target) disarm() {
	if t.src != nil {
		t.collect()
		if err := t.src.close(); err != nil {
			t.log.Debug().Err(err).Msg("close the source of events")
		}
		t.src = nil
	}
	t.budget.give(t.cost)
	t.cost = 0
}

// period returns the time between two scans: the configured one if there are events, otherwise as short
// as the share of a core for scanning allows.
func (t *target) period() time.Duration {
	if t.src != nil {
		return t.cfg.Rescan
	}
	return min(max(t.scanTook*scanShare*time.Duration(t.budget.targets()), shortScan), t.cfg.Rescan)
}

// scanShare limits the part of a core's time that scan-only targets may take together. It is a divisor.
const scanShare = 200

// shortScan is the shortest period of a scan-only target.
const shortScan = time.Second

func (t *target) watchMode() string {
	if t.src != nil {
		return events
	}
	return fmt.Sprintf("%s every %s", config.WatchScan, t.period().Round(100*time.Millisecond))
}
