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

// host makes a machine like one of NanoBSD: its own /etc is the target, in memory, with the defaults in
// /conf/base/etc. The line of fstab is for /cfg, with noauto.
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

// ext2 makes an image of a small disk, or skips the test if that is not possible.
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

// mountCount returns how often the disk was mounted for writing: s_mnt_count of its superblock.
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

// adopted lets a daemon take over an /etc that something else populated.
func (m *machine) adopted() {
	m.Helper()
	d := m.hostDaemon()
	m.saved("host")
	m.must(d.ends(syscall.SIGTERM))
	m.cfgUnmounted()
}

// looks waits until the daemon has scanned everything a few times more.
func (m *machine) looks(n int) {
	m.Helper()
	for range n {
		m.saved("host")
	}
}

// cfgUnmounted waits until the save that status shows has unmounted /cfg.
func (m *machine) cfgUnmounted() {
	m.Helper()
	// another process unmounts it, so there is no event
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
	m := host(t, "/data/cfg.img /cfg ext2 rw,loop,noauto 0 0")
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

// cfgd uses a /cfg that the administrator mounted, and leaves it mounted. If somebody keeps busy what cfgd
// mounted, the next save unmounts it.
func TestHostLeavesMounted(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := host(t, "/data/cfg /cfg none rw,bind,noauto 0 0")
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

// Several commands and the daemon run at the same time. /cfg is mounted for all of them, and not afterwards.
func TestHostManyAtOnce(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := host(t, "/data/cfg.img /cfg ext2 rw,loop,noauto 0 0")
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

// The daemon is killed during saves. The next daemon finds its mount, and unmounts it.
func TestHostKilled(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := host(t, "/data/cfg.img /cfg ext2 rw,loop,noauto 0 0")
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
		// kill it while /cfg is mounted
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

// sendmail(8) gets one message with the report, and none if there is nothing to report.
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
