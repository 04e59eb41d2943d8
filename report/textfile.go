package report

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Textfile writes the numbers of a report for node_exporter's textfile collector. It replaces the old file
// atomically.
func Textfile(file string, f *Facts, all []Finding) error {
	reg := prometheus.NewRegistry()
	findings := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "cfgd_report_findings",
		Help: "Findings of the last report, by severity."}, []string{"severity"})
	at := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "cfgd_report_timestamp_seconds", Help: "When the last report was made.",
	})
	unsaved := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "cfgd_report_unsaved_changes",
		Help: "Paths that a restart would lose."}, []string{"target"})
	conflicts := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "cfgd_report_conflicts",
		Help: "Paths that somebody has to settle."}, []string{"target"})
	reg.MustRegister(findings, at, unsaved, conflicts)
	for _, s := range []Severity{Problem, Notable} {
		findings.WithLabelValues(string(s)).Set(0)
	}
	for _, x := range all {
		findings.WithLabelValues(string(x.Severity)).Inc()
	}
	at.Set(float64(f.Now.UnixMilli()) / 1000)
	for _, t := range f.Targets {
		unsaved.WithLabelValues(t.Name).Set(float64(len(t.Unsaved)))
		conflicts.WithLabelValues(t.Name).Set(float64(len(t.Conflicts) + len(t.Unresolved)))
	}
	return prometheus.WriteToTextfile(file, reg)
}
