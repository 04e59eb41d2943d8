package root

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// service does what rc.d/jail does with a jail's filesystems and hooks. It mounts the fstab before
// exec.prestart, and unmounts it after exec.poststop. A start that fails undoes its mounts and runs no hook.
const service = `#!/bin/sh
name=$3 root=/jail/$3
mounts() {
	while read -r src dir type rest; do
		case $type in
		nullfs) mount --bind "$src" "$dir" && mount -o remount,bind,ro "$dir" || return 1 ;;
		zfs) mount --bind "/store.$name" "$dir" || return 1 ;;
		esac
	done < "/etc/fstab.$name"
}
unmounts() {
	umount "$root/cfg" && umount "$root/conf/base/etc" && umount "$root"
}
case $2 in
start)
	mounts || exit 1
	if test -e "$root/broken" || ! cfgd --config /etc/cfgd.toml jail init "$name"; then
		unmounts
		exit 1
	fi
	: > "/run/jail.$name"
	;;
stop)
	rm -f "/run/jail.$name"
	cfgd --config /etc/cfgd.toml jail cleanup "$name" && unmounts
	;;
esac
`

const jls = "#!/bin/sh\ntest -e \"/run/jail.$2\" && echo 1\n"

// threeJails makes a machine with three jails and three snapshots. On the third snapshot no jail starts.
func threeJails(t *testing.T) *machine {
	m := enter(t)
	rc := "jail_enable=\"YES\"\njail_list=\"vhost1 vhost2 vhost3\"\n"
	for n := 1; n <= 3; n++ {
		name := fmt.Sprintf("vhost%d", n)
		rc += fmt.Sprintf("jail_%[1]s_rootdir=\"/jail/%[1]s\"\njail_%[1]s_hostname=\"%[1]s\"\n"+
			"jail_%[1]s_fstab=\"/etc/fstab.%[1]s\"\n", name)
		m.write("/etc/fstab."+name, m.fstab(name, 1))
		m.must(os.MkdirAll("/jail/"+name, 0o755))
		m.must(os.MkdirAll("/store."+name, 0o755))
	}
	m.write("/etc/rc.conf", rc)
	m.write("/etc/cfgd.toml", "[defaults]\nsettle = \"20ms\"\nrescan = \"1s\"\nmemory_size = \"8m\"\n")
	m.tmpfs("/var", "size=16m")
	for n := 1; n <= 3; n++ {
		root := fmt.Sprintf("/jail/proto/.cfgd/snapshot/%d", n)
		m.write(root+"/etc/rc.conf", fmt.Sprintf("hostname=\"proto\"\nrelease=\"%d\"\na=\"1\"\nb=\"2\"\n", n))
		m.write(root+"/etc/hosts", "127.0.0.1 localhost\n")
		for _, d := range []string{"cfg", "conf/base/etc"} {
			m.must(os.MkdirAll(filepath.Join(root, d), 0o755))
		}
	}
	m.write("/jail/proto/.cfgd/snapshot/3/broken", "")
	m.tool("service", service)
	m.tool("jls", jls)
	m.tool("cfgd", "#!/bin/sh\nexec "+program+" \"$@\"\n")
	return m
}

func (m *machine) fstab(name string, snapshot int) string {
	return fmt.Sprintf("/jail/proto/.cfgd/snapshot/%[2]d /jail/%[1]s nullfs ro 0 "+
		"0\n/jail/proto/.cfgd/snapshot/%[2]d/etc /jail/%[1]s/conf/base/etc nullfs ro 0 0\nzpool/%[1]s/cfg "+
		"/jail/%[1]s/cfg zfs rw 0 0\n", name, snapshot)
}

// tool puts a script in the place of a system command, in this namespace only.
func (m *machine) tool(name, script string) {
	m.Helper()
	m.write("/tools/"+name, script)
	m.must(os.Chmod("/tools/"+name, 0o755))
	for _, dir := range []string{"/usr/sbin", "/usr/bin"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			m.must(unix.Mount("/tools/"+name, filepath.Join(dir, name), "", unix.MS_BIND, ""))
			return
		}
	}
	if m.mounted("/usr/local/sbin") == "" {
		m.must(unix.Mount("/tools", "/usr/local/sbin", "", unix.MS_BIND, ""))
	}
}

// Three jails start, are edited, go to another snapshot and back, with real mounts.
func TestSwitchJails(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := threeJails(t)
	m.must(os.Setenv("PATH", "/usr/local/sbin:"+os.Getenv("PATH")))
	for n := 1; n <= 3; n++ {
		m.output("service", "jail", "start", fmt.Sprintf("vhost%d", n))
		m.write(fmt.Sprintf("/jail/vhost%d/etc/rc.conf", n),
			fmt.Sprintf("hostname=\"vhost%d\"\nrelease=\"1\"\na=\"1\"\nb=\"2\"\nown=\"%[1]d\"\n", n))
	}
	m.says(m.cfgd(1, "jail switch --plan --restart vhost1 2"), "conflict", "rc.conf",
		"service jail stop vhost1", "service jail start vhost1", "jls -j vhost1 jid")
	// hostname and release are on neighbouring lines, so a merge by lines can't separate their changes. Two
	// are settled by hand before.
	for n := 1; n <= 3; n++ {
		m.write(fmt.Sprintf("/jail/vhost%d/etc/rc.conf", n),
			fmt.Sprintf("hostname=\"proto\"\nrelease=\"1\"\na=\"1\"\nb=\"2\"\nown=\"%d\"\n", n))
	}
	d := m.watching()
	m.watched("vhost3")
	m.says(m.cfgd(0, "jail switch --restart ALL 2"), "vhost1 switched from 1 to 2, restarted, and it is up",
		"vhost2 switched", "vhost3 switched")
	for n := 1; n <= 3; n++ {
		name := fmt.Sprintf("vhost%d", n)
		m.holds(map[string]string{"/jail/" + name +
			"/etc/rc.conf": fmt.Sprintf("hostname=\"proto\"\nrelease=\"2\"\na=\"1\"\nb=\"2\"\nown=\"%d\"\n",
			n),
			"/etc/fstab." + name: m.fstab(name, 2)})
	}

	// No jail starts on snapshot 3: the first goes back by itself, the others are not touched.
	m.write("/jail/vhost2/etc/later", "kept\n")
	m.says(m.cfgd(3, "jail switch --restart ALL 3"), "vhost1: start: service jail start vhost1",
		"vhost1 is on snapshot 2 again", "vhost2: not switched")
	for n := 1; n <= 3; n++ {
		name := fmt.Sprintf("vhost%d", n)
		m.holds(map[string]string{"/etc/fstab." + name: m.fstab(name, 2)})
		m.says(m.output("jls", "-j", name, "jid"), "1")
	}
	m.holds(map[string]string{
		"/jail/vhost1/etc/rc.conf": "hostname=\"proto\"\nrelease=\"2\"\na=\"1\"\nb=\"2\"\nown=\"1\"\n",
	})

	m.says(m.cfgd(0, "jail rollback --restart vhost2"),
		"vhost2 switched from 2 to 1, restarted, and it is up")
	m.holds(map[string]string{
		"/jail/vhost2/etc/rc.conf": "hostname=\"proto\"\nrelease=\"1\"\na=\"1\"\nb=\"2\"\nown=\"2\"\n",
		"/jail/vhost2/etc/later":   "kept\n",
	})
	m.must(d.ends(unix.SIGTERM))
	for n := 1; n <= 3; n++ {
		m.output("service", "jail", "stop", fmt.Sprintf("vhost%d", n))
	}
	m.holds(map[string]string{"/store.vhost2/later": "kept\n"})
}

// If no prototype is on ZFS, zfs(8) is never run even if it is installed, because on FreeBSD it would load
// zfs.ko.
func TestNoZFS(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := threeJails(t)
	m.tool("zfs", "#!/bin/sh\necho \"$@\" >>/zfs.was.run\nexit 1\n")
	m.must(os.Setenv("PATH", "/usr/local/sbin:"+os.Getenv("PATH")))
	m.output("service", "jail", "start", "vhost1")
	m.write("/jail/proto/etc/rc.conf", "hostname=\"proto\"\n")
	m.tmpfs("/usr/local/etc", "size=1m")
	for _, c := range []struct {
		status int
		line   string
	}{
		{0, "proto create two"}, {0, "proto snapshot two"}, {0, "proto list"}, {0,
			"proto snapshot proto"}, {1, "check"}, {1, "report"}, {0, "jail list"},
		{0, "status"}, {0, "jail create --ip 192.168.0.9 --prototype two extra"}, {0,
			"jail destroy --yes extra"}, {0, "jail switch --plan vhost1 2"},
	} {
		out := m.run(c.status, c.line)
		t.Logf("%s:\n%s", c.line, out)
	}
	m.says(m.run(2, "proto send two other:tank/x"), "it is not on ZFS")
	m.says(m.run(0, "proto list two"), "two        1         ")
	m.holds(map[string]string{"/zfs.was.run": "(absent)"})
}
