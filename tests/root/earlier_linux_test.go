package root

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cfgd/watcher/control"
)

// hidden leaves a tree of an earlier start below a later one. The later one saved a newer state and has
// stopped, so the earlier one is visible again.
func (m *machine) hidden() {
	m.Helper()
	m.byNullfs()
	m.mountAll()
	m.cfgd(0, "jail init vhost1")
	m.write(live+"/rc.conf", "of the first start\n")
	for i := range 8 {
		m.write(fmt.Sprintf("%s/own%d", live, i), "own\n")
	}
	m.cfgd(0, "save vhost1")
	m.mountAll()
	m.says(m.cfgd(0, "jail init vhost1"), "that the jail's root now hides")
	m.write(live+"/rc.conf", "of the second start\n")
	m.write(live+"/new", "of the second start\n")
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
	m.holds(map[string]string{live + "/rc.conf": "of the first start\n"})
}

// newer checks that cfg still has what the second start saved, and removes the old tree.
func (m *machine) newer() {
	m.Helper()
	want := map[string]string{"/store/rc.conf": "of the second start\n",
		"/store/new": "of the second start\n"}
	m.holds(want)
	m.says(m.cfgd(0, "jail cleanup vhost1"), "held the /etc of an earlier start", "archived in vhost1-")
	m.archived("rc.conf", "of the first start\n")
	m.holds(want)
	m.unmountAll()
}

// An old tree is never saved, with or without a record, and every command that finds it says so.
func TestEarlierTreeIsNotSaved(t *testing.T) {
	if !namespaced(t) {
		return
	}
	const says = "/jail/vhost1/etc holds the /etc of an earlier start"
	tell := func(m *machine) {
		m.says(m.cfgd(2, "status vhost1"), "vhost1")
		m.says(m.cfgd(2, "save vhost1"), says, "cfgd jail cleanup vhost1 puts it in an archive")
		m.says(m.cfgd(2, "save"), says)
		m.says(m.cfgd(2, "save --force vhost1"), says)
	}
	for name, find := range map[string]func(m *machine){
		"nobody": func(*machine) {},
		"a command": func(m *machine) {
			tell(m)
			m.says(m.cfgd(1, "report"), says)
		},
		"a daemon that starts": func(m *machine) {
			d := m.watching()
			m.until("vhost1", "tells of it",
				func(s control.Status) bool { return strings.Contains(s.Problem, says) && !s.Down })
			tell(m)
			m.says(m.cfgd(1, "report"), says)
			m.must(d.ends(unix.SIGTERM))
		},
		"a daemon, and all records are lost": func(m *machine) {
			m.must(os.RemoveAll("/var/run/cfgd"))
			d := m.watching()
			m.until("vhost1", "tells of it",
				func(s control.Status) bool { return strings.Contains(s.Problem, says) && !s.Down })
			m.must(d.ends(unix.SIGTERM))
			tell(m)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if !namespaced(t) {
				return
			}
			m := jailed(t)
			m.hidden()
			find(m)
			m.newer()
		})
	}
}

// A daemon that has let go of the jail does not look at it; status looks at it directly.
func TestEarlierTreeUnderTheDaemon(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	d := m.watching()
	m.hidden()
	m.says(m.cfgd(2, "status vhost1"), "failing", "holds the /etc of an earlier start")
	m.newer()
	m.must(d.ends(unix.SIGTERM))
}

// The fstab names another jail's store when the cleanup is tried again: nothing is written to it.
func TestOtherJailsStore(t *testing.T) {
	if !namespaced(t) {
		return
	}
	m := jailed(t)
	m.byNullfs()
	m.must(os.MkdirAll("/other", 0o755))
	m.mountRoot()
	m.must(unix.Mount("/other", cfg, "", unix.MS_BIND, ""))
	m.cfgd(0, "jail init vhost1")
	for _, p := range []string{"rc.conf", "own"} {
		m.write(live+"/"+p, "of the other\n")
	}
	m.cfgd(0, "jail cleanup vhost1")
	m.unmountAll()
	others := m.output("ls", "-lR", "--time-style=full-iso", "/other")
	for _, saved := range []bool{true, false} {
		m.must(os.RemoveAll("/store"))
		m.must(os.Mkdir("/store", 0o755))
		m.mountAll()
		m.cfgd(0, "jail init vhost1")
		if saved {
			m.write(live+"/hosts", "mine\n")
			m.cfgd(0, "save vhost1")
		}
		leave := m.shell(live)
		m.stopBusy()
		m.write("/etc/fstab.vhost1", strings.Replace(m.read("/etc/fstab.vhost1"), "/store ", "/other ", 1))
		m.write(live+"/new", "after the stop\n")
		leave()
		m.says(m.cfgd(0, "jail cleanup vhost1"), "another store: /other does not hold generation",
			"was last saved for /jail/vhost1/etc in /store",
			"let the fstab name /store again", "archived in vhost1-")
		if got := m.output("ls", "-lR", "--time-style=full-iso", "/other"); got != others {
			t.Errorf("written to another jail's store:\n%s\nwas\n%s", got, others)
		}
		m.archived("new", "after the stop\n")
		m.must(os.RemoveAll("/var/db/cfgd/rescue"))
		m.umount("/jail/vhost1")
		m.byNullfs()
		m.write("/etc/fstab.vhost1", strings.Replace(m.read("/etc/fstab.vhost1"), "/other ", "/store ", 1))
	}
}

// After a busy stop, something else is mounted on cfg. The last save goes to the store that the fstab names.
func TestPlantedCfg(t *testing.T) {
	if !namespaced(t) {
		return
	}
	const is = "is not what the fstab mounts"
	for name, c := range map[string]struct {
		plant func(m *machine)
		says  string
	}{
		"a link": {func(m *machine) {
			m.must(os.Remove(cfg))
			m.must(os.Symlink("/outside",
				cfg))
		}, is},
		"a file": {func(m *machine) { m.must(os.Remove(cfg)); m.write(cfg, "no directory\n") },
			is},
		"a fifo": {func(m *machine) { m.must(os.Remove(cfg)); m.must(unix.Mkfifo(cfg, 0o644)) },
			is},
		"nothing": {func(m *machine) { m.must(os.Remove(cfg)) }, "nothing was mounted"},
		"a directory": {func(m *machine) { m.must(os.MkdirAll(cfg+"/.cfgd", 0o755)) },
			"nothing was mounted"},
		"another filesystem": {func(m *machine) { m.tmpfs(cfg, "") }, is},
		"one with empty .cfgd": {func(m *machine) { m.tmpfs(cfg, ""); m.must(os.Mkdir(cfg+"/.cfgd", 0o700)) },
			is},
	} {
		t.Run(name, func(t *testing.T) {
			if !namespaced(t) {
				return
			}
			m := jailed(t)
			m.byNullfs()
			m.mountAll()
			m.cfgd(0, "jail init vhost1")
			m.write(live+"/hosts", "mine\n")
			m.cfgd(0, "save vhost1")
			leave := m.shell(live)
			m.must(unix.Mount("", "/jail/vhost1", "", unix.MS_BIND|unix.MS_REMOUNT, "")) // it can be written
			m.stopBusy()
			m.write(live+"/new", "after the stop\n")
			c.plant(m)
			leave()
			m.says(m.cfgd(0, "jail cleanup vhost1"), c.says,
				"the last save went to /store, which the fstab mounts there")
			m.holds(map[string]string{"/store/new": "after the stop\n", "/store/hosts": "mine\n"})
			if left, err := os.ReadDir("/outside"); err != nil || len(left) != 1 {
				t.Errorf("outside: %v, %v", left, err)
			}
			if left, err := os.ReadDir("/var/db/cfgd/rescue"); err == nil && len(left) > 0 {
				t.Errorf("an archive of what was saved: %v", left)
			}
			if m.mounted(cfg) != "" {
				if left, err := os.ReadDir(cfg + "/.cfgd"); err == nil && len(left) > 0 {
					t.Errorf("written to a strange filesystem: %v", left)
				}
				m.umount(cfg)
			}
			m.umount("/jail/vhost1")
		})
	}
}
