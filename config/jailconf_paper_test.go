package config

import (
	"reflect"
	"strings"
	"testing"

	"cfgd/config/conffile/conffiletest"
)

// paperJailConf is paperRcConf as a jail.conf, without its mistake.
const paperJailConf = `# Defaults of all jails.
$fstab = "/etc/fstab.$name";
path = "/jail/$name";
host.hostname = "$name.domain.local";
interface = igb0;
allow.mount;
mount.devfs;
mount.fstab = $fstab;

proto {
	ip4.addr = 192.168.0.10;	// needed for fetch()
}

vhost1 {
	ip4.addr = 192.168.0.11;
	exec.prestart = "/etc/admin/jail_etc_init $name";
	exec.poststop = "/etc/admin/jail_etc_cleanup $name";
}
`

// paperInJailConf is the machine of the paper as FreeBSD 9.1 and later would have it.
func paperInJailConf() map[string]string {
	files := corrected()
	files["/etc/rc.conf"] = "jail_enable=\"YES\"\njail_list=\"proto vhost1\"\n"
	files["/etc/jail.conf"] = paperJailConf
	return files
}

// Both forms of the paper's machine give the same targets and jails. Only the origins of the values
// differ.
func TestPaperInJailConf(t *testing.T) {
	t.Parallel()
	strip := func(m *Model) *Model {
		m.Root, m.Classes, m.read, m.host = "", nil, nil, Mounts{}
		for _, target := range m.Targets {
			target.Origin, target.Classes, target.Definition = nil, nil, Definition{}
			target.Mounts.from = mountSources{}
		}
		for _, j := range m.Jails {
			j.Origin, j.Definition, j.Mounts.from = nil, Definition{}, mountSources{}
		}
		return m
	}
	old, modern := mustLoad(t, corrected()), mustLoad(t, paperInJailConf())
	conffiletest.WantProblems(t, modern.Check(nil))
	for key, at := range map[string]string{"root": "/etc/jail.conf:3", "fstab": "/etc/jail.conf:8",
		"base":     "/etc/fstab.vhost1:2",
		"prestart": "/etc/jail.conf:16", "poststop": "/etc/jail.conf:17"} {
		if got := modern.Target("vhost1").Origin[key].String(); got != at {
			t.Errorf("origin of %s: %s, want %s", key, got, at)
		}
	}
	if old, modern := strip(old), strip(modern); !reflect.DeepEqual(old, modern) {
		t.Errorf("rc.conf\n%+v %+v\njail.conf\n%+v %+v", old.Targets[0], old.Jails[0], modern.Targets[0],
			modern.Jails[0])
	}
}

// The mistakes of rc.conf are found in jail.conf too.
func TestSlipsInJailConf(t *testing.T) {
	t.Parallel()
	conf := func(old, new string) func(map[string]string) {
		return func(f map[string]string) {
			f["/etc/jail.conf"] = strings.Replace(f["/etc/jail.conf"], old, new, 1)
		}
	}
	rc := func(text string) func(map[string]string) {
		return func(f map[string]string) { f["/etc/rc.conf"] = text }
	}
	prepare := func(hook string) func(map[string]string) {
		return conf("exec.poststop =", "exec.prepare = \"/etc/admin/jail_etc_"+hook+"\";\n\texec.poststop =")
	}
	for name, c := range map[string]struct {
		change func(map[string]string)
		want   []string
	}{
		"cleanup under the name of init": {conf("exec.poststop", "exec.prestart"),
			[]string{`/etc/jail.conf:17 error: exec.prestart is set at line 16 already: the cleanup hook ` +
				`takes the place of "/etc/admin/jail_etc_init vhost1", and runs at the start of jail ` +
				`vhost1`}},
		"cleanup added to init": {conf("exec.poststop =", "exec.prestart +="),
			[]string{
				"/etc/jail.conf:17 warning: jail vhost1 has no cleanup hook",
				"/etc/jail.conf:17 warning: the cleanup hook of jail vhost1 is in exec.prestart",
			}},
		"a command that another replaces": {conf("exec.poststop", "exec.poststop = true;\n\texec.poststop"),
			[]string{`/etc/jail.conf:18 warning: exec.poststop is set at line 17 already: "true" is not ` +
				`run`}},
		"a command of the defaults replaced is none": {
			conf("# Defaults", "exec.poststop = true; # Defaults"), nil,
		},
		"a command added": {conf("exec.poststop =", "exec.poststop = true;\n\texec.poststop +="), nil},
		"cleanup in prestop": {conf("exec.poststop", "exec.prestop"),
			[]string{
				"/etc/jail.conf:16 warning: jail vhost1 has no cleanup hook",
				"/etc/jail.conf:17 warning: the cleanup hook of jail vhost1 is in exec.prestop",
			}},
		"cleanup in prepare as well": {prepare("cleanup $name"), nil},
		"another jail's cleanup in prepare": {prepare("cleanup proto"),
			[]string{"/etc/jail.conf:17 warning: the cleanup hook of jail vhost1 names proto"}},
		"cleanup in prepare alone": {conf("exec.poststop", "exec.prepare"),
			[]string{"/etc/jail.conf:16 warning: jail vhost1 has no cleanup hook"}},
		"init in prepare": {prepare("init $name"),
			[]string{"/etc/jail.conf:17 warning: the init hook of jail vhost1 is in exec.prepare: the " +
				"jail's fstab"}},
		"another jail's hook": {
			conf("init $name", "init proto"),
			[]string{"/etc/jail.conf:16 warning: the init hook of jail vhost1 names proto"},
		},
		"a name that the shell finds": {conf("init $name", "init $(cat /etc/name)"), nil},
		"not in jail_list": {
			rc("jail_list=proto\n"), []string{"/etc/jail.conf:14 warning: jail vhost1 is not in jail_list"},
		},
		"no jail_list is all": {rc(""), nil},
		"in jail_list alone": {
			rc("jail_list='proto vhost1 vhost2'\n"),
			[]string{"/etc/rc.conf:1 warning: jail_list names vhost2, which neither"},
		},
		"an unknown variable": {conf(`"/jail/$name"`, `"$jails/$name"`),
			[]string{
				"/etc/jail.conf:3 error: path of jail proto: variable $jails is not set",
				"/etc/jail.conf:3 error: path of jail vhost1: variable $jails is not set",
			}},
		"an fstab that is not there": {conf(`"/etc/fstab.$name"`, `"/etc/fstabs/$name"`),
			[]string{
				"/etc/jail.conf:8 warning: fstab /etc/fstabs/proto of jail proto is not there",
				"/etc/jail.conf:8 warning: fstab /etc/fstabs/vhost1 of jail vhost1",
			}},
		"a relative path": {conf(`"/jail/$name"`, `"jail/$name"`),
			[]string{
				`/etc/jail.conf:3 error: root "jail/proto" of jail proto is not`,
				`/etc/jail.conf:3 error: root "jail/vhost1" of jail vhost1 is not`,
			}},
		"a jail of both forms": {rc(
			"jail_list='proto vhost1'\njail_proto_rootdir=/jail/proto\njail_proto_hostname=proto\n",
		),
			[]string{"/etc/rc.conf:2 warning: jail proto is defined here and at /etc/jail.conf:10; " +
				"rc.d/jail takes this one"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := paperInJailConf()
			c.change(files)
			conffiletest.WantProblems(t, mustLoad(t, files).Problems, c.want...)
		})
	}
}

// Jails in files of their own get the defaults of the jail.conf that includes them, as rc.d/jail starts
// them from there.
func TestIncludedJailConfD(t *testing.T) {
	t.Parallel()
	files := paperInJailConf()
	defaults, jails, _ := strings.Cut(paperJailConf, "proto {")
	proto, vhost1, _ := strings.Cut(jails, "vhost1 {")
	files["/etc/jail.conf"] = defaults + `.include "/etc/jail.conf.d/*.conf";` + "\n"
	files["/etc/jail.conf.d/proto.conf"] = "proto {" + proto
	files["/etc/jail.conf.d/vhost1.conf"] = "vhost1 {" + vhost1
	m := mustLoad(t, files)
	conffiletest.WantProblems(t, m.Problems)
	if v := m.Target("vhost1"); v == nil || v.Root != "/jail/vhost1" ||
		v.Origin["prestart"].String() != "/etc/jail.conf.d/vhost1.conf:3" {
		t.Errorf("%+v", v)
	}
}

// A listed jail's /etc/jail.NAME.conf is read alone, even if jail.conf includes it: rc.d/jail does the
// same, so the defaults are missing.
func TestIncludedJailNameConf(t *testing.T) {
	t.Parallel()
	files := paperInJailConf()
	files["/etc/jail.conf"] = "path = \"/jail/$name\";\n.include \"/etc/jail.*.conf\";\nproto { }\n"
	files["/etc/jail.vhost1.conf"] = "vhost1 { exec.start = $path; }\n"
	m := mustLoad(t, files)
	conffiletest.WantProblems(
		t, m.Problems, "/etc/jail.vhost1.conf:1 error: exec.start of jail vhost1: variable $path is not set",
	)
	files["/etc/rc.conf"] = ""
	m = mustLoad(t, files)
	conffiletest.WantProblems(t, m.Problems)
}
