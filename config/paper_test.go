package config

import (
	"os"
	"path/filepath"
	"testing"
)

// The files of section 2.2 of "Building servers with NanoBSD, ZFS and jails", with the slip of its line 20.
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

// machine writes files below a new --root directory; a name that ends in a slash is a directory.
func machine(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		full := filepath.Join(root, name)
		if name[len(name)-1] == '/' {
			if err := os.MkdirAll(full, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// mustLoad loads a machine that is free of configuration errors.
func mustLoad(t testing.TB, files map[string]string) *Model {
	t.Helper()
	m, err := Load(Options{Root: machine(t, files), Euid: -1})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return m
}

func TestPaper(t *testing.T) {
	m := mustLoad(t, paperFiles())
	for _, x := range m.Targets {
		t.Logf("%+v", *x)
	}
	for _, x := range m.Jails {
		t.Logf("%+v", *x)
	}
	for _, x := range m.Problems {
		t.Logf("%s", x)
	}
	for _, x := range m.Prototypes {
		t.Logf("%+v", *x)
	}
}
