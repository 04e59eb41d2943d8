package watcher

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"golang.org/x/sys/unix"

	"cfgd/overlay"
	"cfgd/overlay/store"
	"cfgd/watcher/control"
)

func (m *machine) metrics() string {
	m.Helper()
	resp, err := m.client().HTTP.Get("http://cfgd/metrics")
	m.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	m.must(err)
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		m.Fatalf("%d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return string(b)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 2)
	m.d.Version = "v1.2.3"
	m.run()
	m.write("j0/etc/rc.conf", "hostname=j0\n")
	m.write("j0/etc/secret\nname", "1\n")
	m.saved("j0", 2)
	text := m.metrics()
	for _, want := range []string{`cfgd_build_info{version="v1.2.3"} 1`,
		`cfgd_target_local_changes{target="j0"} 2`, `cfgd_target_local_changes{target="j1"} 0`,
		`cfgd_target_unsaved_changes{target="j0"} 0`, `cfgd_target_behind_seconds{target="j0"} 0`,
		`cfgd_target_populated{target="j1"} 1`,
		`cfgd_target_generation{target="j1"} 0`, `cfgd_scan_duration_seconds_count{target="j1"} `,
		`cfgd_save_duration_seconds_count{target="j0"} `,
		`cfgd_target_saved_timestamp_seconds{target="j0"} 1.`, `cfgd_target_cfg_free_bytes{target="j0"} `} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "rc.conf") || strings.Contains(text, "cfgd_errors_total{") {
		t.Errorf("%s", text)
	}
	problems, err := promlint.New(bytes.NewReader([]byte(text))).Lint()
	m.must(err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	// A cfg that is gone: the error is counted by its kind, and how long something is unsaved.
	m.must(os.Rename(m.path("j0/cfg"), m.path("j0/away")))
	m.write("j0/etc/rc.conf", "hostname=again\n")
	m.await("j0", "in trouble", func(s control.Status) bool { return s.Problem != "" })
	text = m.metrics()
	if !strings.Contains(text, `cfgd_errors_total{kind="missing",target="j0"} `) ||
		strings.Contains(text, `cfgd_target_behind_seconds{target="j0"} 0`+"\n") {
		t.Errorf("%s", text)
	}
}

// What is counted of a jail that is gone from the configuration goes with it.
func TestMetricsForget(t *testing.T) {
	t.Parallel()
	c := newMetrics("", func() []control.Status { return nil })
	c.observe("a", time.Second, nil, fmt.Errorf("save: %w", unix.ENOSPC))
	c.observe("a", time.Second, &overlay.Result{}, nil)
	c.observe("b", time.Second, nil, fmt.Errorf("%w: no", overlay.ErrNotPopulated))
	c.forget("a")
	all, err := c.registry.Gather()
	if err != nil || len(all) != 1 || all[0].GetName() != "cfgd_build_info" {
		t.Errorf("%v, %v", all, err)
	}
	for want, err := range map[string]error{
		"no_space":  fmt.Errorf("x: %w", unix.ENOSPC),
		"held":      store.ErrHeld,
		"other":     io.ErrUnexpectedEOF,
		"read_only": overlay.ErrReadOnly,
	} {
		if got := errorKind(err); got != want {
			t.Errorf("%v: %s", err, got)
		}
	}
	now := time.Now()
	old := now.Add(-time.Hour)
	for want, s := range map[string]control.Status{
		"3600 true": {Populated: true, Unsaved: 1, SavedAsOf: &old},
		"0 true":    {SavedAsOf: &old, Unsaved: 3},
		"0 false":   {Populated: true, Problem: "x"},
	} {
		v, ok := behind(&s, now)
		if got := fmt.Sprint(v, ok); got != want {
			t.Errorf("%+v: %s", s, got)
		}
	}
}

// The alert rules speak of metrics that there are.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../contrib/prometheus/cfgd.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"cfgd_build_info": true}
	for _, g := range gauges {
		name, _, _ := strings.Cut(strings.TrimPrefix(g.desc.String(), `Desc{fqName: "`), `"`)
		known[name] = true
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		expr, ok := strings.CutPrefix(strings.TrimSpace(line), "expr: ")
		if !ok {
			continue
		}
		for _, word := range strings.FieldsFunc(expr, func(r rune) bool {
			return r != '_' && (r < 'a' || r > 'z')
		}) {
			if strings.HasPrefix(word, "cfgd_") {
				if n++; !known[word] {
					t.Errorf("%s: no such metric", word)
				}
			}
		}
	}
	if n < 4 {
		t.Errorf("only %d metrics in the rules", n)
	}
}
