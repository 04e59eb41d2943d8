package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cfgd/config/conffile/conffiletest"
)

const (
	webFstab = "/jail/proto/.zfs/snapshot/3 /jail/web nullfs ro 0 0\n/jail/proto/etc/.zfs/snapshot/3 " +
		"/jail/web/conf/base/etc nullfs ro 0 0\n"
	jailConf = `exec.clean;
path = "/jail/$name";
mount.fstab = "/etc/fstab.$name";
exec.prestart = "/usr/local/sbin/cfgd jail init $name";
exec.poststop = "/usr/local/sbin/cfgd jail cleanup $name";

web {
	host.hostname = "web.domain.local";
}
`
)

func TestJailConfTarget(t *testing.T) {
	m := mustLoad(t, map[string]string{"/etc/jail.conf": jailConf, "/etc/fstab.web": webFstab})
	conffiletest.WantProblems(t, m.Problems)
	w := m.Target("web")
	if w == nil {
		t.Fatal("web is no target")
	}
	if w.Root != "/jail/web" || w.Base != "/jail/proto/etc/.zfs/snapshot/3" || w.BaseID != "proto/etc@3" ||
		w.Fstab != "/etc/fstab.web" ||
		!slices.Equal(w.Prestart, []string{"/usr/local/sbin/cfgd jail init web"}) ||
		!slices.Equal(w.Poststop, []string{"/usr/local/sbin/cfgd jail cleanup web"}) {
		t.Errorf("%+v", w)
	}
}

// The fstab's mount on a jail's cfg gives its source and type, on any line. The last mount hides the
// others.
func TestCfgSource(t *testing.T) {
	for name, c := range map[string]struct {
		fstab, conf  string
		source, kind string
	}{
		"none":      {"", "", "", ""},
		"a dataset": {"zpool/web/cfg /jail/web/cfg zfs rw 0 0\n", "", "zpool/web/cfg", "zfs"},
		"nullfs": {
			"/data/my\\040web/cfg /jail/web/./cfg/ nullfs rw 0 0\n", "", "/data/my web/cfg", "nullfs",
		},
		"two": {
			"/old /jail/web/cfg nullfs rw 0 0\n/new /jail/web/cfg nullfs rw 0 0\n", "", "/new", "nullfs",
		},
		"in jail.conf": {
			"", "web { mount += \"zpool/web/cfg /jail/web/cfg zfs rw 0 0\"; }\n", "zpool/web/cfg", "zfs",
		},
		"of others": {"/x /jail/web/cfg/below nullfs rw 0 0\n", "", "", ""},
	} {
		m := mustLoad(t, map[string]string{
			"/etc/jail.conf": jailConf + c.conf,
			"/etc/fstab.web": webFstab + c.fstab,
		})
		w := m.Target("web")
		if w == nil || w.CfgSource != c.source || w.CfgType != c.kind || w.CfgMount != (c.kind != "") {
			t.Errorf("%s: %+v", name, w)
		}
	}
}

// The files of one jail come before the common one, and a malformed one concerns only that jail.
func TestJailConfFiles(t *testing.T) {
	m := mustLoad(t, map[string]string{
		"/etc/jail.conf":            jailConf + "old { path = /common; }\n",
		"/etc/fstab.web":            webFstab,
		"/etc/jail.old.conf":        "old { path = /own; }\n",
		"/etc/jail.conf.d/bad.conf": "bad {\n",
		"/etc/jail.conf.d/new.conf": "new { path = /new; }\n",
		"/usr/local/etc/cfgd.toml":  "[jail.bad]\nsettle = \"1s\"\n",
	})
	var jails []string
	for _, j := range m.Jails {
		jails = append(jails, j.Name+"="+j.Root)
	}
	if got := strings.Join(jails, " "); got != "new=/new old=/own" || m.Target("web") == nil {
		t.Errorf("jails %s, targets %+v", got, m.Targets)
	}
	errs := m.Errors()
	if len(errs) != 1 || errs[0].File != "/etc/jail.conf.d/bad.conf" || errs[0].Target != "bad" {
		t.Errorf("errors %v", errs)
	}
}

func TestJailConfMalformed(t *testing.T) {
	_, err := Load(
		Options{Root: conffiletest.Machine(t, map[string]string{"/etc/jail.conf": "a {\n path = /a\n}\n"})},
	)
	if err == nil || !strings.HasPrefix(err.Error(), "/etc/jail.conf:") {
		t.Errorf("%v", err)
	}
}

// A base from the mount parameter counts as one from an fstab.
func TestJailConfMountParameter(t *testing.T) {
	m := mustLoad(t, map[string]string{"/etc/jail.conf": `web {
	path = "/jail/web";
	mount = "/jail/proto/etc/.zfs/snapshot/3 /jail/web/conf/base/etc nullfs ro 0 0";
	exec.prestart = "cfgd jail init web";
	exec.poststop = "cfgd jail cleanup web";
}
`})
	conffiletest.WantProblems(t, m.Problems)
	if w := m.Target("web"); w == nil || w.BaseID != "proto/etc@3" || w.Fstab != "" {
		t.Errorf("%+v", m.Targets)
	}
}

// Missing hooks are reported with the line to write.
func TestJailConfNoHooks(t *testing.T) {
	m := mustLoad(t, map[string]string{
		"/etc/jail.conf": "web { path = /jail/web; mount.fstab = /etc/fstab.web; }\n",
		"/etc/fstab.web": webFstab,
	})
	conffiletest.WantProblems(t, m.Problems,
		"/etc/jail.conf:1 warning: jail web has no init hook in exec.prestart",
		"/etc/jail.conf:1 warning: jail web has no cleanup hook in exec.poststop")
	if fix := m.Problems[1].Fix; fix != `write exec.poststop += "/usr/local/sbin/cfgd jail cleanup $name";` {
		t.Errorf("fix %s", fix)
	}
}

// A jail on the machine's own root is no target.
func TestJailOnTheHostsRoot(t *testing.T) {
	m := mustLoad(t, map[string]string{"/etc/jail.conf": "svc { path = /; }\nnothing { persist; }\n"})
	if len(m.Targets) != 0 || len(m.Jails) != 2 || len(m.Problems) != 0 {
		t.Errorf("%+v", m)
	}
}

// Load writes nothing and runs nothing: the tree is the same before and after.
func TestLoadChangesNothing(t *testing.T) {
	files := corrected()
	files["/etc/rc.conf"] += "x=$(touch /etc/ran)\n`touch /etc/ran`\n"
	root := conffiletest.Machine(t, files)
	before := listing(t, root)
	if _, err := Load(Options{Root: root}); err != nil {
		t.Fatal(err)
	}
	if after := listing(t, root); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

func listing(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		b.WriteString(name + " " + info.Mode().String() + " " + info.ModTime().String() + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
