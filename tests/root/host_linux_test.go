package root

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"cfgd/watcher/control"
)

// host lays out a machine whose own /etc is the target, as NanoBSD's: in memory, over the defaults in
// /conf/base/etc; /cfg is mounted noauto, as this line of fstab says.
func host(t *testing.T, fstab string) *machine {
	m := enter(t)
	files := map[string]string{"rc.conf": "hostname=\"image\"\n", "hosts": "127.0.0.1 localhost\n",
		"fstab": fstab + "\n", "issue": "welcome\n"}
	m.tmpfs("/etc", "mode=755")
	for p, content := range files {
		m.write("/conf/base/etc/"+p, content)
		m.write("/etc/"+p, content)
	}
	m.write("/usr.local/cfgd.toml", "[host]\nsettle = \"20ms\"\nrescan = \"1s\"\n")
	m.must(os.MkdirAll("/cfg", 0o755))
	return m
}

// ext2 makes an image of a small disk, or skips the test where there is no way to.
func (m *machine) ext2(t *testing.T) {
	m.must(os.MkdirAll("/data", 0o755))
	m.must(os.WriteFile("/data/cfg.img", nil, 0o644))
	m.must(os.Truncate("/data/cfg.img", 2<<20))
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext2", "/data/cfg.img").CombinedOutput(); err != nil {
		t.Skipf("no ext2 to be made here: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "/cfg").CombinedOutput(); err != nil {
		t.Skipf("no loop device to be had here: %v: %s", err, out)
	}
	m.umount("/cfg")
}

// mountCount is how often the disk was mounted to be written, as its superblock tells: s_mnt_count.
func (m *machine) mountCount() int {
	m.Helper()
	f, err := os.Open("/data/cfg.img")
	m.must(err)
	defer f.Close()
	var b [2]byte
	_, err = f.ReadAt(b[:], 1024+52)
	m.must(err)
	return int(binary.LittleEndian.Uint16(b[:]))
}

func (m *machine) hostDaemon() *daemon { return m.daemon("--config", "/usr.local/cfgd.toml") }

// adopted has a daemon take over the /etc that something else populated.
func (m *machine) adopted() {
	m.Helper()
	d := m.hostDaemon()
	m.saved("host")
	m.must(d.ends(syscall.SIGTERM))
	m.cfgUnmounted()
}

// looks waits until the daemon has looked at everything a few times more.
func (m *machine) looks(n int) {
	m.Helper()
	for range n {
		m.saved("host")
	}
}

// cfgUnmounted waits until the save that status tells of has let go of /cfg.
func (m *machine) cfgUnmounted() {
	m.Helper()
	// of another process: no event tells
	for end := time.Now().Add(patience); m.mounted("/cfg") != ""; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			m.Fatal("/cfg stays mounted")
		}
	}
}

// On an idle machine /cfg is not mounted, and each save mounts it once.
func TestHostMountsForSavesAlone(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := host(t, "/data/cfg.img /cfg ext2 loop,noauto 0 0")
	m.ext2(t)
	d := m.hostDaemon()
	m.watched("host")
	m.saved("host")
	m.cfgUnmounted()
	before := m.mountCount()
	m.looks(3)
	if n := m.mountCount() - before; n != 0 || m.mounted("/cfg") != "" {
		t.Errorf("idle: mounted %d times; now %q", n, m.mounted("/cfg"))
	}
	const edits = 5
	for n := range edits {
		m.write("/etc/rc.conf", fmt.Sprintf("edit %d\n", n))
		m.saved("host")
		m.cfgUnmounted()
	}
	if n := m.mountCount() - before; n != edits {
		t.Errorf("%d edits: mounted %d times", edits, n)
	}
	m.must(d.ends(syscall.SIGTERM))
	if n := m.mountCount() - before; n != edits {
		t.Errorf("at the end: mounted %d times", n)
	}
	m.output("mount", "/cfg")
	m.holds(map[string]string{"/cfg/rc.conf": "edit 4\n", "/cfg/hosts": "(absent)"})
	m.umount("/cfg")
}

// What the administrator mounted is used and left mounted; what cfgd mounted and somebody keeps busy is left
// for the next save.
func TestHostLeavesMounted(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := host(t, "/data/cfg /cfg none bind,noauto 0 0")
	m.must(os.MkdirAll("/data/cfg", 0o755))
	m.adopted()
	m.output("mount", "/cfg")
	m.write("/etc/rc.conf", "edited\n")
	m.run(0, "save host")
	if m.mounted("/cfg") == "" {
		t.Fatal("unmounted")
	}
	m.holds(map[string]string{"/cfg/rc.conf": "edited\n"})

	m.write("/var/run/cfgd/cfg.mounted", "") // as if a save that was killed had mounted it
	leave := m.shell("/cfg")
	m.write("/etc/rc.conf", "edited, and busy\n")
	m.run(0, "save host")
	m.holds(map[string]string{"/data/cfg/rc.conf": "edited, and busy\n"})
	if m.mounted("/cfg") == "" {
		t.Fatal("unmounted below a shell")
	}
	leave()
	m.write("/etc/rc.conf", "edited at last\n")
	m.run(0, "save host")
	m.holds(map[string]string{"/data/cfg/rc.conf": "edited at last\n"})
	if got := m.mounted("/cfg"); got != "" {
		t.Errorf("still mounted: %s", got)
	}
}

// Several commands at once, and the daemon: /cfg is mounted for all of them, and not after.
func TestHostManyAtOnce(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := host(t, "/data/cfg.img /cfg ext2 loop,noauto 0 0")
	m.ext2(t)
	m.hostDaemon()
	m.watched("host")
	done := make(chan struct{})
	for n := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 5 {
				m.write(fmt.Sprintf("/etc/many%d", n), fmt.Sprint(i))
				m.run(0, "log host")
				m.run(0, "save host")
			}
		}()
	}
	for range 4 {
		<-done
	}
	m.saved("host")
	m.cfgUnmounted()
	m.output("mount", "/cfg")
	for n := range 4 {
		m.holds(map[string]string{fmt.Sprintf("/cfg/many%d", n): "4"})
	}
	m.umount("/cfg")
}

// The daemon is killed in the middle of saves. The next one finds its mount, and ends it.
func TestHostKilled(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := host(t, "/data/cfg.img /cfg ext2 loop,noauto 0 0")
	m.ext2(t)
	m.adopted()
	rounds, left := 25, 0
	if testing.Short() {
		rounds = 8
	}
	for n := range rounds {
		d := m.hostDaemon()
		m.until("host", "answers", func(control.Status) bool { return true })
		m.write("/etc/rc.conf", fmt.Sprintf("edit %d\n", n))
		// the kill is to come while it is mounted
		for end := time.Now().Add(patience); m.mounted("/cfg") == "" && time.Now().Before(end); {
		}
		_ = d.ends(syscall.SIGKILL)
		if m.mounted("/cfg") != "" {
			left++
		}
	}
	d := m.hostDaemon()
	m.saved("host")
	m.cfgUnmounted()
	m.must(d.ends(syscall.SIGTERM))
	m.output("mount", "/cfg")
	m.holds(map[string]string{"/cfg/rc.conf": fmt.Sprintf("edit %d\n", rounds-1)})
	m.umount("/cfg")
	t.Logf("%d kills, %d left /cfg mounted", rounds, left)
}

// The report goes to sendmail(8), which gets one message, and none where there is nothing to say.
func TestReportIsMailed(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.tool("sendmail", "#!/bin/sh\necho \"$*\" > /tmp/sent\nexec cat >> /tmp/sent\n")
	m.mountAll()
	m.cfgd(0, "jail init vhost1")
	m.cfgd(0, "save vhost1")
	m.write(live+"/rc.conf", "hostname=\"edited\"\n")
	m.says(m.cfgd(1, "report --mail root@example.org"), "")
	sent := m.read("/tmp/sent")
	m.says(sent, "-oi -t\nTo: <root@example.org>\nSubject: cfgd on ", "Auto-Submitted: auto-generated",
		"a restart would lose 1 change, unsaved since", "rc.conf", "cfgd save vhost1")
	d := m.watching() // the daemon saves it
	m.watched("vhost1")
	m.saved("vhost1")
	m.must(os.Remove("/tmp/sent"))
	m.cfgd(0, "report --mail root@example.org")
	if got := m.read("/tmp/sent"); got != "(absent)" {
		t.Errorf("nothing to say, and sent: %s", got)
	}
	m.must(d.ends(syscall.SIGTERM))
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
}
