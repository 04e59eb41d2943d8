package watcher

import (
	"errors"
	"io/fs"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"

	"cfgd/internal/flock"
	"cfgd/overlay"
	"cfgd/overlay/store"
	"cfgd/watcher/control"
)

// metrics holds the daemon's counters and gauges for Prometheus. Labels hold only names of targets and
// kinds of errors, never a path or content.
type metrics struct {
	registry *prometheus.Registry
	scans    *prometheus.HistogramVec // seconds of scans that saved nothing, by target
	saves    *prometheus.HistogramVec // seconds of scans that saved something, by target
	errors   *prometheus.CounterVec   // by target and kind
}

func newMetrics(version string, statuses func() []control.Status) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		scans: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "cfgd_scan_duration_seconds",
			Help:    "Time of a scan of a target that found nothing to save.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}, []string{"target"}),
		saves: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "cfgd_save_duration_seconds",
			Help:    "Time of a scan of a target that saved something, until that was on stable storage.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}, []string{"target"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cfgd_errors_total",
			Help: "Scans of a target that failed, by kind of error.",
		}, []string{"target", "kind"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "cfgd_build_info",
		Help:        "Always 1; the label has the version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.scans, m.saves, m.errors, build, targetGauges{statuses})
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError})
}

// observe counts one scan. A jail that is down is no error.
func (m *metrics) observe(target string, took time.Duration, r *overlay.Result, err error) {
	switch {
	case errors.Is(err, overlay.ErrNotPopulated):
	case err != nil:
		m.errors.WithLabelValues(target, errorKind(err)).Inc()
	case r != nil && len(r.Saved)+len(r.Released) > 0:
		m.saves.WithLabelValues(target).Observe(took.Seconds())
	default:
		m.scans.WithLabelValues(target).Observe(took.Seconds())
	}
}

// forget drops the counts of a target that is gone.
func (m *metrics) forget(target string) {
	l := prometheus.Labels{"target": target}
	m.scans.DeletePartialMatch(l)
	m.saves.DeletePartialMatch(l)
	m.errors.DeletePartialMatch(l)
}

// errorKinds are the values of the label kind. Any other error is "other".
var errorKinds = []struct {
	err  error
	kind string
}{
	{store.ErrHeld, "held"}, {overlay.ErrReadOnly, "read_only"}, {unix.EROFS, "read_only"},
	{store.ErrNoSpace, "no_space"}, {unix.ENOSPC, "no_space"},
	{unix.EDQUOT, "no_space"}, {flock.ErrHeld, "locked"}, {overlay.ErrNotMounted, "not_mounted"},
	{fs.ErrNotExist, "missing"},
	{fs.ErrPermission, "permission"}, {unix.EIO, "io"},
}

func errorKind(err error) string {
	for _, k := range errorKinds {
		if errors.Is(err, k.err) {
			return k.kind
		}
	}
	return "other"
}

// targetGauges are gauges of what the last scans found, read at every scrape.
type targetGauges struct{ statuses func() []control.Status }

// targetGauge is one number of a target's status. value returns false if the number is not known.
type targetGauge struct {
	desc  *prometheus.Desc
	value func(s *control.Status, now time.Time) (float64, bool)
}

func gauge(name, help string, value func(s *control.Status, now time.Time) (float64, bool)) targetGauge {
	return targetGauge{prometheus.NewDesc("cfgd_target_"+name, help, []string{"target"}, nil), value}
}

func number[N int | uint64](f func(*control.Status) N) func(*control.Status, time.Time) (float64, bool) {
	return func(s *control.Status, _ time.Time) (float64, bool) { return float64(f(s)), true }
}

func truth(f func(*control.Status) bool) func(*control.Status, time.Time) (float64, bool) {
	return func(s *control.Status, _ time.Time) (float64, bool) {
		if f(s) {
			return 1, true
		}
		return 0, true
	}
}

var gauges = []targetGauge{
	gauge("unsaved_changes", "Paths that a restart would lose.",
		number(func(s *control.Status) int { return s.Unsaved })),
	gauge("local_changes", "Paths that differ from the defaults.",
		number(func(s *control.Status) int { return s.Local })),
	gauge("conflicts", "Paths that were changed on two sides, and that somebody has to settle.",
		number(func(s *control.Status) int { return s.Conflicts })),
	gauge("generation", "Number of the last generation.",
		number(func(s *control.Status) int { return s.Generation })),
	gauge("cfg_free_bytes", "Room left in the filesystem of cfg.",
		number(func(s *control.Status) uint64 { return s.Free })),
	gauge("populated", "1 where the target's /etc is up.",
		truth(func(s *control.Status) bool { return s.Populated })),
	gauge("watched", "1 where changes are looked for.", truth(func(s *control.Status) bool {
		return s.Watched
	})),
	gauge("held", "1 where a save is held until cfgd save --force.",
		truth(func(s *control.Status) bool { return s.Held })),
	gauge("saved_timestamp_seconds", "When the last scan began that found all saved on stable storage.",
		func(s *control.Status, _ time.Time) (float64, bool) {
			if s.SavedAsOf == nil {
				return 0, false
			}
			return float64(s.SavedAsOf.UnixMilli()) / 1000, true
		}),
	gauge("behind_seconds", "For how long something has not been saved; 0 where all is.", behind),
}

// behind returns the age of what is not saved. It counts from the last time at which everything was
// saved, because nothing more exact is known.
func behind(s *control.Status, now time.Time) (float64, bool) {
	if !s.Populated || s.Unsaved == 0 && s.Problem == "" {
		return 0, true
	}
	if s.SavedAsOf == nil {
		return 0, false
	}
	return now.Sub(*s.SavedAsOf).Seconds(), true
}

// Describe sends the descriptions of all gauges.
func (targetGauges) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range gauges {
		ch <- g.desc
	}
}

// Collect sends the values that are known now.
func (c targetGauges) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	for _, s := range c.statuses() {
		for _, g := range gauges {
			if v, ok := g.value(&s, now); ok {
				ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, v, s.Name)
			}
		}
	}
}
