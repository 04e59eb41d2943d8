package jails

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cfgd/config"
	"cfgd/internal/flock"
	"cfgd/internal/machinetest"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// yard is a machine with one jail and two snapshots. Its jails only record what is done to them.
type yard struct {
	*machinetest.Dir
	log  []string
	fail map[string]error // by what is done: stop 1, start 2, up 2, save
	on   string           // the snapshot that the jail runs on, "" while it does not
}

func newYard(t testing.TB) *yard {
	y := &yard{Dir: machinetest.New(t), fail: map[string]error{}, on: "1"}
	for _, n := range []string{"1", "2"} {
		y.Write("jail/proto/.zfs/snapshot/"+n+"/x", n)
		y.Write("jail/proto/etc/.zfs/snapshot/"+n+"/rc.conf", n+"\n")
	}
	y.Write("jail/vhost1/cfg/own", "own\n")
	y.Write("etc/rc.conf",
		"jail_enable=YES\njail_list=vhost1\njail_vhost1_rootdir=/jail/vhost1\njail_vhost1_hostname=v\n"+
			"jail_vhost1_fstab=/etc/fstab.vhost1\n")
	y.Write("etc/fstab.vhost1", fstabOn("1"))
	y.Must(os.Chmod(y.Path("etc/fstab.vhost1"), 0o640))
	return y
}

func fstabOn(n string) string {
	return fmt.Sprintf("# ours\n/jail/proto/.zfs/snapshot/%s /jail/vhost1 nullfs ro 0 "+
		"0\n/jail/proto/etc/.zfs/snapshot/%s\t/jail/vhost1/conf/base/etc nullfs ro 0 0\n", n, n)
}

func (y *yard) did(what string) error {
	y.log = append(y.log, what)
	return y.fail[what]
}

func snapshotOf(t *config.Target) string {
	s, _ := config.ParseSnapshot(t.Base)
	return s.Name
}

func (y *yard) Stop(_ context.Context, t *config.Target) error {
	err := y.did("stop " + y.on)
	if err == nil {
		y.on = ""
	}
	return err
}

func (y *yard) Start(_ context.Context, t *config.Target) error {
	err := y.did("start " + snapshotOf(t))
	if err == nil {
		y.on = snapshotOf(t)
	}
	return err
}

func (y *yard) Up(_ context.Context, t *config.Target) error { return y.did("up " + y.on) }
func (y *yard) Runs(context.Context, *config.Target) bool    { return y.on != "" }
func (y *yard) Plan(*config.Target) []run.Cmd                { return nil }

func (y *yard) switcher() *Switcher {
	m, err := y.Load()
	y.Must(err)
	return &Switcher{Model: m, Reload: y.Load, Jails: y, Now: time.Now,
		Overlay:  func(m *config.Model, t *config.Target) *overlay.Overlay { return overlay.New(m, t) },
		SaveHost: func(_ context.Context, path string) error { return y.did("save " + path) }}
}

func (y *yard) plan(to string, restart bool) *Switch {
	y.Helper()
	s := y.switcher()
	w, err := s.Plan(y.Context(), s.Model.Target("vhost1"), to, restart)
	y.Must(err)
	return w
}

func (y *yard) journals() []string {
	names, _ := filepath.Glob(y.Path("var/db/cfgd/switch/*"))
	return names
}

// ends checks the state of a machine, and that nothing is left of the switch.
func (y *yard) ends(snapshot, on string, log ...string) {
	y.Helper()
	st, err := os.Stat(y.Path("etc/fstab.vhost1"))
	y.Must(err)
	if got := y.Read("etc/fstab.vhost1"); got != fstabOn(snapshot) || st.Mode() != 0o640 {
		y.Errorf("fstab, %v:\n%s", st.Mode(), got)
	}
	if y.on != on || !slices.Equal(y.log, log) {
		y.Errorf("the jail runs on %q; %q", y.on, y.log)
	}
	if left := y.journals(); len(left) > 0 {
		y.Errorf("left: %q", left)
	}
}

func TestSwitch(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	w := y.plan("2", true)
	if !slices.Equal(w.From, []string{"1"}) || string(w.Edits[0].New) != fstabOn("2") ||
		w.Merge.To != "proto/etc@2" {
		t.Errorf("%+v", w)
	}
	y.ends("1", "1")
	y.Must(y.switcher().Do(t.Context(), w))
	y.ends("2", "2", "stop 1", "save fstab.vhost1", "start 2", "up 2")
	stopped := newYard(t)
	stopped.on = ""
	stopped.Must(stopped.switcher().Do(t.Context(), stopped.plan("2", true)))
	stopped.ends("2", "", "save fstab.vhost1")
	if !y.plan("2", true).Already() {
		t.Error("not there already")
	}
	y.log = nil
	y.Must(y.switcher().Do(t.Context(), y.plan("1", false)))
	y.ends("1", "2", "save fstab.vhost1")
}

// Whatever fails, the jail then runs on the old snapshot with its old fstab, and the error says so.
func TestSwitchFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fails string
		says  string
		log   []string
	}{
		{"stop 1", "stop: boom; nothing was switched", []string{"stop 1"}},
		{
			"start 2", "start: boom; vhost1 is on snapshot 1 again",
			[]string{
				"stop 1", "save fstab.vhost1", "start 2", "stop ", "save fstab.vhost1", "start 1", "up 1",
			},
		},
		{
			"up 2", "started, and not well: boom; vhost1 is on snapshot 1 again",
			[]string{
				"stop 1", "save fstab.vhost1", "start 2", "up 2", "stop 2", "save fstab.vhost1", "start 1",
				"up 1",
			},
		},
	} {
		y := newYard(t)
		y.fail[c.fails] = errors.New("boom")
		err := y.switcher().Do(t.Context(), y.plan("2", true))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.fails, err)
		}
		y.ends("1", "1", c.log...)
	}
	y := newYard(t)
	y.fail["start 2"], y.fail["start 1"] = errors.New("boom"), errors.New("bang")
	err := y.switcher().Do(t.Context(), y.plan("2", true))
	if err == nil || !strings.Contains(err.Error(),
		"could not be put back: start: bang; the old fstab is in "+y.journals()[0]) {
		t.Error(err)
	}
}

func TestSwitchPlanRefuses(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	s := y.switcher()
	if _, err := s.Plan(t.Context(), s.Model.Target("vhost1"), "3", false); !errors.Is(err, os.ErrNotExist) ||
		!strings.Contains(err.Error(), "/etc/fstab.vhost1:2") {
		t.Error(err)
	}
	w := y.plan("2", false)
	y.Write("etc/fstab.vhost1", fstabOn("1")+"# edited meanwhile\n")
	if err := s.Do(t.Context(), w); err == nil || !strings.Contains(err.Error(), "plan again") ||
		len(y.journals()) > 0 {
		t.Error(err)
	}
}

// interrupted leaves the journal of a switch that was killed.
func (y *yard) interrupted(fstab, on string) {
	b, err := json.Marshal(journal{
		"vhost1", "2", journalFile{"/etc/fstab.vhost1", []byte(fstabOn("1")), []byte(fstabOn("2"))}, nil,
		true,
		time.Now(),
	})
	y.Must(err)
	y.Write("var/db/cfgd/switch/vhost1.json", string(b))
	y.Must(os.WriteFile(y.Path("etc/fstab.vhost1"), []byte(fstab), 0o640))
	y.on = on
}

func TestSwitchInterrupted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fstab, on string
		finished  bool
		snapshot  string
		log       []string
	}{
		{fstabOn("1"), "1", false, "1", nil},
		{fstabOn("1"), "", false, "1", []string{"start 1"}},
		{fstabOn("2"), "", true, "2", []string{"save fstab.vhost1", "start 2"}},
		{fstabOn("2"), "2", true, "2", []string{"save fstab.vhost1"}},
	} {
		y := newYard(t)
		y.interrupted(c.fstab, c.on)
		r, err := y.switcher().Recover(t.Context())
		if err != nil || len(r) != 1 || r[0].Finished != c.finished || r[0].Err != nil ||
			r[0].Jail != "vhost1" {
			t.Errorf("%+v, %v", r, err)
		}
		y.ends(c.snapshot, c.snapshot, c.log...)
	}
	y := newYard(t)
	y.interrupted("# by hand\n", "")
	if r, err := y.switcher().Recover(t.Context()); err != nil || r[0].Err == nil || len(y.journals()) != 1 ||
		y.Read("etc/fstab.vhost1") != "# by hand\n" {
		t.Errorf("%+v, %v", r, err)
	}
	y.Write("var/db/cfgd/switch/vhost1.json", "{}")
	if _, err := y.switcher().Recover(t.Context()); err == nil {
		t.Error("a journal that is none")
	}
}

// A switch that another process is at is left to it: it is not interrupted, nobody recovers it, and
// another switch of the jail is refused. What a killed write left beside the journals is none.
func TestSwitchAtWork(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	y.interrupted(fstabOn("1"), "1")
	p, s := y.plan("2", false), y.switcher()
	y.Write("var/db/cfgd/switch/.cfgd.vhost1.json.1.2", "half a jour")
	unlock, err := exclusive(t.Context(), s.Model, "vhost1", 0)
	y.Must(err)
	ended, cancel := context.WithCancel(t.Context())
	cancel() // nobody waits for the lock
	all, err := s.Recover(t.Context())
	if interrupted, ierr := Interrupted(s.Model); err != nil || ierr != nil || len(all)+len(interrupted) > 0 {
		t.Errorf("%v, %v; %v, %v", all, err, interrupted, ierr)
	}
	if err := s.Do(ended, p); !errors.Is(err, flock.ErrHeld) || y.Read("etc/fstab.vhost1") != fstabOn("1") {
		t.Errorf("a second switch: %v", err)
	}
	unlock()
	if interrupted, err := Interrupted(s.Model); err != nil ||
		!slices.Equal(interrupted, []string{"vhost1"}) {
		t.Errorf("%q, %v", interrupted, err)
	}
	all, err = s.Recover(t.Context())
	if err != nil || len(all) != 1 || all[0].Err != nil || all[0].Finished {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestServiceJails(t *testing.T) {
	t.Parallel()
	r := &said{fail: map[string]int{"sh -c 'nc -z localhost 80'": 2}}
	s := Service{Run: r, Pause: func(context.Context) error { r.log = append(r.log, "pause"); return nil }}
	tg := &config.Target{Name: "vhost1", Health: "nc -z localhost 80"}
	for _, f := range []func(context.Context, *config.Target) error{s.Stop, s.Start, s.Up} {
		if err := f(t.Context(), tg); err != nil {
			t.Error(err)
		}
	}
	want := []string{"service jail stop vhost1", "service jail start vhost1", "jls -j vhost1 jid",
		"sh -c 'nc -z localhost 80'", "pause",
		"jls -j vhost1 jid", "sh -c 'nc -z localhost 80'", "pause", "jls -j vhost1 jid",
		"sh -c 'nc -z localhost 80'"}
	if !slices.Equal(r.log, want) {
		t.Errorf("%q", r.log)
	}
	if got := fmt.Sprint(s.Plan(tg)); got != "[service jail stop vhost1 service jail start vhost1 jls -j "+
		"vhost1 jid sh -c 'nc -z localhost 80']" {
		t.Error(got)
	}
	s.Pause = func(context.Context) error { return context.DeadlineExceeded }
	r.fail["jls -j vhost1 jid"] = 1
	if err := s.Up(t.Context(), tg); err == nil || !strings.Contains(err.Error(), "failed") {
		t.Error(err)
	}
}

// said is a runner that notes commands and fails some of them a few times.
type said struct {
	log  []string
	fail map[string]int
}

func (s *said) Run(_ context.Context, c run.Cmd) (string, error) {
	s.log = append(s.log, c.String())
	if s.fail[c.String()] > 0 {
		s.fail[c.String()]--
		return "", errors.New("failed")
	}
	return "", nil
}
