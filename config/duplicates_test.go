package config

import (
	"strings"
	"testing"

	"cfgd/config/conffile/conffiletest"
)

// Each set-up has one mistake, and the problems that it must cause.
func TestSlips(t *testing.T) {
	rc := func(old, new string) func(map[string]string) {
		return func(f map[string]string) {
			f["/etc/rc.conf"] = strings.Replace(f["/etc/rc.conf"], old, new, 1)
		}
	}
	fstab := func(old, new string) func(map[string]string) {
		return func(f map[string]string) {
			f["/etc/fstab.vhost1"] = strings.Replace(f["/etc/fstab.vhost1"], old, new, 1)
		}
	}
	file := func(name, text string) func(map[string]string) {
		return func(f map[string]string) { f[name] = text }
	}
	for name, c := range map[string]struct {
		change func(map[string]string)
		want   []string
	}{
		"not in jail_list": {rc("proto vhost1", "proto"),
			[]string{"/etc/rc.conf:12 warning: jail vhost1 is not in jail_list"}},
		"in jail_list alone": {rc("proto vhost1", "proto vhost1 vhost2"),
			[]string{"/etc/rc.conf:2 warning: jail_list names vhost2, which neither"}},
		"twice in jail_list": {rc("proto vhost1", "proto vhost1 proto"),
			[]string{"/etc/rc.conf:2 warning: jail_list names proto twice"}},
		"no cleanup hook": {rc("jail_vhost1_exec_poststop0", "#"),
			[]string{"/etc/rc.conf:19 warning: jail vhost1 has no cleanup hook in exec.poststop"}},
		"no init hook": {rc("jail_vhost1_exec_prestart0", "#"),
			[]string{"/etc/rc.conf:20 warning: jail vhost1 has no init hook in exec.prestart"}},
		"list broken by a gap": {rc("jail_vhost1_exec_poststop0", "jail_vhost1_exec_poststop2"),
			[]string{"/etc/rc.conf:19 warning: jail vhost1 has no cleanup hook in exec.poststop"}},
		"list from 1": {rc("jail_vhost1_exec_poststop0", "jail_vhost1_exec_poststop1"), nil},
		"cleanup in prestop": {rc("jail_vhost1_exec_poststop0", "jail_vhost1_exec_prestop0"),
			[]string{
				"/etc/rc.conf:19 warning: jail vhost1 has no cleanup hook",
				"/etc/rc.conf:20 warning: the cleanup hook of jail vhost1 is in exec.prestop: its failure " +
					"would leave the jail running",
			}},
		"cleanup in stop": {rc(`jail_vhost1_exec_poststop0="/etc/admin/jail_etc_cleanup vhost1"`,
			`jail_vhost1_exec_stop="cfgd jail cleanup vhost1"`),
			[]string{
				"/etc/rc.conf:19 warning: jail vhost1 has no cleanup hook",
				"/etc/rc.conf:20 warning: the cleanup hook of jail vhost1 is in exec.stop: its failure",
			}},
		"another jail's hook": {rc("jail_etc_init vhost1", "jail_etc_init proto"),
			[]string{"/etc/rc.conf:19 warning: the init hook of jail vhost1 names proto"}},
		"cfgd as hook": {
			rc("/etc/admin/jail_etc_init vhost1",
				"/usr/local/sbin/cfgd --log-level debug jail init vhost1 >/dev/null 2>&1"), nil,
		},
		"a hook twice": {rc("jail_vhost1_exec_poststop0",
			"jail_vhost1_exec_poststop0=x\njail_vhost1_exec_poststop0"),
			[]string{`/etc/rc.conf:21 warning: jail_vhost1_exec_poststop0 is set at line 20 already: "x" ` +
				`is not run`}},
		"a hook twice the same": {rc("jail_vhost1_exec_prestart0",
			"jail_vhost1_exec_prestart0=\"/etc/admin/jail_etc_init vhost1\"\njail_vhost1_exec_prestart0"),
			[]string{`/etc/rc.conf:20 warning: jail_vhost1_exec_prestart0 is set to the same at line 19`}},
		"a hook anew in another file is none": {
			file("/etc/rc.conf.local", "jail_vhost1_exec_prestart0='cfgd jail init vhost1'\n"), nil,
		},
		"other snapshot of the root": {fstab("/jail/proto/.zfs/snapshot/1", "/jail/proto/.zfs/snapshot/2"),
			[]string{"/etc/fstab.vhost1:2 warning: base is snapshot 1, but the root at /etc/fstab.vhost1:1 " +
				"is snapshot 2"}},
		"other prototype of the root": {fstab("/jail/proto/.zfs/snapshot/1", "/jail/web/.zfs/snapshot/1"),
			[]string{"/etc/fstab.vhost1:2 warning: base is of prototype /jail/proto, but the root at " +
				"/etc/fstab.vhost1:1 is of /jail/web"}},
		"two bases": {fstab("zpool/vhost1/cfg",
			"/jail/proto/etc/.zfs/snapshot/2 /jail/vhost1/conf/base/etc nullfs ro 0 0\nzpool/vhost1/cfg"),
			[]string{
				"/etc/fstab.vhost1:3 warning: /jail/proto/etc/.zfs/snapshot/2 hides " +
					"/jail/proto/etc/.zfs/snapshot/1 of /etc/fstab.vhost1:2 on",
				"/etc/fstab.vhost1:3 warning: base is snapshot 2, but the root",
			}},
		"the root over its base": {func(f map[string]string) {
			lines := strings.SplitAfter(f["/etc/fstab.vhost1"], "\n")
			f["/etc/fstab.vhost1"] = lines[1] + lines[2] + lines[0]
		},
			[]string{"/etc/fstab.vhost1:1 warning: /jail/proto/etc/.zfs/snapshot/1 is mounted on " +
				"/jail/vhost1/conf/base/etc before the root, which hides it",
				"/etc/fstab.vhost1:2 warning: zpool/vhost1/cfg is mounted on /jail/vhost1/cfg before the " +
					"root"}},
		"a doubled line of a jail that is no target": {file("/etc/fstab.proto", paperFstabProto+"# again\n"+
			paperFstabProto),
			[]string{"/etc/fstab.proto:3 warning: localhost:/FreeBSD is mounted on /jail/proto/FreeBSD " +
				"twice; the first line is /etc/fstab.proto:1"}},
		"a doubled line of the host": {func(f map[string]string) {
			f["/conf/base/etc/"] = ""
			f["/etc/fstab"] = strings.Repeat("/dev/ada0s3 /cfg ufs rw,noauto 2 2\n", 2)
		}, []string{"/etc/fstab:2 warning: /dev/ada0s3 is mounted on /cfg twice"}},
		"parameters past the variables": {rc("jail_vhost1_hostname",
			"jail_vhost1_parameters='allow.mount mount.fstab=/etc/other exec.stop+=x'\njail_vhost1_hostname"),
			[]string{
				"/etc/rc.conf:13 warning: jail_vhost1_parameters sets mount.fstab of jail vhost1, which is " +
					"not followed", "/etc/rc.conf:13 warning: jail_vhost1_parameters sets exec.stop",
			}},
		"cleanup once the jail runs": {rc("jail_vhost1_exec_poststop0", "jail_vhost1_exec_poststart0"),
			[]string{
				"/etc/rc.conf:19 warning: jail vhost1 has no cleanup hook",
				"/etc/rc.conf:20 warning: the cleanup hook of jail vhost1 is in exec.poststart",
			}},
		"a hook in the jail's own start": {rc("jail_vhost1_exec_poststop0",
			"jail_vhost1_exec_afterstart0='cfgd jail init vhost1'\njail_vhost1_exec_poststop0"),
			[]string{"/etc/rc.conf:20 warning: the init hook of jail vhost1 is in exec.start, which runs " +
				"inside of the jail"}},
		"a hook without a base": {fstab("/conf/base/etc", "/conf/base/etcetera"),
			[]string{"/etc/rc.conf:19 warning: jail vhost1 has an init hook, but its fstab mounts nothing " +
				"on /jail/vhost1/conf/base/etc"}},
		"a root through ..": {rc(`"/jail/vhost1"`, `"/jail/vhost1/../vhost1"`),
			[]string{`/etc/rc.conf:12 error: root "/jail/vhost1/../vhost1" of jail vhost1 leads through ..`}},
		"a root with a newline": {rc(`"/jail/vhost1"`, "\"/jail/vhost1\nx\""),
			[]string{`/etc/rc.conf:12 error: root "/jail/vhost1\nx" of jail vhost1 has a control character`}},
		"a base with a newline": {fstab("/jail/proto/etc/", `/jail/pro\012to/etc/`),
			[]string{`/etc/fstab.vhost1:2 error: base "/jail/pro\nto/etc/.zfs/snapshot/1" has a control ` +
				`character`}},
		"no hostname": {rc("jail_vhost1_hostname", "#"),
			[]string{"/etc/rc.conf:12 warning: jail vhost1 has no hostname"}},
		"fstab is not there": {rc(`jail_vhost1_fstab="/etc/fstab.vhost1"`,
			`jail_vhost1_fstab="/etc/fstab.vhost"`),
			[]string{"/etc/rc.conf:18 warning: fstab /etc/fstab.vhost of jail vhost1 is not there"}},
		"fstab is malformed": {fstab("nullfs ro 0 0\nzpool", "\nzpool"),
			[]string{"/etc/fstab.vhost1:2 error: 2 of the 3 fields that a mount needs"}},
		"a mount without options": {
			fstab("zpool/vhost1/cfg /jail/vhost1/cfg zfs rw 0 0", "zpool/vhost1/cfg /jail/vhost1/cfg zfs"),
			nil,
		},
		"fstab is a directory": {func(f map[string]string) {
			delete(f, "/etc/fstab.vhost1")
			f["/etc/fstab.vhost1/"] = ""
		},
			[]string{"/etc/fstab.vhost1 error: is a directory, not a regular file"}},
		"a root that is all": {rc(`"/jail/vhost1"`, `"/"`),
			[]string{`/etc/rc.conf:12 error: root "/" of jail vhost1 is not a directory of its own`}},
		"a relative root": {rc(`"/jail/vhost1"`, `"jail/vhost1"`),
			[]string{`/etc/rc.conf:12 error: root "jail/vhost1" of jail vhost1 is not`}},
		"a root that only a shell knows": {rc(`"/jail/vhost1"`, "`cat /etc/where`"),
			[]string{"/etc/rc.conf:12 warning: jail_vhost1_rootdir depends on a command substitution, " +
				"which cfgd does not run"}},
		"variables where nobody reads them": {file("/etc/rc.conf.d/cfgd", "jail_list=x\n"),
			[]string{"/etc/rc.conf.d/cfgd warning: sets jail_list, but rc.d/jail does not read this file"}},
		"cfg always mounted": {func(f map[string]string) {
			f["/conf/base/etc/"] = ""
			f["/etc/fstab"] = "/dev/ada0s3 /cfg ufs rw 2 2\n"
		},
			[]string{"/etc/fstab:1 warning: /cfg is mounted all the time"}},
		"the host's fstab is malformed": {func(f map[string]string) {
			f["/conf/base/etc/"] = ""
			f["/etc/fstab"] = "/dev/ada0s3 /cfg\n"
		},
			[]string{"/etc/fstab:1 error: 2 of the 4 fields"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := corrected()
			c.change(files)
			conffiletest.WantProblems(t, mustLoad(t, files).Problems, c.want...)
		})
	}
}

// A fault of one target never affects another.
func TestTroubleStaysWithItsTarget(t *testing.T) {
	files := corrected()
	files["/etc/rc.conf"] += `jail_list="$jail_list vhost2"
jail_vhost2_rootdir=/jail/vhost2 jail_vhost2_hostname=two
jail_vhost2_exec_prestart0="jail_etc_init vhost2"
jail_vhost2_exec_poststop0="jail_etc_cleanup vhost2"
`
	files["/etc/fstab.vhost2"] = "garbage\n"
	m := mustLoad(t, files)
	conffiletest.WantProblems(t, m.Problems, "/etc/fstab.vhost2:1 error: 1 of the 3 fields")
	if m.Problems[0].Target != "vhost2" || m.Target("vhost1") == nil || m.Target("vhost2") != nil ||
		len(m.Jails) != 2 {
		t.Errorf("problems %v, targets %v, jails %v", m.Problems, m.Targets, m.Jails)
	}
}

// Two jails on one root have one live tree: only the first can be looked after.
func TestSharedRoot(t *testing.T) {
	files := corrected()
	files["/etc/rc.conf"] += `jail_list="$jail_list zwei"
jail_zwei_rootdir=/jail/vhost1 jail_zwei_hostname=two jail_zwei_fstab=/etc/fstab.vhost1
jail_zwei_exec_prestart0="jail_etc_init zwei"
jail_zwei_exec_poststop0="jail_etc_cleanup zwei"
`
	m := mustLoad(t, files)
	conffiletest.WantProblems(t, m.Problems,
		"/etc/rc.conf:22 error: live /jail/vhost1/etc of zwei is live /jail/vhost1/etc of vhost1")
	if m.Target("vhost1") == nil || m.Target("zwei") != nil {
		t.Errorf("targets %v", m.Targets)
	}
}

func TestParseHook(t *testing.T) {
	for command, want := range map[string][2]string{
		"cfgd jail init vhost1":                            {"init", "vhost1"},
		"/usr/local/sbin/cfgd jail cleanup vhost1 || true": {"cleanup", "vhost1"},
		"cfgd --config /a/b jail init v-1":                 {"init", "v-1"},
		"/bin/sh -c 'cfgd jail init vhost1; echo done'":    {"init", "vhost1"},
		"sh /etc/jail_etc_init vhost1":                     {"init", "vhost1"},
		"/etc/admin/jail_etc_cleanup vhost1":               {"cleanup", "vhost1"},
		"jail_etc_init":                                    {"init", ""},
		"cfgd jail switch vhost1 2":                        {"", ""},
		"cfgd jail":                                        {"", ""},
		"echo jail init vhost1":                            {"", ""},
		"":                                                 {"", ""},
	} {
		h, name := parseHook(command)
		if string(h) != want[0] || name != want[1] {
			t.Errorf("%q: %q %q, want %q", command, h, name, want)
		}
	}
}
