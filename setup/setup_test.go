package setup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/config/conffile"
)

// yard is a machine in a directory whose jail lacks its cleanup hook.
type yard struct {
	testing.TB
	dir string
}

func newYard(t *testing.T) *yard {
	y := &yard{t, t.TempDir()}
	// no last newline
	y.write("etc/rc.conf",
		"jail_list=v\njail_v_rootdir=/jail/v\njail_v_hostname=v\njail_v_fstab=/etc/fstab.v\n"+
			"jail_v_exec_prestart0='cfgd jail init v'")
	y.write("etc/fstab.v", "/jail/proto/etc/.zfs/snapshot/1 /jail/v/conf/base/etc nullfs ro 0 0\n")
	y.write("jail/proto/etc/.zfs/snapshot/1/hosts", "x\n")
	return y
}

func (y *yard) write(p, content string) {
	full := filepath.Join(y.dir, p)
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755),
		os.WriteFile(full, []byte(content), 0o640)); err != nil {
		y.Fatal(err)
	}
}

func (y *yard) read(p string) string {
	b, err := os.ReadFile(filepath.Join(y.dir, p))
	if err != nil {
		return "(absent)"
	}
	return string(b)
}

func (y *yard) load() (*config.Model, error) {
	return config.Load(config.Options{Root: y.dir, Euid: -1})
}

func (y *yard) setup() *Setup {
	m, err := y.load()
	if err != nil {
		y.Fatal(err)
	}
	return &Setup{m, y.load}
}

func TestDoAndRemove(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	before := y.read("etc/rc.conf")
	s := y.setup()
	files, err := s.Do(t.Context(), s.Plan())
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	want := before + "\njail_v_exec_poststop0=\"/usr/local/sbin/cfgd jail cleanup v\"\ncfgd_enable=\"YES\"\n"
	if got := y.read("etc/rc.conf"); got != want {
		t.Errorf("%s", got)
	}
	if st, _ := os.Stat(filepath.Join(y.dir, "etc/rc.conf")); st.Mode() != 0o640 {
		t.Errorf("%v", st.Mode())
	}
	if plan := y.setup().Plan(); len(plan) > 0 {
		t.Errorf("left: %+v", plan)
	}
	// A line that somebody changed is kept, and reported.
	y.write("etc/rc.conf", strings.Replace(want, `cfgd_enable="YES"`, `cfgd_enable="NO"`, 1))
	_, left, err := y.setup().Remove(t.Context())
	if err != nil || len(left) != 1 || left[0].New != `cfgd_enable="YES"` {
		t.Errorf("%+v, %v", left, err)
	}
	if got := y.read("etc/rc.conf"); got != before+"\ncfgd_enable=\"NO\"\n" ||
		y.read("var/db/cfgd/setup.json") != "(absent)" {
		t.Errorf("%s", got)
	}
}

// Any failure restores everything.
func TestDoIsAllOrNothing(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(y *yard, s *Setup, steps []Step) []Step{
		"the configuration is none": func(_ *yard, s *Setup, steps []Step) []Step {
			s.Reload = func() (*config.Model, error) { return nil, errors.New("rc.conf:1: no") }
			return steps
		},
		"it does not settle it": func(y *yard, s *Setup, steps []Step) []Step {
			steps[0].New = "# nothing"
			return steps
		},
		"it changes another jail": func(y *yard, s *Setup, steps []Step) []Step {
			return append(steps, Step{
				conffile.Edit{File: "/etc/rc.conf", New: "jail_v_ip=10.0.0.1"}, "other", "no reason",
			})
		},
		"a file that cannot be written": func(y *yard, s *Setup, steps []Step) []Step {
			y.write("etc/notadir", "")
			return append(steps, Step{conffile.Edit{File: "/etc/notadir/x", New: "x"}, "", "no reason"})
		},
		"a line that is gone": func(y *yard, s *Setup, steps []Step) []Step {
			return append(steps, Step{
				conffile.Edit{File: "/etc/rc.conf", Line: 99, Old: "x", New: "y"}, "", "no reason",
			})
		},
	} {
		y := newYard(t)
		before := y.read("etc/rc.conf")
		s := y.setup()
		steps := spoil(y, s, s.Plan())
		if name == "it changes another jail" {
			steps = steps[1:] // the jail itself is not meant to be changed
		}
		if _, err := s.Do(t.Context(), steps); err == nil {
			t.Errorf("%s: done all the same: %s", name, y.read("etc/rc.conf"))
		}
		if y.read("etc/rc.conf") != before || y.read("var/db/cfgd/setup.json") != "(absent)" {
			t.Errorf("%s: left %s, %s", name, y.read("etc/rc.conf"), y.read("var/db/cfgd/setup.json"))
		}
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		edit conffile.Edit
		want string // "" is an error
	}{
		{"a rw 1\n", conffile.Edit{Line: 1, Old: "rw", New: "rw,noauto"}, "a rw,noauto 1\n"},
		{
			"/dev/rw /rw rw 1\n", conffile.Edit{Line: 1, Old: "rw", New: "rw,noauto"},
			"/dev/rw /rw rw,noauto 1\n",
		},
		{"a rw rw\n", conffile.Edit{Line: 1, Old: "rw", New: "x"}, ""},
		{"x=1\nx=2", conffile.Edit{Line: 2, Old: "x", New: "y"}, "x=1\ny=2\n"},
		{"xx=1\n", conffile.Edit{Line: 1, Old: "x", New: "y"}, ""},
		{"a {\n}\n", conffile.Edit{Line: 1, New: "b;"}, "a {\nb;\n}\n"},
		{"a\n{\n}\n", conffile.Edit{Line: 1, New: "b;"}, "a\n{\nb;\n}\n"},
		{"a { }\n", conffile.Edit{Line: 1, New: "b;"}, ""},
		{"", conffile.Edit{New: "b"}, "b\n"},
		{"a", conffile.Edit{New: "b"}, "a\nb\n"},
	} {
		got, d, err := apply([]byte(c.text), c.edit)
		if (err != nil) != (c.want == "") || err == nil && string(got) != c.want {
			t.Errorf("%q %+v: %q, %v", c.text, c.edit, got, err)
		}
		if err != nil {
			continue
		}
		if back, ok := takeOut(got, d); !ok ||
			strings.TrimSuffix(string(back), "\n") != strings.TrimSuffix(c.text, "\n") {
			t.Errorf("%q taken out: %q", c.text, back)
		}
	}
}
