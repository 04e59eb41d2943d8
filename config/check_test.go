package config

import (
	"cmp"
	"errors"
	"runtime"
	"strings"
	"testing"

	"cfgd/config/conffile"
	"cfgd/config/conffile/conffiletest"
)

// mounts is a table of mounts for tests.
type mounts map[string]Mount

func (ms mounts) lookup(dir string) (Mount, bool, error) {
	m, ok := ms[dir]
	return m, ok, nil
}

func TestLiveOnMemory(t *testing.T) {
	up := Mount{"/jail/proto/etc/.zfs/snapshot/1", "nullfs"}
	for name, c := range map[string]struct {
		memory Backing
		mounts mounts
		want   string
	}{
		"down": {BackingTmpfs, nil, ""},
		"on tmpfs": {
			BackingTmpfs, mounts{"/jail/v/etc": {"tmpfs", "tmpfs"}, "/jail/v/conf/base/etc": up}, "",
		},
		"on a disk": {
			BackingTmpfs, mounts{"/jail/v/etc": {"zpool/v/etc", "zfs"}},
			"live /jail/v/etc is on zpool/v/etc (zfs), not in memory",
		},
		"not mounted": {
			BackingTmpfs, mounts{"/jail/v/conf/base/etc": up},
			"the base of v is mounted, but live /jail/v/etc is not in memory",
		},
		"a directory, meant": {BackingDir, mounts{"/jail/v/conf/base/etc": up}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Model{Targets: []*Target{{Name: "v", Root: "/jail/v", Live: "/jail/v/etc",
				Settings: Settings{Memory: c.memory},
				Origin:   map[string]conffile.Origin{"root": {File: "/etc/rc.conf", Line: 3}}}}}
			var want []string
			if c.want != "" {
				want = []string{"/etc/rc.conf:3 warning: " + c.want}
			}
			conffiletest.WantProblems(t, m.Check(c.mounts.lookup), want...)
		})
	}
}

func TestHostNotOnMemory(t *testing.T) {
	h := &Target{
		Name:     HostName,
		Live:     "/etc",
		Base:     "/nonexistent",
		Fstab:    "/nonexistent",
		Settings: Settings{Memory: BackingMD},
	}
	ps := checkLive(h, mounts{}.lookup)
	if len(ps) != 1 || ps[0].Message != "live /etc is not a filesystem in memory" {
		t.Errorf("%v", ps)
	}
	ps = checkLive(h, func(string) (Mount, bool, error) { return Mount{}, false, errors.New("no table") })
	if len(ps) != 1 || !strings.Contains(ps[0].Message, "no table") {
		t.Errorf("%v", ps)
	}
}

// The reported backing of a live tree is what is mounted. rc.initdiskless decides about the host's, and a
// jail may run on what an older setting made.
func TestBacking(t *testing.T) {
	tmpfs := mounts{"/etc": {"tmpfs", "tmpfs"}, "/jail/v/etc": {"tmpfs", "tmpfs"}}
	md := mounts{"/etc": {"/dev/md0", "ufs"}, "/jail/v/etc": {"/dev/md1", "ufs"}}
	ofMD := Backing(BackingMD)
	if runtime.GOOS == "linux" {
		ofMD = "" // a disk array there
	}
	for _, c := range []struct {
		mounts     mounts
		root       string
		host, jail Backing
	}{
		{tmpfs, "", BackingTmpfs, BackingTmpfs},
		{md, "", cmp.Or(ofMD, BackingDir), BackingMD},
		{nil, "", BackingDir, BackingMD},
		{mounts{"/etc": {"/dev/ada0s1a", "ufs"}}, "", BackingDir, BackingMD},
		{tmpfs, "/m", BackingMD, BackingMD},
	} {
		m := &Model{Root: c.root}
		host := &Target{Name: HostName, Live: "/etc", Settings: Settings{Memory: BackingMD}}
		jail := &Target{Name: "v", Live: "/jail/v/etc", Settings: Settings{Memory: BackingMD}}
		if h, j := m.Backing(host, c.mounts.lookup), m.Backing(jail, c.mounts.lookup); h != c.host ||
			j != c.jail {
			t.Errorf("%v, root %q: host %s, jail %s; want %s, %s", c.mounts, c.root, h, j, c.host, c.jail)
		}
	}
}

// What the boot reads from the image cannot be changed in memory.
func TestImageFiles(t *testing.T) {
	m := mustLoad(t, map[string]string{
		"/conf/base/etc/fstab": "/dev/ada0s2a / ufs ro 1 1\n",
		"/etc/fstab":           "# mine\n/dev/ada0s1a / ufs ro 1 1\n/dev/ada0s3 /cfg ufs rw,noauto 2 2\n",
		"/conf/base/etc/rc":    "a", "/etc/rc": "b", "/etc/diskless": "",
		"/conf/base/etc/rc.initdiskless": "x", "/etc/rc.initdiskless": "x",
		"/conf/base/etc/rc.conf": "", "/etc/rc.conf": "a=1\n",
	})
	conffiletest.WantProblems(t, m.Check(nil),
		"/etc/diskless warning: differs from the image's, which alone counts: rc(8) looks for it",
		"/etc/fstab:2 warning: the root is /dev/ada0s1a here, but /dev/ada0s2a in the image",
		"/etc/rc warning: differs from the image's, which alone counts: init(8) starts it")
}

// The system's own table of mounts can be read.
func TestSystemMount(t *testing.T) {
	if _, ok, err := systemMount("/"); err != nil || !ok {
		t.Errorf("nothing on /: %v", err)
	}
	if _, ok, err := systemMount(t.TempDir()); err != nil || ok {
		t.Errorf("a new directory is a mount: %v", err)
	}
}

// Two jails with one cfg are reported, with both lines. A cfg that only looks the same is not.
func TestSharedCfg(t *testing.T) {
	target := func(name, kind, from string, line int) *Target {
		return &Target{Name: name, CfgMount: true, CfgSource: from, CfgType: kind,
			CfgLine: conffile.At("/etc/fstab."+name, line),
			Live:    "/jail/" + name + "/etc", Settings: Settings{Memory: BackingDir}}
	}
	const want = "/etc/fstab.b:4 error: cfg of b is %s, which /etc/fstab.a:3 mounts as cfg of a: each " +
		"would save over the other's overrides"
	for name, c := range map[string]struct {
		targets []*Target
		want    string
	}{
		"datasets": {
			[]*Target{target("a", "zfs", "z/cfg", 3), target("b", "zfs", "z/cfg", 4)}, "z/cfg",
		},
		"directories": {
			[]*Target{target("a", "nullfs", "/store", 3), target("b", "nullfs", "/store/", 4)}, "/store/",
		},
		"others": {[]*Target{target("a", "zfs", "z/a", 3), target("b", "zfs", "z/b", 4)}, ""},
		"memory": {
			[]*Target{target("a", "tmpfs", "tmpfs", 3), target("b", "tmpfs", "tmpfs", 4)}, "",
		},
		"nothing mounts it": {
			[]*Target{
				{Name: "a", Settings: Settings{Memory: BackingDir}},
				{Name: "b", Settings: Settings{Memory: BackingDir}},
			}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var all []string
			if c.want != "" {
				all = []string{strings.Replace(want, "%s", c.want, 1)}
			}
			m := &Model{Targets: c.targets, Root: t.TempDir()}
			conffiletest.WantProblems(t, m.Check(mounts{}.lookup), all...)
		})
	}
}

// The line that mounts a cfg is known from the jail's fstab.
func TestSharedCfgLoaded(t *testing.T) {
	files := map[string]string{}
	for _, name := range []string{"vhost1", "vhost2"} {
		files["/etc/fstab."+name] = strings.ReplaceAll(paperFstabVhost1, "vhost1", name)
	}
	files["/etc/fstab.vhost2"] = strings.ReplaceAll(files["/etc/fstab.vhost2"], "zpool/vhost2/cfg",
		"zpool/vhost1/cfg")
	files["/etc/rc.conf"] = "jail_list=\"vhost1 vhost2\"\njail_vhost1_rootdir=\"/jail/vhost1\"\n" +
		"jail_vhost2_rootdir=\"/jail/vhost2\"\n"
	m := mustLoad(t, files)
	found := 0
	for _, p := range m.Check(mounts{}.lookup) {
		if strings.Contains(p.Message, "each would save over") {
			found++
			if p.File != "/etc/fstab.vhost2" || p.Line == 0 ||
				!strings.Contains(p.Message, "/etc/fstab.vhost1:") || p.Target != "vhost2" {
				t.Errorf("%+v", p)
			}
		}
	}
	if found != 1 {
		t.Errorf("told %d times", found)
	}
}
