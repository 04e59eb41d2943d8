package config

import (
	"slices"
	"strings"
	"testing"

	"cfgd/config/conffile/conffiletest"
)

// The files of section 2.2 of "Building servers with NanoBSD, ZFS and jails", with the mistake in its
// line 20.
const (
	paperRcConf = `jail_enable="YES"
jail_list="proto vhost1"

jail_proto_rootdir="/jail/proto"
jail_proto_hostname="proto.domain.local"
jail_proto_ip="192.168.0.10"           # needed for fetch()
jail_proto_interface="igb0"
jail_proto_devfs_enable="YES"
jail_proto_mount_enable="YES"
jail_proto_fstab="/etc/fstab.proto"

jail_vhost1_rootdir="/jail/vhost1"
jail_vhost1_hostname="vhost1.domain.local"
jail_vhost1_ip="192.168.0.11"
jail_vhost1_interface="igb0"
jail_vhost1_devfs_enable="YES"
jail_vhost1_mount_enable="YES"
jail_vhost1_fstab="/etc/fstab.vhost1"
jail_vhost1_exec_prestart0="/etc/admin/jail_etc_init vhost1"
jail_vhost1_exec_prestart0="/etc/admin/jail_etc_cleanup vhost1"
`
	paperFstabProto  = "localhost:/FreeBSD /jail/proto/FreeBSD nfs rw 0 0\n"
	paperFstabVhost1 = `/jail/proto/.zfs/snapshot/1 /jail/vhost1 nullfs ro 0 0
/jail/proto/etc/.zfs/snapshot/1 /jail/vhost1/conf/base/etc nullfs ro 0 0
zpool/vhost1/cfg /jail/vhost1/cfg zfs rw 0 0
zpool/vhost1/var /jail/vhost1/var zfs rw 0 0
zpool/vhost1/home /jail/vhost1/home zfs rw 0 0
`
)

// paperFiles is the machine of the paper; tests change what they are about.
func paperFiles() map[string]string {
	return map[string]string{
		"/etc/rc.conf":      paperRcConf,
		"/etc/fstab.proto":  paperFstabProto,
		"/etc/fstab.vhost1": paperFstabVhost1,
	}
}

// mustLoad loads a machine that is free of configuration errors.
func mustLoad(t testing.TB, files map[string]string) *Model {
	t.Helper()
	m, err := Load(Options{Root: conffiletest.Machine(t, files), Euid: -1})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return m
}

func TestPaperMachine(t *testing.T) {
	m := mustLoad(t, paperFiles())
	if len(m.Targets) != 1 || len(m.Jails) != 1 {
		t.Fatalf("targets %v, jails %v", m.Targets, m.Jails)
	}
	v := m.Targets[0]
	got := []string{v.Name, v.Root, v.Base, v.BaseID, v.Cfg, v.Live, v.Fstab, string(v.Memory)}
	want := []string{"vhost1", "/jail/vhost1", "/jail/proto/etc/.zfs/snapshot/1", "proto/etc@1",
		"/jail/vhost1/cfg", "/jail/vhost1/etc", "/etc/fstab.vhost1", "dir"}
	if !slices.Equal(got, want) {
		t.Errorf("target:\n got %q\nwant %q", got, want)
	}
	for key, at := range map[string]string{"root": "/etc/rc.conf:12", "fstab": "/etc/rc.conf:18",
		"base":     "/etc/fstab.vhost1:2",
		"prestart": "/etc/rc.conf:20"} {
		if v.Origin[key].String() != at {
			t.Errorf("origin of %s: %s, want %s", key, v.Origin[key], at)
		}
	}
	p := m.Jails[0]
	if p.Name != "proto" || p.Root != "/jail/proto" || p.Fstab != "/etc/fstab.proto" || len(p.Prestart) != 0 {
		t.Errorf("jail %+v", p)
	}
	if len(m.Prototypes) != 1 || m.Prototypes[0].Root != "/jail/proto" || m.Prototypes[0].Name != "proto" {
		t.Errorf("prototypes %+v", m.Prototypes)
	}
	conffiletest.WantProblems(t, m.Problems,
		"/etc/rc.conf:20 error: jail_vhost1_exec_prestart0 is set at line 19 already: the cleanup hook")
	if fix := m.Problems[0].Fix; fix != "name this line jail_vhost1_exec_poststop0" {
		t.Errorf("fix: %s", fix)
	}
}

// corrected is the paper's machine without its mistake.
func corrected() map[string]string {
	files := paperFiles()
	files["/etc/rc.conf"] = strings.Replace(paperRcConf,
		`exec_prestart0="/etc/admin/jail_etc_cleanup`, `exec_poststop0="/etc/admin/jail_etc_cleanup`, 1)
	return files
}

func TestMendedPaperHasNoProblem(t *testing.T) {
	m := mustLoad(t, corrected())
	conffiletest.WantProblems(t, m.Check(nil))
	v := m.Target("vhost1")
	if !slices.Equal(v.Prestart, []string{"/etc/admin/jail_etc_init vhost1"}) ||
		!slices.Equal(v.Poststop, []string{"/etc/admin/jail_etc_cleanup vhost1"}) {
		t.Errorf("hooks %q %q", v.Prestart, v.Poststop)
	}
}

// Section 2.4 prints the line of the base twice.
func TestPaperDoubledFstabLine(t *testing.T) {
	files := corrected()
	files["/etc/fstab.vhost1"] = `/jail/proto/.zfs/snapshot/2 /jail/vhost1 nullfs ro 0 0
/jail/proto/etc/.zfs/snapshot/2 /jail/vhost1/conf/base/etc nullfs ro 0 0
/jail/proto/etc/.zfs/snapshot/2 /jail/vhost1/conf/base/etc nullfs ro 0 0
`
	m := mustLoad(t, files)
	conffiletest.WantProblems(t, m.Problems,
		"/etc/fstab.vhost1:3 warning: /jail/proto/etc/.zfs/snapshot/2 is mounted on "+
			"/jail/vhost1/conf/base/etc twice; the first line is /etc/fstab.vhost1:2")
	if id := m.Target("vhost1").BaseID; id != "proto/etc@2" {
		t.Errorf("base id %s", id)
	}
}
