package setup

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/internal/machinetest"
)

// newMachine returns a machine whose jail lacks its cleanup hook. Its rc.conf has no last newline.
func newMachine(t *testing.T) *machinetest.Dir {
	m := machinetest.New(t)
	m.Write("etc/rc.conf",
		"jail_list=v\njail_v_rootdir=/jail/v\njail_v_hostname=v\njail_v_fstab=/etc/fstab.v\n"+
			"jail_v_exec_prestart0='cfgd jail init v'")
	m.Must(os.Chmod(m.Path("etc/rc.conf"), 0o640))
	m.Write("etc/fstab.v", "/jail/proto/etc/.zfs/snapshot/1 /jail/v/conf/base/etc nullfs ro 0 0\n")
	m.Write("jail/proto/etc/.zfs/snapshot/1/hosts", "x\n")
	return m
}

func setupOf(m *machinetest.Dir) *Setup {
	model, err := m.Load()
	m.Must(err)
	return &Setup{model, m.Load}
}

func noRecord(m *machinetest.Dir) bool {
	_, err := os.Stat(m.Path("var/db/cfgd/setup.json"))
	return errors.Is(err, fs.ErrNotExist)
}

func TestDoAndRemove(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	before := m.Read("etc/rc.conf")
	s := setupOf(m)
	files, err := s.Do(t.Context(), s.Model.Missing())
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	want := before + "\njail_v_exec_poststop0=\"/usr/local/sbin/cfgd jail cleanup v\"\ncfgd_enable=\"YES\"\n"
	if got := m.Read("etc/rc.conf"); got != want {
		t.Errorf("%s", got)
	}
	if st, _ := os.Stat(m.Path("etc/rc.conf")); st.Mode() != 0o640 {
		t.Errorf("%v", st.Mode())
	}
	if plan := setupOf(m).Model.Missing(); len(plan) > 0 {
		t.Errorf("left: %+v", plan)
	}
	// A line that somebody changed is kept, and reported.
	m.Write("etc/rc.conf", strings.Replace(want, `cfgd_enable="YES"`, `cfgd_enable="NO"`, 1))
	_, left, err := setupOf(m).Remove(t.Context())
	if err != nil || len(left) != 1 || left[0].New != `cfgd_enable="YES"` {
		t.Errorf("%+v, %v", left, err)
	}
	if got := m.Read("etc/rc.conf"); got != before+"\ncfgd_enable=\"NO\"\n" || !noRecord(m) {
		t.Errorf("%s", got)
	}
}

// A failure after the files were written restores everything.
func TestDoRestores(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after func(s *Setup) (*config.Model, error) // what is read after the edits
		want  string
	}{
		"the configuration is none": {
			func(*Setup) (*config.Model, error) { return nil, errors.New("rc.conf:1: no") },
			"is none: rc.conf:1",
		},
		"nothing is settled": {
			func(s *Setup) (*config.Model, error) { return s.Model, nil },
			"the edit did not settle it: /etc/rc.conf:5",
		},
	} {
		m := newMachine(t)
		before := m.Read("etc/rc.conf")
		s := setupOf(m)
		s.Reload = func() (*config.Model, error) {
			if m.Read("etc/rc.conf") == before {
				return m.Load()
			}
			return c.after(s)
		}
		if _, err := s.Do(t.Context(), s.Model.Missing()); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if m.Read("etc/rc.conf") != before || !noRecord(m) {
			t.Errorf("%s: left %s", name, m.Read("etc/rc.conf"))
		}
	}
}

// A plan of a machine that has changed since is refused before anything is written.
func TestDoRefusesAnOldPlan(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	s := setupOf(m)
	steps := s.Model.Missing()
	m.Write("etc/rc.conf", m.Read("etc/rc.conf")+"\ncfgd_enable=YES\n")
	before := m.Read("etc/rc.conf")
	if _, err := s.Do(t.Context(), steps); err == nil || !strings.Contains(err.Error(), "plan again") {
		t.Error(err)
	}
	if m.Read("etc/rc.conf") != before || !noRecord(m) {
		t.Errorf("left %s", m.Read("etc/rc.conf"))
	}
}
