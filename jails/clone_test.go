package jails

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"cfgd/config"
)

// withOwn is a jail whose own filesystems are datasets, with a share, a memory disk and parameters of its
// own.
func (y *yard) withOwn() {
	y.Write("etc/fstab.vhost1", fstabOn("1")+
		"zpool/vhost1/cfg /jail/vhost1/cfg zfs rw 0 0\nzpool/vhost1/var\t/jail/vhost1/var\tzfs\trw,noatime\n"+
		"/data/www /jail/vhost1/www nullfs rw 0 0\ntmpfs /jail/vhost1/tmp tmpfs rw,size=1g 0 0\n")
	y.Write("etc/rc.conf", y.Read("etc/rc.conf")+
		"jail_vhost1_interface=igb0\njail_vhost1_ip=10.0.0.1\njail_vhost1_devfs_enable=YES\n"+
		"jail_vhost1_exec_start='/bin/sh /etc/rc'\njail_vhost1_parameters='allow.raw_sockets "+
		"exec.consolelog=/var/log/vhost1.log'\n")
}

func (y *yard) clone() *Spec {
	s := y.spec()
	s.Name, s.Hostname, s.IP, s.Interface = "test", "test", "10.0.0.9", ""
	s.Listed, s.Form = true, config.FormRC
	return s
}

const testFstab = "/jail/proto/.zfs/snapshot/2 /jail/test nullfs ro 0 0\n/jail/proto/etc/.zfs/snapshot/2 " +
	"/jail/test/conf/base/etc nullfs ro 0 0\n" +
	"zpool/test/cfg /jail/test/cfg zfs rw 0 0\nzpool/test/var /jail/test/var zfs rw,noatime 0 0\n/data/www " +
	"/jail/test/www nullfs ro 0 0\ntmpfs /jail/test/tmp tmpfs rw,size=1g 0 0\n"

func TestClone(t *testing.T) {
	t.Parallel()
	y, z := newYard(t), &zpool{}
	y.withOwn()
	before := y.state()
	m, err := y.Load()
	y.Must(err)
	c, err := y.clone().Clone(m.Target("vhost1"), m.Target("vhost1").Mounts.Again(), time.Now())
	y.Must(err)
	want := []string{"zfs snapshot zpool/vhost1/cfg@clone-test zpool/vhost1/var@clone-test",
		"zfs create -o mountpoint=legacy zpool/test",
		"zfs clone -o mountpoint=legacy zpool/vhost1/cfg@clone-test zpool/test/cfg",
		"zfs clone -o mountpoint=legacy zpool/vhost1/var@clone-test zpool/test/var",
		"mkdir /jail/test", "write /etc/fstab.test", "append to /etc/rc.conf"}
	if got := c.Lines(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if c.Files[0].Text != testFstab {
		t.Errorf("%s", c.Files[0].Text)
	}
	for _, line := range []string{
		"jail_test_interface=\"igb0\"\n", "jail_test_ip=\"10.0.0.9\"\n",
		"jail_test_exec_start=\"/bin/sh /etc/rc\"\n", "jail_list=\"$jail_list test\"\n",
	} {
		if !strings.Contains(c.Files[1].Text, line) {
			t.Errorf("%s lacks %s", c.Files[1].Text, line)
		}
	}
	if strings.Contains(c.Files[1].Text, "vhost1") || len(c.Notes) != 2 {
		t.Errorf("%s%q", c.Files[1].Text, c.Notes)
	}
	_, err = y.creator(z).Create(t.Context(), c)
	y.Must(err)
	if !slices.Equal(z.changes(), want[:4]) {
		t.Errorf("%q", z.changes())
	}
	m, err = y.Load()
	y.Must(err)
	if test := m.Target("test"); test == nil || test.BaseID != "proto/etc@2" ||
		m.Target("vhost1").BaseID != "proto/etc@1" {
		t.Errorf("%+v", test)
	}
	z.log = nil
	y.Must(y.creator(z).Destroy(t.Context(), c, false))
	gone := []string{
		"zfs destroy zpool/test/var", "zfs destroy zpool/test/cfg", "zfs destroy zpool/test",
		"zfs destroy zpool/vhost1/cfg@clone-test", "zfs destroy zpool/vhost1/var@clone-test",
	}
	if got := y.state(); got != before || len(z.there) > 0 || !slices.Equal(z.changes(), gone) {
		t.Errorf("left: %q after %q\n%s\nwas\n%s", z.there, z.changes(), got, before)
	}
}

// Without ZFS the jail's own trees are copied from where they are.
func TestCloneCopies(t *testing.T) {
	t.Parallel()
	y, z := newYard(t), &zpool{}
	y.Write("etc/fstab.vhost1", fstabOn("1")+"/jail/.cfgd/vhost1/cfg /jail/vhost1/cfg nullfs rw 0 0\n")
	m, err := y.Load()
	y.Must(err)
	c, err := y.clone().Clone(m.Target("vhost1"), m.Target("vhost1").Mounts.Again(), time.Now())
	y.Must(err)
	if want := []Dir{
		{Name: "/jail/.cfgd/test"}, {"/jail/.cfgd/test/cfg", "/jail/.cfgd/vhost1/cfg"},
	}; !slices.Equal(c.Dirs, want) {
		t.Errorf("%+v", c.Dirs)
	}
	s := y.clone()
	s.Embedded = true
	c, err = y.creator(z).CloneOf(s, m.Target("vhost1"), time.Now())
	y.Must(err)
	if want := []Dir{{"/jail/test/cfg", "/jail/vhost1/cfg"}}; !slices.Equal(c.Dirs, want) {
		t.Errorf("%+v", c.Dirs)
	}
	_, err = y.creator(z).Create(t.Context(), c)
	y.Must(err)
	if got := y.Read("jail/test/cfg/own"); got != "own\n" {
		t.Errorf("%q", got)
	}
}

// A parameter that names the jail is not copied, also if a space before it is escaped as in jail.conf(5):
// otherwise the clone's start would clean up the jail.
func TestCloneTakesNothingThatNamesTheJail(t *testing.T) {
	t.Parallel()
	const hook = `exec.prepare="/usr/local/sbin/cfgd\040jail\040cleanup\040`
	for name, taken := range map[string]bool{"vhost1": false, "$name": true, "vhost12": true} {
		y := newYard(t)
		y.withOwn()
		y.Write("etc/rc.conf", y.Read("etc/rc.conf")+"jail_vhost1_parameters='"+hook+name+"\"'\n")
		m, err := y.Load()
		y.Must(err)
		c, err := y.clone().Clone(m.Target("vhost1"), m.Target("vhost1").Mounts.Again(), time.Now())
		y.Must(err)
		if got := strings.Contains(c.Files[1].Text, "jail_test_parameters="); got != taken {
			t.Errorf("%s: taken is %v:\n%s", name, got, c.Files[1].Text)
		}
	}
}

func TestCloneRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fstab string
		want  string
	}{
		"a dataset that is not the jail's": {
			"zpool/data /jail/vhost1/data zfs rw 0 0\n",
			"/etc/fstab.vhost1:4: dataset zpool/data does not have",
		},
		"a pool of the jail's name": {
			"vhost1/data /jail/vhost1/data zfs rw 0 0\n", "does not have the jail's name",
		},
		"a mount elsewhere": {
			"zpool/vhost1/x /jail/other zfs rw 0 0\n", "/jail/other is not in the jail's root",
		},
		"a mount behind its back": {
			"zpool/vhost1/x /jail/vhost1/../x zfs rw 0 0\n", "is not in the jail's root",
		},
		"a neighbour of a longer name": {
			"zpool/vhost1/x /jail/vhost12 zfs rw 0 0\n", "is not in the jail's root",
		},
	} {
		y := newYard(t)
		m, err := y.Load()
		y.Must(err)
		y.Write("etc/fstab.vhost1", fstabOn("1")+c.fstab)
		_, err = y.creator(&zpool{}).CloneOf(y.clone(), m.Target("vhost1"), time.Now())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	y := newYard(t)
	m, err := y.Load()
	y.Must(err)
	s := y.clone()
	s.IP = ""
	if _, err := y.creator(&zpool{}).CloneOf(s, m.Target("vhost1"), time.Now()); !errors.Is(err,
		ErrNoAddress) {
		t.Error(err)
	}
	s = y.clone()
	s.Name = "vhost1"
	if _, err := y.creator(&zpool{}).CloneOf(s, m.Target("vhost1"), time.Now()); err == nil {
		t.Error("cloned onto itself")
	}
}
