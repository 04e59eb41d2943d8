package zfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// guest skips a test unless it runs in that machine.
func guest(t *testing.T) {
	if os.Getenv("CFGD_ZFS_GUEST") == "" {
		t.Skip("on a real ZFS pool, in the machine that tests/zfs/run makes")
	}
}

// server is the machine. It has two pools; the second one represents another machine.
type server struct{ *testing.T }

func (s *server) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *server) write(p, content string) {
	s.Helper()
	s.must(os.MkdirAll(filepath.Dir(p), 0o755))
	s.must(os.WriteFile(p, []byte(content), 0o644))
}

func (s *server) append(p, content string) {
	s.Helper()
	f, err := os.OpenFile(p, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	s.must(err)
	_, err = f.WriteString(content)
	s.must(errors.Join(err, f.Close()))
}

func (s *server) read(p string) string {
	s.Helper()
	b, err := os.ReadFile(p)
	if errors.Is(err, os.ErrNotExist) {
		return "(absent)"
	}
	s.must(err)
	return string(b)
}

// ends runs a command that must end with a status, and returns all that it printed.
func (s *server) ends(status int, words ...string) string {
	s.Helper()
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	got := 0
	if exit != nil {
		got = exit.ExitCode()
	}
	s.Logf("%s: %d\n%s", strings.Join(words, " "), got, out)
	if got != status {
		s.Fatalf("%s ended with %d, want %d:\n%s", strings.Join(words, " "), got, status, out)
	}
	return string(out)
}

func (s *server) run(line string) string {
	s.Helper()
	return s.ends(0, strings.Fields(line)...)
}

func (s *server) cfgd(status int, line string) string {
	s.Helper()
	return s.ends(status, append([]string{"cfgd"}, strings.Fields(line)...)...)
}

func (s *server) says(out string, words ...string) {
	s.Helper()
	for _, w := range words {
		if !strings.Contains(out, w) {
			s.Errorf("%q is not in\n%s", w, out)
		}
	}
}

func (s *server) has(p, word string, want bool) {
	s.Helper()
	if got := strings.Contains(s.read(p), word); got != want {
		s.Errorf("%s has %q: %v\n%s", p, word, got, s.read(p))
	}
}

// service does what rc.d/jail does with filesystems and hooks. It mounts the fstab before exec.prestart, and
// unmounts it backwards after exec.poststop.
const service = `#!/bin/sh
name=$3 fstab=/etc/fstab.$3
mounts() {
	while read -r src dir type rest; do
		case $type in
		nullfs) mount --bind "$src" "$dir" && mount -o remount,bind,ro "$dir" || return 1 ;;
		zfs) mount -t zfs "$src" "$dir" || return 1 ;;
		esac
	done <"$fstab"
}
unmounts() {
	awk '{ print $2 }' "$fstab" | tac | while read -r dir; do
		if mountpoint -q "$dir"; then umount "$dir" || exit 1; fi
	done
}
case $2 in
start)
	if ! mounts || test -e "/jail/$name/broken" || ! cfgd jail init "$name"; then
		unmounts
		exit 1
	fi
	: >"/run/jail.$name"
	;;
stop)
	rm -f "/run/jail.$name"
	cfgd jail cleanup "$name" && unmounts
	;;
esac
`

const jls = "#!/bin/sh\ntest -e \"/run/jail.$2\" && echo 1\n"

// ssh runs commands on the other machine: on this one with the other pool. The network can break.
const ssh = `#!/bin/sh
for last; do :; done
case $last in
'zfs receive'*)
	if test -e /run/network.breaks; then
		rm /run/network.breaks
		head -c 9000000 | sh -c "$last"
		exit 255
	fi
	;;
esac
exec sh -c "$last"
`

func newServer(t *testing.T) *server {
	guest(t)
	s := &server{t}
	for name, text := range map[string]string{"service": service, "jls": jls, "ssh": ssh} {
		s.write("/usr/local/sbin/"+name, text)
		s.must(os.Chmod("/usr/local/sbin/"+name, 0o755))
		for _, dir := range []string{"/usr/sbin/", "/usr/bin/"} { // these directories are searched first
			if _, err := os.Stat(dir + name); err == nil {
				s.run("mount --bind /usr/local/sbin/" + name + " " + dir + name)
			}
		}
	}
	s.must(os.MkdirAll("/var/disks", 0o755))
	for _, pool := range []string{"zpool", "tank"} {
		file := "/var/disks/" + pool
		s.must(os.WriteFile(file, nil, 0o600))
		s.must(os.Truncate(file, 512<<20))
		s.run("zpool create -f -O mountpoint=none " + pool + " " + file)
	}
	s.must(os.MkdirAll("/jail", 0o755))
	return s
}

// automountsGo waits until the kernel has unmounted the snapshots that it mounted by itself. Afterwards,
// while a jail has a snapshot mounted, its path below .zfs fails with ELOOP.
func (s *server) automountsGo() {
	s.Helper()
	const expiry = "/sys/module/zfs/parameters/zfs_expire_snapshot"
	s.write(expiry, "1")
	for _, p := range []string{"/jail/proto/.zfs/snapshot/1", "/jail/proto/etc/.zfs/snapshot/1",
		"/jail/proto/.zfs/snapshot/2", "/jail/proto/etc/.zfs/snapshot/2"} {
		_, _ = os.ReadDir(p) // restarts its time if it is mounted
	}
	// the kernel sends no event
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if _, err := os.ReadDir("/jail/proto/etc/.zfs/snapshot/1"); errors.Is(err, syscall.ELOOP) {
			break
		}
		if time.Now().After(end) {
			s.Log("the automounts stay: nothing answers ELOOP here")
			break
		}
	}
	s.write(expiry, "300")
}

// Sections 2 and 3 of the paper with cfgd's commands on a real pool: a prototype, jails, edits, snapshots,
// switches there and back, a clone, replication.
func TestPaper(t *testing.T) {
	s := newServer(t)
	s.write("/etc/rc.conf", "jail_enable=\"YES\"\n")

	// 3.3 and 3.5: the prototype's filesystems, a system in them, and the first snapshot.
	s.says(s.cfgd(0, "proto create --dataset zpool/proto --ip 192.168.0.10 proto"),
		"proto made; install a system below /jail/proto")
	s.says(s.run("zfs list -H -o name,mountpoint -r zpool"), "zpool/proto\t/jail/proto\n",
		"zpool/proto/etc\t/jail/proto/etc\n", "zpool/proto_var\t/jail/proto/var\n")
	s.write("/jail/proto/etc/rc.conf", "hostname=\"proto\"\n#\nrelease=\"1\"\n#\nsendmail_enable=\"NONE\"\n")
	s.write("/jail/proto/etc/hosts", "127.0.0.1 localhost\n")
	s.write("/jail/proto/bin/sh", "program of release 1\n")
	s.write("/jail/proto/usr/local/etc/nginx.conf", "worker_processes 1;\n")
	for _, d := range []string{"cfg", "var", "home", "conf/base/etc"} {
		s.must(os.MkdirAll("/jail/proto/"+d, 0o755))
	}
	s.cfgd(0, "relocate proto /usr/local/etc")
	s.says(s.cfgd(0, "proto snapshot --comment first"), "proto snapshot 1 taken")
	s.says(s.run("zfs list -H -t snapshot -o name,cfgd:comment"), "zpool/proto@1\tfirst",
		"zpool/proto/etc@1\tfirst")

	// 3.6: two production jails.
	for n := 1; n <= 2; n++ {
		name := fmt.Sprintf("vhost%d", n)
		s.cfgd(0, fmt.Sprintf("jail create %s --ip 192.168.0.1%d", name, n))
		s.run("service jail start " + name)
	}
	s.cfgd(0, "check")
	s.has("/jail/vhost1/etc/local/nginx.conf", "worker_processes 1;", true)
	s.append("/jail/vhost1/etc/local/nginx.conf", "# ours\n")
	s.append("/jail/vhost1/etc/rc.conf", "#\nsshd_enable=\"YES\"\n")
	s.must(os.Remove("/jail/vhost1/etc/hosts"))
	s.says(s.cfgd(1, "diff --name-status vhost1"), "D! hosts", "M! rc.conf", "M! local/nginx.conf")
	s.cfgd(0, "save vhost1")
	s.run("service jail stop vhost1")
	s.run("service jail start vhost1")
	s.has("/jail/vhost1/etc/rc.conf", "sshd_enable", true)
	if s.read("/jail/vhost1/etc/hosts") != "(absent)" {
		t.Error("the removal did not survive the restart")
	}

	// 2.4 and 3.7: the prototype is upgraded, a test jail tries it, the jails are switched, and one goes
	// back.
	s.write("/jail/proto/etc/rc.conf", "hostname=\"proto\"\n#\nrelease=\"2\"\n#\nsendmail_enable=\"NONE\"\n")
	s.write("/jail/proto/bin/sh", "program of release 2\n")
	s.cfgd(0, "proto snapshot")
	s.says(s.cfgd(0, "proto list"), "proto", "M1")
	s.cfgd(0, "jail clone --ip 192.168.0.99 vhost1 trial 2")
	s.says(s.run("zfs list -H -o name,origin -r zpool/trial"),
		"zpool/trial/cfg\tzpool/vhost1/cfg@clone-trial")
	s.run("service jail start trial")
	s.has("/jail/trial/etc/rc.conf", "release=\"2\"", true)
	s.has("/jail/trial/etc/rc.conf", "sshd_enable", true)
	s.has("/jail/vhost1/etc/rc.conf", "release=\"1\"", true)
	s.run("service jail stop trial")
	s.cfgd(0, "jail destroy --yes trial")
	s.append("/jail/vhost2/etc/hosts", "10.0.0.2 cache\n")
	s.automountsGo()
	s.cfgd(0, "proto list")
	s.cfgd(1, "status") // vhost2 has an edit
	s.says(s.cfgd(0, "plan vhost2 2"), "1 kept")
	s.says(s.cfgd(0, "jail switch --plan --restart ALL 2"), "merged", "service jail stop vhost1",
		"service jail start vhost1", "jls -j vhost1 jid")
	s.says(s.cfgd(0, "jail switch --restart ALL 2"), "vhost1 switched from 1 to 2, restarted, and it is up",
		"vhost2 switched")
	s.has("/jail/vhost1/etc/rc.conf", "release=\"2\"", true)
	s.has("/jail/vhost1/etc/rc.conf", "sshd_enable", true)
	s.has("/jail/vhost1/bin/sh", "release 2", true)
	s.append("/jail/vhost1/etc/rc.conf", "#\nlater=\"1\"\n")
	s.says(s.cfgd(0, "jail rollback --restart vhost1"),
		"vhost1 switched from 2 to 1, restarted, and it is up")
	s.has("/jail/vhost1/etc/rc.conf", "release=\"1\"", true)
	s.has("/jail/vhost1/etc/rc.conf", "later", true)
	s.has("/jail/vhost1/bin/sh", "release 1", true)

	// What is in use, cloned or held is not destroyed.
	for range 2 {
		s.cfgd(0, "proto snapshot")
	}
	s.run("zfs hold keep zpool/proto/etc@3")
	s.says(s.cfgd(0, "proto prune --keep 1"), "proto@1 kept: ", "proto@2 kept: ", "proto@3 kept: it is held",
		"proto@4 kept: among the newest 1")
	s.run("zfs release keep zpool/proto/etc@3")
	s.run("zfs clone zpool/proto/etc@3 zpool/x")
	s.says(s.cfgd(0, "proto prune --keep 1"), "proto@3 kept: zpool/x is a clone of it")
	s.run("zfs destroy zpool/x")
	s.says(s.cfgd(0, "proto prune --keep 1"), "proto@3 destroyed")
	s.says(s.ends(1, "zfs", "list", "zpool/proto/etc@3"), "does not exist")

	// 4.1: replication to another pool, whole, then what came since, with a network that breaks in between.
	s.says(s.cfgd(0, "proto send other:tank/proto"), "proto sent to other:tank/proto, ",
		": all up to @4, which is not mounted there yet")
	s.run("cp /usr/local/sbin/cfgd /jail/proto/bin/large")
	s.cfgd(0, "proto snapshot")
	s.write("/run/network.breaks", "")
	s.says(s.cfgd(2, "proto send --incremental other:tank/proto"), "--resume goes on with it")
	s.says(s.cfgd(2, "proto send other:tank/proto"),
		"an earlier transfer was cut short: --resume goes on with it; zfs receive -A tank/proto on other "+
			"gives it up")
	s.says(s.cfgd(0, "proto send --resume other:tank/proto"), "the rest of what was cut short of zpool/proto",
		"")
	s.says(s.run("zfs list -H -t snapshot -o name -r tank/proto"), "tank/proto@5", "tank/proto/etc@5",
		"tank/proto@1")
	s.says(s.cfgd(0, "proto send other:tank/proto"), "other:tank/proto has @5 already")
	s.run("zfs snapshot -r tank/proto@mine")
	s.cfgd(0, "proto snapshot")
	s.says(s.cfgd(2, "proto send other:tank/proto"),
		"has snapshots that are newer than the last common one, @5: @mine")

	// 4.4: backups of a jail's own filesystems.
	s.says(s.cfgd(0, "jail snapshot --comment before vhost1"), "vhost1 snapshot cfgd-",
		"taken of zpool/vhost1")
	s.says(s.cfgd(0, "jail send vhost1 other:tank/vhost1"), "vhost1 sent to other:tank/vhost1, ",
		"all up to @cfgd-")
	s.says(s.run("zfs list -H -t snapshot -o name -r tank/vhost1"), "tank/vhost1/cfg@cfgd-",
		"tank/vhost1/var@cfgd-")

	// What was made is destroyed, and nothing else.
	s.says(s.cfgd(2, "jail destroy --yes proto"), "destroy jail vhost1 first")
	for _, name := range []string{"vhost1", "vhost2"} {
		s.run("service jail stop " + name)
	}
	s.says(s.cfgd(2, "jail destroy --yes vhost1"), "something was added since")
	s.cfgd(0, "jail destroy --yes --force vhost1")
	s.cfgd(0, "jail destroy --yes vhost2")
	s.says(s.run("zfs list -H -o name -r zpool"), "zpool/proto\n", "zpool/proto/etc\n")
	if out := s.run("zfs list -H -o name -r zpool"); strings.Contains(out, "vhost") {
		t.Errorf("left: %s", out)
	}
}
