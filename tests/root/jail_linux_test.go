package root

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cfgd/internal/flock"
	"cfgd/watcher/control"
)

const (
	live = "/jail/vhost1/etc"
	cfg  = "/jail/vhost1/cfg"
)

var defaults = map[string]string{
	live + "/rc.conf": "hostname=\"proto\"\n", live + "/hosts": "127.0.0.1 localhost\n", live +
		"/local/nginx/nginx.conf": "worker_processes 1;\n",
}

// jailed makes a machine with one jail. The jail's root and base are read-only mounts of a prototype's
// snapshot, and its cfg is a filesystem of its own.
func jailed(t *testing.T) *machine {
	m := enter(t)
	m.write("/etc/rc.conf", `jail_enable="YES"
jail_list="vhost1"
jail_vhost1_rootdir="/jail/vhost1"
jail_vhost1_hostname="vhost1.domain.local"
jail_vhost1_ip="192.168.0.11"
jail_vhost1_fstab="/etc/fstab.vhost1"
jail_vhost1_exec_prestart0="/usr/local/sbin/cfgd jail init vhost1"
jail_vhost1_exec_poststop0="/usr/local/sbin/cfgd jail cleanup vhost1"
`)
	m.snapshot(1)
	m.write("/etc/cfgd.toml", "[defaults]\nsettle = \"20ms\"\nrescan = \"1s\"\nmemory_size = \"8m\"\n")
	m.tmpfs("/var", "size=16m")
	for p, content := range defaults {
		m.write("/jail/proto/.cfgd/snapshot/1/etc"+strings.TrimPrefix(p, live), content)
	}
	for _, d := range []string{"etc", "cfg", "conf/base/etc"} {
		m.must(os.MkdirAll("/jail/proto/.cfgd/snapshot/1/"+d, 0o755))
	}
	m.must(os.MkdirAll("/jail/vhost1", 0o755))
	return m
}

// snapshot names a snapshot of the prototype in the jail's fstab.
func (m *machine) snapshot(n int) {
	m.Helper()
	m.write("/etc/fstab.vhost1", fmt.Sprintf(`/jail/proto/.cfgd/snapshot/%d /jail/vhost1 nullfs ro 0 0
/jail/proto/.cfgd/snapshot/%[1]d/etc /jail/vhost1/conf/base/etc nullfs ro 0 0
zpool/vhost1/cfg /jail/vhost1/cfg zfs rw 0 0
`, n))
}

// mountRoot and mountCfg do what jail(8) does with the jail's fstab before it runs exec.prestart. The store
// is kept in a directory.
func (m *machine) mountRoot() {
	m.Helper()
	m.bind("/jail/proto/.cfgd/snapshot/1", "/jail/vhost1")
	m.bind("/jail/proto/.cfgd/snapshot/1/etc", "/jail/vhost1/conf/base/etc")
}

func (m *machine) bind(from, to string) {
	m.Helper()
	m.must(unix.Mount(from, to, "", unix.MS_BIND, ""))
	m.must(unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
}

func (m *machine) mountCfg() {
	m.Helper()
	m.must(os.MkdirAll("/store", 0o755))
	m.must(unix.Mount("/store", cfg, "", unix.MS_BIND, ""))
}

func (m *machine) mountAll() {
	m.Helper()
	m.mountRoot()
	m.mountCfg()
}

// unmountAll does what jail(8) does after exec.poststop: it unmounts the fstab backwards. Each unmount must
// succeed.
func (m *machine) unmountAll() {
	m.Helper()
	for _, d := range []string{cfg, "/jail/vhost1/conf/base/etc", "/jail/vhost1"} {
		m.umount(d)
	}
}

// cfgd runs with a configuration for impatient tests.
func (m *machine) cfgd(status int, line string) string {
	m.Helper()
	return m.run(status, "--config /etc/cfgd.toml "+line)
}

func (m *machine) watching() *daemon {
	m.Helper()
	return m.daemon("--config", "/etc/cfgd.toml")
}

func TestStartAndStop(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.mountAll()
	m.says(m.cfgd(0, "jail init vhost1"), "/jail/vhost1/etc populated from proto/etc@1 and generation 0")
	var fs unix.Statfs_t
	m.must(unix.Statfs(live, &fs))
	st, err := os.Stat(live)
	m.must(err)
	if size := fs.Blocks * uint64(fs.Bsize); fs.Type != unix.TMPFS_MAGIC || size != 8<<20 ||
		st.Mode().Perm() != 0o755 {
		t.Errorf("type %x, %d bytes, mode %v", fs.Type, size, st.Mode())
	}
	m.holds(defaults)
	m.says(m.cfgd(0, "status vhost1"), "vhost1", "proto/etc@1")
	m.says(m.cfgd(0, "jail init vhost1"), "populated already: nothing touched")

	m.write(live+"/rc.conf", "edited\n")
	m.says(m.cfgd(1, "diff --unsaved --name-status vhost1"), "M! rc.conf")
	m.says(m.cfgd(0, "jail cleanup vhost1"), "saved as generation 1, and taken away")
	if out := m.cfgd(0, "jail cleanup vhost1"); out != "" {
		t.Errorf("a cleanup of nothing says %s", out)
	}
	if got := m.mounted(live); got != "" {
		t.Errorf("still mounted: %s", got)
	}
	m.unmountAll()
	m.holds(map[string]string{"/store/rc.conf": "edited\n"})

	m.mountAll()
	m.cfgd(0, "jail init vhost1")
	m.holds(map[string]string{live + "/rc.conf": "edited\n", live + "/hosts": defaults[live+"/hosts"]})
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
}

// The daemon watches the tree, lets go of it so that it can be unmounted, and watches it again after the next
// start.
func TestUnderTheDaemon(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	d := m.watching()
	for n := 1; n <= 3; n++ {
		m.mountAll()
		m.cfgd(0, "jail init vhost1")
		m.watched("vhost1")
		edit := fmt.Sprintf("edit %d\n", n)
		m.write(live+"/rc.conf", edit)
		m.write(live+"/local/new/deep", edit)
		m.saved("vhost1")
		m.holds(map[string]string{cfg + "/rc.conf": edit, cfg + "/local/new/deep": edit})
		m.write(live+"/hosts", edit) // and at once:
		m.cfgd(0, "jail cleanup vhost1")
		m.unmountAll()
		m.holds(map[string]string{"/store/hosts": edit})
	}
	m.must(d.ends(syscall.SIGTERM))
}

// If the daemon hangs, a hook waits only a short time: the jail stops without the daemon, and starts again.
// When the daemon goes on, it watches the new tree.
func TestDaemonHangs(t *testing.T) {
	if testing.Short() {
		t.Skip("a hook waits 10 s for the daemon")
	}
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	d := m.watching()
	m.mountAll()
	m.cfgd(0, "jail init vhost1")
	m.watched("vhost1")
	// It hangs between two saves. In a save it would have the lock of the target, and the hook could only
	// archive.
	unlock, err := flock.Lock(t.Context(), m.path("/var/run/cfgd/lock/vhost1"), "vhost1", flock.Forever)
	m.must(err)
	m.must(d.cmd.Process.Signal(syscall.SIGSTOP))
	m.must(unix.Waitid(unix.P_PID, d.cmd.Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil))
	unlock()
	m.write(live+"/rc.conf", "edited\n")
	m.says(m.cfgd(0, "jail cleanup vhost1"), "the daemon did not let go", "saved as generation 1")
	m.unmountAll()
	m.must(d.cmd.Process.Signal(syscall.SIGCONT))
	m.until("vhost1", "is let go", func(s control.Status) bool { return s.Down })
	m.mountAll()
	m.says(m.cfgd(0, "jail init vhost1"), "populated from proto/etc@1 and generation 1")
	m.write(live+"/hosts", "edited\n")
	m.saved("vhost1")
	m.holds(map[string]string{cfg + "/rc.conf": "edited\n", cfg + "/hosts": "edited\n"})
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
}

// A start fails after its init. No hook runs, jail(8) unmounts what it can, and the next start mounts the
// root over what is left.
func TestFailedStart(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.mountAll()
	m.cfgd(0, "jail init vhost1")
	m.umount(cfg)
	m.umount("/jail/vhost1/conf/base/etc")
	if err := unix.Unmount("/jail/vhost1", 0); err != unix.EBUSY {
		t.Fatalf("the root is held by what is mounted in it: %v", err)
	}
	m.mountAll()
	m.says(m.cfgd(0, "jail init vhost1"), "an earlier start left a tmpfs",
		"umount /jail/vhost1 and run cfgd jail cleanup vhost1", "populated from")
	m.holds(defaults)
	m.write(live+"/rc.conf", "edited\n")
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
	m.holds(map[string]string{"/store/rc.conf": "edited\n"})

	// The old tree is visible again. It is older than cfg now, so an archive keeps it.
	if got := m.mounted(live); got != "tmpfs" {
		t.Fatalf("what the failed start left: %q", got)
	}
	m.mountCfg()
	m.says(m.cfgd(0, "jail cleanup vhost1"), "held the /etc of an earlier start", "archived in vhost1-")
	if out := m.cfgd(0, "jail cleanup vhost1"); out != "" {
		t.Errorf("a cleanup of nothing says %s", out)
	}
	m.holds(map[string]string{"/store/rc.conf": "edited\n"})
	m.umount(cfg)
	m.umount("/jail/vhost1")
}

// The same start is tried again without a new mount. The tree exists, and is used.
func TestStartOnceMore(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.mountAll()
	m.cfgd(0, "jail init vhost1")
	m.umount(cfg)
	m.mountCfg()
	m.says(m.cfgd(0, "jail init vhost1"), "nothing touched")
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
}

func TestBusyEtc(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.watching()
	m.mountAll()
	m.cfgd(0, "jail init vhost1")
	leave := m.shell(live)
	m.write(live+"/rc.conf", "edited\n")
	m.says(m.cfgd(2, "jail cleanup vhost1"), "all is saved, but /jail/vhost1/etc is still mounted", "busy",
		"fuser -vm", "cleanup vhost1 again")
	m.holds(map[string]string{cfg + "/rc.conf": "edited\n"})
	m.watched("vhost1")
	m.write(live+"/rc.conf", "edited meanwhile\n")
	m.saved("vhost1")
	leave()
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
	m.holds(map[string]string{"/store/rc.conf": "edited meanwhile\n"})
}

// byNullfs names the store in the fstab as a jail without ZFS has it.
func (m *machine) byNullfs() {
	m.Helper()
	m.must(os.MkdirAll("/store", 0o755))
	m.write("/etc/fstab.vhost1", strings.Replace(m.read("/etc/fstab.vhost1"),
		"zpool/vhost1/cfg /jail/vhost1/cfg zfs", "/store /jail/vhost1/cfg nullfs", 1))
}

// stopBusy stops the jail as jail(8) does, while a process has its etc as working directory. The cleanup
// fails, the fstab is unmounted, and the root stays mounted below the busy etc.
func (m *machine) stopBusy() {
	m.Helper()
	m.says(m.cfgd(2, "jail cleanup vhost1"), "all is saved, but /jail/vhost1/etc is still mounted",
		"end what uses it")
	m.umount(cfg)
	m.umount("/jail/vhost1/conf/base/etc")
	if err := unix.Unmount("/jail/vhost1", 0); err != unix.EBUSY {
		m.Fatalf("the root is held by its etc: %v", err)
	}
}

// syslogd receives what is written to syslog(3) from now on. The function that it returns returns it.
func (m *machine) syslogd() (logged func() string) {
	m.Helper()
	if _, err := os.Lstat("/dev/log"); err == nil {
		m.Skip("the real machine's syslogd would hear it")
	}
	m.must(os.MkdirAll("/var/run", 0o755))
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/var/run/log", Net: "unixgram"})
	m.must(err)
	m.Cleanup(func() { c.Close() })
	return func() string {
		var all strings.Builder
		b := make([]byte, 64<<10)
		m.must(c.SetReadDeadline(time.Now().Add(time.Millisecond))) // the writer has ended
		for {
			n, err := c.Read(b)
			if err != nil {
				return all.String()
			}
			all.Write(b[:n])
		}
	}
}

// rc.d/jail throws away what a stop prints. Warnings and errors are in the system's log.
func TestHooksTellSyslogd(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.byNullfs()
	m.mountAll()
	logged := m.syslogd()
	m.cfgd(0, "jail init vhost1")
	m.cfgd(64, "jail cleanup")
	if got := logged(); got != "" {
		t.Errorf("all is well, and the log has %q", got)
	}
	leave := m.shell(live)
	m.stopBusy()
	m.says(logged(), "cfgd[", "vhost1: all is saved, but /jail/vhost1/etc is still mounted",
		"run cfgd jail cleanup vhost1 again")
	leave()
	m.cfgd(0, "jail cleanup vhost1")
	m.says(logged(), "vhost1: nothing was mounted on cfg",
		"umount /jail/vhost1 before the jail is started again")
	m.umount("/jail/vhost1")
}

// mountpointEmpty checks that nothing was written into the mountpoint of cfg while cfg was not mounted.
func (m *machine) mountpointEmpty() {
	m.Helper()
	left, err := os.ReadDir(cfg)
	if err != nil || len(left) > 0 {
		m.Errorf("the mountpoint of cfg holds %v, %v", left, err)
	}
}

// A busy etc stays mounted longer than its cfg. The daemon saves nothing then, whether the root is writable
// or not. The next cleanup saves to the store by the store's own path, and the next start has everything.
func TestBusyAtTheStop(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.byNullfs()
	m.watching()
	m.mountAll()
	m.cfgd(0, "jail init vhost1")
	m.watched("vhost1")
	leave := m.shell(live)
	m.write(live+"/rc.conf", "edited\n")
	m.write(live+"/hosts", "edited\n")
	m.saved("vhost1")
	// the worst case: the root is writable
	m.must(unix.Mount("", "/jail/vhost1", "", unix.MS_BIND|unix.MS_REMOUNT, ""))
	m.stopBusy()

	m.write(live+"/rc.conf", "edited after the stop\n")
	s := m.until("vhost1", "is held for its cfg",
		func(s control.Status) bool { return strings.Contains(s.Problem, "not mounted") })
	m.says(s.Problem, "/jail/vhost1/cfg: not mounted; /etc/fstab.vhost1:3 mounts it")
	m.says(m.cfgd(2, "save vhost1"), "not mounted")
	m.says(m.cfgd(2, "save --force vhost1"), "not mounted")
	m.says(m.cfgd(2, "diff --unsaved vhost1"), "not mounted")
	m.mountpointEmpty()
	m.holds(map[string]string{"/store/rc.conf": "edited\n", "/store/hosts": "edited\n"})

	// Still busy: it is saved, and a message says so.
	m.says(m.cfgd(2, "jail cleanup vhost1"), "all is saved, but /jail/vhost1/etc is still mounted")
	m.holds(map[string]string{"/store/rc.conf": "edited after the stop\n", live +
		"/rc.conf": "edited after the stop\n"})
	m.write(live+"/rc.conf", "edited last\n")
	leave()
	m.says(m.cfgd(0, "jail cleanup vhost1"), "the last save went to /store, which the fstab mounts there",
		"saved as generation", "and taken away",
		"the jail's root /jail/vhost1 is still mounted: umount /jail/vhost1 before the jail is started again")
	m.mountpointEmpty()
	m.holds(map[string]string{"/store/rc.conf": "edited last\n", "/store/hosts": "edited\n"})
	m.umount("/jail/vhost1")

	m.mountAll()
	out := m.cfgd(0, "jail init vhost1")
	if strings.Contains(out, "archive") {
		t.Errorf("an archive, for what was saved:\n%s", out)
	}
	m.holds(map[string]string{live + "/rc.conf": "edited last\n", live + "/hosts": "edited\n"})
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
}

// failedStart does what a start does that fails after its init: jail(8) runs no hook, and unmounts the fstab
// backwards. The root, which is a filesystem of its own here, stays mounted below the etc.
func (m *machine) failedStart() {
	m.Helper()
	m.byNullfs()
	m.write("/etc/fstab.vhost1", strings.Replace(m.read("/etc/fstab.vhost1"),
		"/jail/proto/.cfgd/snapshot/1 /jail/vhost1 nullfs", "roots /jail/vhost1 tmpfs", 1))
	m.must(unix.Mount("roots", "/jail/vhost1", "tmpfs", 0, ""))
	for _, d := range []string{"etc", "cfg", "conf/base/etc"} {
		m.must(os.MkdirAll("/jail/vhost1/"+d, 0o755))
	}
	m.bind("/jail/proto/.cfgd/snapshot/1/etc", "/jail/vhost1/conf/base/etc")
	m.mountCfg()
	m.cfgd(0, "jail init vhost1")
	m.write(live+"/rc.conf", "edited\n")
	m.umount(cfg)
	m.umount("/jail/vhost1/conf/base/etc")
	if err := unix.Unmount("/jail/vhost1", 0); err != unix.EBUSY {
		m.Fatalf("the root is held by its etc: %v", err)
	}
}

// One cleanup clears everything that a failed start left, with the root. If nothing is left, it prints
// nothing.
func TestFailedStartLeavesTheRoot(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.failedStart()
	leave := m.shell("/jail/vhost1/conf")
	m.says(m.cfgd(2, "jail cleanup vhost1"),
		"/jail/vhost1 is still mounted, so the jail cannot be started", "then run umount /jail/vhost1")
	leave()
	m.says(m.cfgd(0, "jail cleanup vhost1"), "vhost1 /jail/vhost1 unmounted")
	if on := m.mounted(live) + m.mounted("/jail/vhost1"); on != "" {
		t.Errorf("left: %s", on)
	}
	m.holds(map[string]string{"/store/rc.conf": "edited\n"})
	if out := m.cfgd(0, "jail cleanup vhost1"); out != "" {
		t.Errorf("a cleanup of nothing says %s", out)
	}
}

// The same with a cfg that is a filesystem of its own. For the save it is mounted on a directory of the host,
// and the next start can mount it.
func TestBusyAtTheStopWithDevice(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.write("/etc/fstab", "/data/cfg.img /cfg ext2 rw,noauto,loop 0 0\n")
	m.must(os.MkdirAll("/cfg", 0o755))
	m.ext2(t)
	mountCfg := func() { m.output("mount", "-t", "ext2", "-o", "loop", "/data/cfg.img", cfg) }
	m.write("/etc/fstab.vhost1", strings.Replace(m.read("/etc/fstab.vhost1"),
		"zpool/vhost1/cfg /jail/vhost1/cfg zfs", "/data/cfg.img /jail/vhost1/cfg ext2", 1))
	m.mountRoot()
	mountCfg()
	m.cfgd(0, "jail init vhost1")
	leave := m.shell(live)
	m.write(live+"/rc.conf", "edited\n")
	m.stopBusy()
	m.write(live+"/rc.conf", "edited after the stop\n")
	leave()
	m.says(m.cfgd(0, "jail cleanup vhost1"),
		"the last save went to /data/cfg.img, which the fstab mounts there")
	if left, err := os.ReadDir("/var/run/cfgd/mnt"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	m.umount("/jail/vhost1")
	m.mountRoot()
	mountCfg()
	m.cfgd(0, "jail init vhost1")
	m.holds(map[string]string{live + "/rc.conf": "edited after the stop\n"})
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
}

// The jail is started again while the old tree is still mounted and busy, with and without its root mounted
// over the tree.
func TestStartedWhileBusy(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.byNullfs()
	m.mountAll()
	m.cfgd(0, "jail init vhost1")
	leave := m.shell(live)
	m.stopBusy()
	m.write(live+"/rc.conf", "edited after the stop\n")

	// Not over it: the tree is the one that the last start populated, and is used.
	m.bind("/jail/proto/.cfgd/snapshot/1/etc", "/jail/vhost1/conf/base/etc")
	m.mountCfg()
	m.says(m.cfgd(0, "jail init vhost1"), "populated already: nothing touched")
	m.says(m.cfgd(0, "save vhost1"), "")
	m.holds(map[string]string{live + "/rc.conf": "edited after the stop\n",
		"/store/rc.conf": "edited after the stop\n"})
	m.stopBusy()
	m.write(live+"/rc.conf", "edited once more\n")

	// Over it: the tree can't be reached. It stays, and is archived when it is visible again.
	m.mountAll()
	m.says(m.cfgd(0, "jail init vhost1"), "that the jail's root now hides, with all that was not saved in it",
		"populated from")
	m.holds(map[string]string{live + "/rc.conf": "edited after the stop\n"})
	m.write(live+"/hosts", "newer\n")
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
	m.says(m.cfgd(2, "jail cleanup vhost1"), "what was not saved is in /var/db/cfgd/rescue/vhost1-",
		"still mounted")
	m.archived("rc.conf", "edited once more\n")
	leave()
	m.says(m.cfgd(0, "jail cleanup vhost1"), "archived in vhost1-")
	m.holds(map[string]string{"/store/rc.conf": "edited after the stop\n", "/store/hosts": "newer\n"})
	m.umount("/jail/vhost1")
	m.mountAll()
	m.says(m.cfgd(0, "jail init vhost1"), "cfgd rescue restore vhost1 vhost1-")
	m.archived("rc.conf", "edited once more\n")
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
}

// A jail with a writable root has replaced its etc and cfg by links.
func TestLinksOutside(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	root := "/jail/vhost1"
	for _, d := range []string{"etc", "cfg", "conf/base/etc"} {
		m.must(os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	m.bind("/jail/proto/.cfgd/snapshot/1/etc", root+"/conf/base/etc")
	m.mountCfg()
	m.must(os.Remove(live))
	m.must(os.Symlink("/outside", live))
	m.says(m.cfgd(2, "jail init vhost1"), "is mounted on a directory, and on no link")
	m.cfgd(0, "jail cleanup vhost1")
	m.untouched()

	m.must(os.Remove(live))
	m.must(os.Mkdir(live, 0o755))
	m.umount(cfg)
	m.must(os.Remove(cfg))
	m.must(os.Symlink("/outside", cfg))
	m.says(m.cfgd(2, "jail init vhost1"), "cfg: ")
	m.untouched()
	if got := m.mounted(live); got != "" {
		t.Errorf("left: %s", got)
	}
}

// A jail with a writable root swaps its etc for a link to the outside and back, as fast as it can, while the
// hooks run.
func TestSwappedEtc(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.must(os.MkdirAll(live, 0o755))
	m.must(os.MkdirAll(cfg, 0o755))
	m.mountCfg()
	m.must(os.Symlink("/outside", "/jail/vhost1/link"))
	stop, swaps := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { swaps <- n }()
		for {
			select {
			case <-stop:
				return
			default: // it fails while etc is a mountpoint
				if unix.Renameat2(unix.AT_FDCWD, live, unix.AT_FDCWD, "/jail/vhost1/link",
					unix.RENAME_EXCHANGE) == nil {
					n++
				}
			}
		}
	}()
	rounds, populated := 40, 0
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		_ = m.command("--config", "/etc/cfgd.toml", "jail", "init", "vhost1").Run()
		if m.mounted(live) != "" {
			populated++
		}
		m.untouched()
		_ = m.command("--config", "/etc/cfgd.toml", "jail", "cleanup", "vhost1").Run()
		m.untouched()
	}
	close(stop)
	t.Logf("%d starts, %d of them populated; %d swaps", rounds, populated, <-swaps)
	if got := m.mounted("/jail/vhost1/link"); got != "" {
		t.Errorf("left where etc was for a moment: %s", got)
	}
}

// untouched checks that nothing was made or mounted outside of the jail.
func (m *machine) untouched() {
	m.Helper()
	entries, err := os.ReadDir("/outside")
	m.must(err)
	if on := m.mounted("/outside"); len(entries) != 1 || on != "" {
		m.Errorf("/outside holds %v; mounted on it: %q", entries, on)
	}
}

// Only the mountpoint of cfg exists. Nothing is populated, and nothing is written below it.
func TestCfgNotMounted(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.mountRoot()
	m.says(m.cfgd(2, "jail init vhost1"), "/jail/vhost1/cfg: not mounted; /etc/fstab.vhost1:3 mounts it")
	if got := m.mounted(live); got != "" {
		t.Errorf("left: %s", got)
	}
	m.mountCfg()
	m.cfgd(0, "jail init vhost1")
	m.write(live+"/rc.conf", "edited\n")
	m.umount(cfg)
	m.says(m.cfgd(2, "save vhost1"), "not mounted")
	out := m.cfgd(0, "jail cleanup vhost1")
	m.says(out, "not saved: cfg: /jail/vhost1/cfg: not mounted", "archived in vhost1-")
	m.archived("rc.conf", "edited\n")
	if entries, err := os.ReadDir("/jail/proto/.cfgd/snapshot/1/cfg"); err != nil || len(entries) > 0 {
		t.Errorf("below the mount: %v, %v", entries, err)
	}
	m.umount("/jail/vhost1/conf/base/etc")
	m.umount("/jail/vhost1")
}

// archived reads a file of the only rescue archive with a stock tool.
func (m *machine) archived(name, want string) {
	m.Helper()
	archives, err := filepath.Glob("/var/db/cfgd/rescue/*.tar")
	m.must(err)
	if len(archives) != 1 {
		m.Fatalf("archives: %q", archives)
	}
	if got := m.output("tar", "-xOf", archives[0], name); got != want {
		m.Errorf("%s in the archive holds %.200q", name, got)
	}
	m.must(os.Remove(archives[0]))
}

func TestCfgReadOnlyOrFull(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.mountRoot()
	m.tmpfs(cfg, "size=128k")
	for _, c := range []struct {
		why   string
		spoil func()
	}{
		{"read-only", func() { m.remount(cfg, unix.MS_RDONLY, "size=128k") }},
		{"no room", func() { m.write(live+"/big", noise(200<<10)) }},
	} {
		m.remount(cfg, 0, "size=128k")
		m.cfgd(0, "jail init vhost1")
		m.write(live+"/rc.conf", "edited, and "+c.why)
		c.spoil()
		m.says(m.cfgd(0, "jail cleanup vhost1"), "not saved: ", c.why, "archived in")
		m.archived("rc.conf", "edited, and "+c.why)
		m.holds(map[string]string{cfg + "/rc.conf": "(absent)"})
		if got := m.mounted(live); got != "" {
			t.Errorf("still mounted: %s", got)
		}
	}
	// There is no room for the archive either: the tree stays mounted until there is.
	m.cfgd(0, "jail init vhost1")
	m.write(live+"/big", noise(200<<10))
	m.tmpfs("/var/db/cfgd/rescue", "size=64k")
	m.says(m.cfgd(2, "jail cleanup vhost1"), "not saved", "no room", "no space left on device",
		"and no rescue archive", "stays as it is")
	if entries, _ := os.ReadDir("/var/db/cfgd/rescue"); len(entries) > 0 {
		t.Errorf("half an archive is left: %v", entries)
	}
	m.remount(cfg, 0, "size=2m")
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
}

// noise returns text that can't be compressed.
func noise(n int) string {
	rnd := rand.New(rand.NewPCG(uint64(n), 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return string(b)
}

// The memory is too small for the defaults: everything is undone. With a larger one the start succeeds.
func TestTooSmall(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.write("/jail/proto/.cfgd/snapshot/1/etc/big", noise(3<<20))
	m.mountAll()
	m.write("/etc/cfgd.toml", "[defaults]\nmemory_size = \"1m\"\n")
	m.says(m.cfgd(2, "jail init vhost1"), "no space left on device")
	if got := m.mounted(live); got != "" {
		t.Errorf("left: %s", got)
	}
	m.says(m.cfgd(0, "status vhost1"), "down")
	m.write("/etc/cfgd.toml", "[defaults]\nmemory_size = \"8m\"\n")
	m.cfgd(0, "jail init vhost1")
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
}

// A hook is killed at some point. The next one repairs it.
func TestKilledHooks(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	for i := range 300 {
		m.write(fmt.Sprintf("/jail/proto/.cfgd/snapshot/1/etc/many/%d", i), noise(500))
	}
	m.mountAll()
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	rnd := rand.New(rand.NewPCG(7, 7))
	states := map[string]int{}
	for n := range rounds {
		m.kill("--config /etc/cfgd.toml jail init vhost1", rnd.IntN(60))
		states["init left "+strings.TrimSpace("mounted "+m.mounted(live))]++
		m.cfgd(0, "jail init vhost1")
		edit := fmt.Sprintf("edit %d\n", n)
		m.write(live+"/rc.conf", edit)
		m.kill("--config /etc/cfgd.toml jail cleanup vhost1", rnd.IntN(60))
		states["cleanup left "+strings.TrimSpace("mounted "+m.mounted(live))]++
		m.cfgd(0, "jail cleanup vhost1")
		m.holds(map[string]string{cfg + "/rc.conf": edit})
		if got := m.mounted(live); got != "" || t.Failed() {
			t.Fatalf("round %d: left: %s", n, got)
		}
	}
	t.Logf("%d kills each: %v", rounds, states)
	m.unmountAll()
}
