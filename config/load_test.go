package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cfgd/config/conffile"
	"cfgd/config/conffile/conffiletest"
	"cfgd/config/jailconf"
	"cfgd/config/rcconf"
)

func TestHost(t *testing.T) {
	m := mustLoad(t, map[string]string{
		"/conf/base/etc/fstab": "/dev/ada0s1a / ufs ro 1 1\n",
		"/etc/fstab":           "/dev/ada0s1a / ufs ro 1 1\n/dev/ada0s3 /cfg ufs rw,noauto 2 2\n",
	})
	conffiletest.WantProblems(t, m.Check(nil))
	h := m.Target(HostName)
	if len(m.Targets) != 1 || h.Base != "/conf/base/etc" || h.Live != "/etc" || h.Cfg != "/cfg" ||
		h.Root != "/" || h.Fstab != "/etc/fstab" ||
		!h.CfgNoauto || h.BaseID != "" || h.KeepBytes != 512<<10 || !h.Host() {
		t.Errorf("host %+v", h)
	}
}

// A machine without anything for cfgd is no error.
func TestEmptyMachine(t *testing.T) {
	m := mustLoad(t, map[string]string{"/etc/": ""})
	if len(m.Targets) != 0 || len(m.Jails) != 0 || len(m.Problems) != 0 || m.File != "" {
		t.Errorf("%+v", m)
	}
}

func TestNoRoot(t *testing.T) {
	_, err := Load(Options{Root: "/nonexistent/dir"})
	if _, ok := err.(*conffile.Error); !ok || !strings.Contains(err.Error(),
		"give --root an existing directory") {
		t.Errorf("%v", err)
	}
}

// The host stands first, the others by name.
func TestOrderOfTargets(t *testing.T) {
	files := corrected()
	files["/conf/base/etc/"] = ""
	files[tomlName] = "[jail.a]\nroot=\"/a\"\n[jail.zz]\nroot=\"/zz\"\n"
	var names []string
	for _, target := range mustLoad(t, files).Targets {
		names = append(names, target.Name)
	}
	if got := strings.Join(names, " "); got != "host a vhost1 zz" {
		t.Errorf("order %s", got)
	}
}

// Prototypes without ZFS: the base is a directory of a read-only copy.
func TestPlainPrototype(t *testing.T) {
	files := corrected()
	files["/etc/fstab.vhost1"] = `/jail/proto/.cfgd/snapshot/4 /jail/vhost1 nullfs ro 0 0
/jail/proto/.cfgd/snapshot/4/etc /jail/vhost1/conf/base/etc nullfs ro 0 0
`
	m := mustLoad(t, files)
	conffiletest.WantProblems(t, m.Problems)
	v := m.Target("vhost1")
	if v.Base != "/jail/proto/.cfgd/snapshot/4/etc" || v.BaseID != "proto/etc@4" ||
		m.Prototypes[0].Root != "/jail/proto" {
		t.Errorf("%+v", v)
	}
}

// A dataset's snapshot that fstab mounts itself is read where it is mounted; a plain directory has no
// base id.
func TestOtherBases(t *testing.T) {
	for line, want := range map[string][2]string{
		"zpool/proto/etc@5 /jail/vhost1/conf/base/etc zfs ro 0 0": {
			"/jail/vhost1/conf/base/etc", "proto/etc@5",
		},
		"/jail/defaults /jail/vhost1/conf/base/etc/ nullfs ro": {"/jail/defaults", ""},
		`/jail/my\040proto/etc/.zfs/snapshot/1 /jail//vhost1/conf/base/etc nullfs ro`: {
			"/jail/my proto/etc/.zfs/snapshot/1", "my proto/etc@1",
		},
	} {
		files := corrected()
		files["/etc/fstab.vhost1"] = line + "\n"
		m := mustLoad(t, files)
		if v := m.Target("vhost1"); v == nil || v.Base != want[0] || v.BaseID != want[1] {
			t.Errorf("%s: %+v", line, v)
		}
	}
}

// fstab may name the jail's directory through a link.
func TestFstabThroughLink(t *testing.T) {
	files := corrected()
	files["/usr/jail/vhost1/"] = ""
	files["/etc/fstab.vhost1"] = strings.ReplaceAll(paperFstabVhost1, " /jail/", " /usr/jail/")
	root := conffiletest.Machine(t, files)
	if err := os.Symlink("usr/jail", filepath.Join(root, "jail")); err != nil {
		t.Fatal(err)
	}
	m, err := Load(Options{Root: root})
	if err != nil || m.Target("vhost1") == nil {
		t.Fatalf("%+v, %v", m, err)
	}
	conffiletest.WantProblems(t, m.Problems)
}

// A base that is a snapshot of another target's live tree is outside of it.
func TestSnapshotOfAnotherTarget(t *testing.T) {
	files := corrected()
	files[tomlName] = "[jail.proto]\nroot = \"/jail/proto\"\nbase = \"/jail/defaults\"\n"
	m := mustLoad(t, files)
	if m.Target("proto") == nil || m.Target("vhost1") == nil {
		t.Errorf("targets %+v, problems %v", m.Targets, m.Problems)
	}
}

// Malformed files that all targets need are errors, with file and line.
func TestMalformedFiles(t *testing.T) {
	for name, c := range map[string][2]string{
		"rc.conf":          {"/etc/rc.conf", "a=1\nb='\n"},
		"rc.conf.local":    {"/etc/rc.conf.local", "\nb='\n"},
		"defaults":         {"/etc/defaults/rc.conf", "\nb='\n"},
		"rc.conf.d/jail":   {"/etc/rc.conf.d/jail", "\nb='\n"},
		"rc.conf.d/jail/x": {"/etc/rc.conf.d/jail/x", "\nb='\n"},
	} {
		t.Run(name, func(t *testing.T) {
			files := corrected()
			files[c[0]] = c[1]
			_, err := Load(Options{Root: conffiletest.Machine(t, files)})
			if err == nil || !strings.HasPrefix(err.Error(), c[0]+":2:3: reached EOF without closing quote") {
				t.Errorf("%v", err)
			}
		})
	}
}

// rc.d/jail takes jail_ variables if they are complete, and jail.conf otherwise.
func TestMergeJails(t *testing.T) {
	at := func(line int) conffile.Origin { return conffile.At("/etc/rc.conf", line) }
	rc := func(name string, hostname bool) *jailDef {
		d := &jailDef{
			name:     name,
			root:     "/rc/" + name,
			rcPrefix: "jail_" + name + "_",
			origin:   map[string]conffile.Origin{"root": at(1)},
		}
		if hostname {
			d.origin["hostname"] = at(2)
		}
		return d
	}
	conf := func(name string) *jailDef {
		return newJailDef(jailconf.Block{Name: name, Origin: conffile.At("/etc/jail.conf", 7),
			Params: map[string]jailconf.Param{
				"path": {Values: []string{"/conf/" + name}, Origin: conffile.At("/etc/jail.conf", 8)}}})
	}
	vars, err := rcconf.LoadFile(rcText(""), "/etc/rc.conf")
	if err != nil {
		t.Fatal(err)
	}
	f := &jailFinder{rc: vars, list: jailList{names: []string{"a", "e", "x"}, at: at(9)}}
	defs := f.merge([]*jailDef{rc("a", true), rc("b", false), rc("c", true), rc("d", false)},
		[]*jailDef{conf("a"), conf("b"), conf("e")})
	var got []string
	for _, d := range defs {
		got = append(got, d.root)
	}
	if strings.Join(got, " ") != "/rc/a /conf/b /rc/c /rc/d /conf/e" {
		t.Errorf("jails %q", got)
	}
	conffiletest.WantProblems(t, f.Problems,
		"/etc/rc.conf:1 warning: jail a is defined here and at /etc/jail.conf:7; rc.d/jail takes this one",
		"/etc/rc.conf:1 warning: jail b has no jail_b_hostname: rc.d/jail takes /etc/jail.conf:7",
		"/etc/rc.conf:1 warning: jail d has no hostname",
		"/etc/rc.conf:9 warning: jail_list names x, which neither")
}
