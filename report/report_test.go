package report

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cfgd/internal/run"
)

var morning = time.Date(2026, 1, 2, 3, 1, 0, 0, time.Local)

func facts(day int, targets ...Target) *Facts {
	return &Facts{Host: "server", Now: morning.AddDate(0, 0, day), Targets: targets}
}

func edited() Target {
	return Target{
		Name: "vhost1", Populated: true, Base: "proto/etc@1", Unsaved: []string{"rc.conf", "a\nb"},
		Since: morning.Add(-5 * time.Hour), Room: 1 << 30,
	}
}

// The first report names the edit, its time, and the command that saves it. The second one is one line. The
// third one, with everything saved, is empty. Once a week one line says that all is well.
func TestMornings(t *testing.T) {
	t.Parallel()
	s := &State{Since: map[string]time.Time{}}
	next := func(f *Facts, want ...string) {
		t.Helper()
		r := s.Compose(f, false)
		text, after := r.Text, r.After
		if len(want) == 0 && text != "" {
			t.Errorf("not silent: %s", text)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("lacks %q:\n%s", w, text)
			}
		}
		s = after
	}
	well := Target{Name: "vhost1", Populated: true, Room: 1 << 30}
	next(facts(0, edited()), "cfgd on server: 1 finding\n",
		"a restart would lose 2 changes, unsaved since 2026-01-01 22:01: rc.conf, \"a\\nb\"\n",
		"cfgd save vhost1\n")
	next(facts(1, edited()), "cfgd on server: unchanged since 2026-01-02 03:01: 1 finding; cfgd report "+
		"--always lists them")
	saved := well
	saved.Saves = []Save{{"rc.conf", morning}}
	next(facts(2, saved))
	for day := 3; day < 7; day++ {
		next(facts(day, well))
	}
	next(facts(7, well), "cfgd on server: all is well: 1 target\n")
	next(facts(8, well))
	more := edited()
	next(facts(9, more), "1 finding")
	more.Unsaved = append(more.Unsaved, "hosts")
	next(facts(10, more), "3 changes, unsaved since 2026-01-01 22:01")
	if all := s.Compose(facts(11, more), true).Findings; len(all) != 1 {
		t.Errorf("%+v", all)
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	busy := Target{Name: "vhost2", Populated: true, Room: 64 << 10, Trouble: "no room", Held: true,
		Conflicts: []string{"x"}, Unresolved: []string{"y", "z"}, Unmerged: "proto/etc@1",
		Base: "proto/etc@2", Next: "proto/etc@3", Newer: "4", NotSaved: []string{"core"}}
	for range churns {
		busy.Saves = append(busy.Saves, Save{"ntp.drift", morning})
	}
	f := facts(0, busy)
	f.Daemon, f.Rescue = "none is running", []Archive{{"web-1", "web-1-20260101T000000.000Z.tar"}}
	f.Journal, f.Failed = []string{"vhost3"}, []string{"vhost9: base: gone"}
	f.Trial = "ada0s2"
	r := (&State{}).Compose(f, false)
	all, text := r.Findings, r.Text
	for _, want := range []string{"service cfgd start", "cfgd nano confirm",
		"cfgd rescue restore web-1 web-1-20260101T000000.000Z.tar",
		"cfgd jail switch --plan vhost3 SNAPSHOT", "cfgd save --force vhost2",
		"cfgd resolve --list vhost2", "cfgd diff --unsaved vhost2", "cfgd plan vhost2 proto/etc@2",
		"service jail restart vhost2", "cfgd jail switch --plan vhost2 4", "64 KiB are left in cfg",
		`[[path]] match = "ntp.drift", class = "volatile"`, "vhost9: base: gone",
		"not saved by their class or size: 1 path: core"} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	if len(all) != 14 {
		t.Errorf("%d findings", len(all))
	}
	for i, x := range all {
		if x.Settle == "" || i > 0 && all[i-1].Target == x.Target && all[i-1].Severity < x.Severity {
			t.Errorf("%d: %+v", i, x)
		}
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "db/report.json")
	s, err := ReadState(file)
	if err != nil || !s.Last.IsZero() {
		t.Fatal(s, err)
	}
	after := s.Compose(facts(0, edited()), false).After
	if err := after.Write(file); err != nil {
		t.Fatal(err)
	}
	s, err = ReadState(file)
	if err != nil || !s.Last.Equal(morning) {
		t.Fatal(s, err)
	}
	if text := s.Compose(facts(1, edited()), false).Text; !strings.Contains(text, "unchanged since") {
		t.Error(text)
	}
	if err := os.WriteFile(file, []byte("{\"last\":"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = ReadState(file); err == nil || s.Since == nil ||
		!strings.Contains(err.Error(), "begun anew") {
		t.Error(s, err)
	}
}

// sendmail is a sendmail(8) that keeps its input.
type sendmail struct {
	got run.Cmd
	err error
}

func (s *sendmail) Run(_ context.Context, c run.Cmd) (string, error) {
	s.got = c
	return "", s.err
}

func TestMail(t *testing.T) {
	t.Parallel()
	f := facts(0, edited())
	f.Targets[0].Name = "vh\nBcc: everybody@example.org\n\nöst"
	r := (&State{}).Compose(f, false)
	all, text := r.Findings, r.Text
	b, err := Message("Root <root@example.org>", "ser\nver", f.Now, all,
		text+strings.Repeat("long ", 300)+"\n.\nend\n")
	if err != nil {
		t.Fatal(err)
	}
	m := &sendmail{}
	if err := Send(t.Context(), m, b); err != nil || m.got.Name != "sendmail" ||
		strings.Join(m.got.Args, " ") != "-oi -t" || !bytes.Equal(m.got.Stdin, b) {
		t.Errorf("%v, %v", m.got, err)
	}
	msg, err := mail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%v:\n%s", err, b)
	}
	if len(msg.Header) != 7 || msg.Header.Get("To") != `"Root" <root@example.org>` ||
		msg.Header.Get("Bcc") != "" || msg.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%v", msg.Header)
	}
	if body, _ := io.ReadAll(msg.Body); bytes.Contains(body, []byte("\r")) ||
		!bytes.Contains(body, []byte("cfgd save")) {
		t.Errorf("%s", body)
	}
	for line := range strings.Lines(string(b)) {
		if len(line) > 999 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	for _, to := range []string{"", "a b", "x@y\nBcc: z@w", "-oQ/tmp"} {
		if _, err := Message(to, "h", f.Now, nil, ""); err == nil {
			t.Errorf("%q was taken", to)
		}
	}
	short, err := Message("root@example.org", "h", f.Now, all, "a plain text\n")
	if err != nil || !strings.HasSuffix(string(short), "Content-Transfer-Encoding: 7bit\n\na plain text\n") {
		t.Errorf("%s, %v", short, err)
	}
	m.err = errors.New("no sendmail")
	if err := Send(t.Context(), m, b); err == nil {
		t.Error("not sent, and nothing said")
	}
}

func TestTextfile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "cfgd.prom")
	f := facts(0, edited())
	all := (&State{}).Compose(f, false).Findings
	if err := Textfile(file, f, all); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(file)
	for _, want := range []string{"cfgd_report_findings{severity=\"problem\"} 1\n",
		"cfgd_report_findings{severity=\"notable\"} 0\n",
		"cfgd_report_unsaved_changes{target=\"vhost1\"} 2\n"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("lacks %s:\n%s", want, b)
		}
	}
}
