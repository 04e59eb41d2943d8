package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/run"
)

// cleanupFails runs a cleanup that must fail with this text.
func (m *machine) cleanupFails(words ...string) {
	m.Helper()
	m.fails(m.tryCleanup(), words)
}

// The tree is in use: all is saved, the daemon watches the tree again, and the next cleanup does the
// rest.
func TestBusy(t *testing.T) {
	eachSystem(t, func(m *machine) {
		m.init()
		m.editAll()
		m.failing("umount", "device busy")
		users := map[string]string{"freebsd": "fstat -f ", "linux": "fuser -vm "}[m.goos]
		m.cleanupFails("all is saved, but", "is still mounted", "device busy", users+m.target.Live,
			"run cfgd jail cleanup vhost1 again")
		if m.goos == "freebsd" {
			m.cleanupFails("shows who uses it: sleep (661), an odd name (9)); end what uses it")
		}
		if m.read("cfg/rc.conf") != "edited\n" || m.log[len(m.log)-1] != "attach vhost1" {
			m.Errorf("cfg: %q\n%s", m.read("cfg/rc.conf"), m.said())
		}
		m.populated(edits)
		m.edit("rc.conf", "edited meanwhile\n")
		m.before = nil
		m.cleanup()
		m.clean()
		if got := m.read("cfg/rc.conf"); got != "edited meanwhile\n" {
			m.Errorf("cfg: %q", got)
		}
	})
}

// cfgKinds are the ways in which an fstab mounts a cfg.
var cfgKinds = []string{"nullfs", "zfs"}

// unmountCfg does what jail(8) does after a busy cleanup: an empty mountpoint is left of cfg.
func (m *machine) unmountCfg(kind string) {
	m.Helper()
	m.must(os.Rename(m.path("cfg"), m.path("data.cfg")))
	m.must(os.Mkdir(m.path("cfg"), 0o755))
	t := m.target
	t.CfgMount, t.CfgSource, t.CfgType = true, m.path("data.cfg"), kind
	if kind == "zfs" {
		t.CfgSource = "zpool/vhost1/cfg"
		m.holds[t.CfgSource] = m.path("data.cfg")
	}
}

// mountCfg does what the next start does.
func (m *machine) mountCfg() {
	m.Helper()
	if left, err := os.ReadDir(m.path("cfg")); err != nil || len(left) > 0 {
		m.Errorf("written to the mountpoint of cfg: %v, %v", left, err)
	}
	m.must(os.Remove(m.path("cfg")))
	m.must(os.Rename(m.path("data.cfg"), m.path("cfg")))
	m.target.CfgMount = false
}

func eachCfg(t *testing.T, f func(m *machine, kind string)) {
	for _, kind := range cfgKinds {
		t.Run(kind, func(t *testing.T) {
			eachSystem(t, func(m *machine) { f(m, kind) })
		})
	}
}

// Busy at the stop: edits after the first cleanup go to cfg from the host's side at the next try.
func TestCfgUnmountedBelow(t *testing.T) {
	eachCfg(t, func(m *machine, kind string) {
		m.init()
		m.edit("rc.conf", "edited\n")
		m.failing("umount", "device busy")
		m.cleanupFails("all is saved, but")
		m.before = nil
		m.unmountCfg(kind)
		m.edit("rc.conf", "edited meanwhile\n")
		m.edit("local/new", "new\n")
		m.log = nil
		s := m.cleanup()
		if s.Rescue != "" || !s.HostSide || !contains(s.Warnings, "the last save went to "+
			m.target.CfgSource) {
			m.Errorf("%+v", s)
		}
		if kind == "zfs" && !strings.HasPrefix(m.said(),
			"detach vhost1\nmount -t zfs zpool/vhost1/cfg /run/mnt/vhost1.cfg\numount "+
				"/run/mnt/vhost1.cfg\n") {
			m.Errorf("%s", m.said())
		}
		m.clean()
		if left, err := os.ReadDir(m.path("run/mnt")); err != nil && !os.IsNotExist(err) || len(left) > 0 {
			m.Errorf("left: %v, %v", left, err)
		}
		m.mountCfg()
		m.init()
		m.populated(map[string]string{"rc.conf": "edited meanwhile\n", "local/new": "new\n"})
	})
}

// Still busy: all is saved all the same, and the message is that of a busy tree.
func TestCfgUnmountedStillBusy(t *testing.T) {
	eachCfg(t, func(m *machine, kind string) {
		m.init()
		m.unmountCfg(kind)
		m.editAll()
		m.before = func(c run.Cmd) error {
			if c.Name == "umount" && !strings.Contains(c.Args[0], "run/mnt") {
				return errors.New("device busy")
			}
			return nil
		}
		m.cleanupFails("all is saved, but", "is still mounted", "device busy")
		m.populated(edits)
		if m.read("data.cfg/rc.conf") != "edited\n" || len(m.rescued()) > 0 {
			m.Errorf("%q, %q", m.read("data.cfg/rc.conf"), m.rescued())
		}
	})
}

// The archive is used if cfg cannot be reached, or what is there is no cfg. The next start names it.
func TestCfgOutOfReach(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(m *machine)
		kind  string
		want  string
	}{
		"no mount": {
			func(m *machine) { m.failing("mount -t zfs", "dataset is busy") }, "zfs", "dataset is busy",
		},
		"an empty dataset": {
			func(m *machine) {
				m.must(removeAll(m.path("data.cfg")))
				m.must(os.Mkdir(m.path("data.cfg"), 0o755))
			}, "zfs", "no store of cfgd in it",
		},
		"an empty source": {
			func(m *machine) {
				m.must(removeAll(m.path("data.cfg")))
				m.must(os.Mkdir(m.path("data.cfg"), 0o755))
			}, "nullfs", "no store of cfgd in it",
		},
		"a source gone": {
			func(m *machine) { m.must(removeAll(m.path("data.cfg"))) }, "nullfs", "no such file",
		},
		"an fstab that has": {
			func(m *machine) { m.target.CfgSource = "" }, "nullfs",
			"the fstab names nothing by which it could be reached",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, "freebsd", config.BackingMD)
			m.init()
			m.unmountCfg(c.kind)
			m.editAll()
			c.spoil(m)
			s := m.cleanup()
			if s.Rescue == "" || s.HostSide || !contains(s.Warnings, c.want) ||
				!contains(s.Warnings, "not mounted") {
				t.Errorf("%+v", s)
			}
			m.clean()
			if !maps.Equal(m.rescued(), edits) {
				t.Errorf("%q", m.rescued())
			}
			if left, _ := os.ReadDir(m.path("data.cfg")); len(left) > 0 && strings.Contains(name, "empty") {
				t.Errorf("written to what is no cfg: %v", left)
			}
			m.before = nil
			m.must(removeAll(m.path("data.cfg")))
			m.must(os.Mkdir(m.path("data.cfg"), 0o755))
			m.mountCfg()
			if s := m.init(); !contains(
				s.Warnings, "what an earlier stop could not save is in the archive vhost1-",
			) || !contains(s.Warnings, "cfgd rescue restore vhost1 vhost1-") {
				t.Errorf("%q", s.Warnings)
			}
		})
	}
}

func TestFstatHolders(t *testing.T) {
	t.Parallel()
	lines := []string{"USER     CMD          PID   FD MOUNT      INUM MODE         SZ|DV R/W"}
	if got := fstatUsers(lines[0] + "\n"); got != "" {
		t.Errorf("%q", got)
	}
	for n := range 8 {
		lines = append(lines, fmt.Sprintf("root     sh\x1b[2J  %d   wd /      2 drwxr-xr-x     512  r", n+10))
	}
	want := `sh\033[2J (10), sh\033[2J (11), sh\033[2J (12), sh\033[2J (13), sh\033[2J (14), and 3 more`
	if got := fstatUsers(strings.Join(lines, "\n")); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestMDStays(t *testing.T) {
	m := newMachine(t, "freebsd", config.BackingMD)
	m.init()
	m.failing("mdconfig -d", "device busy")
	m.cleanupFails("all is saved, and", "is unmounted, but md3 still takes its memory", "device busy",
		"tries again")
	m.cleanupFails("clear what an earlier start left", "device busy")
	m.before = nil
	m.cleanup()
	m.clean()
}

// A daemon hangs and holds the target's lock: the jail stops all the same, and what is unsaved goes to an
// archive.
func TestDaemonHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, "freebsd", config.BackingMD)
		m.init()
		m.editAll()
		m.daemon = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
		f, err := os.OpenFile(m.path("run/lock/vhost1"), os.O_CREATE|os.O_RDWR, 0o600)
		m.must(err)
		m.must(unix.Flock(int(f.Fd()), unix.LOCK_EX))
		defer f.Close()
		s := m.cleanup()
		if !contains(s.Warnings, "the daemon did not let go") ||
			!contains(s.Warnings, "not saved: another cfgd is at work on vhost1") ||
			s.Rescue == "" {
			t.Errorf("%+v", s)
		}
		if got := m.rescued(); got["rc.conf"] != "edited\n" || got["local/new"] != "new\n" {
			t.Errorf("archive: %q", got)
		}
		m.clean()
	})
}

// A cleanup that is cancelled while it waits unmounts nothing.
func TestCancelled(t *testing.T) {
	m := newMachine(t, "freebsd", config.BackingMD)
	m.init()
	m.editAll()
	ctx, cancel := context.WithCancel(t.Context())
	m.daemon = func(context.Context, string) error { cancel(); return nil }
	_, err := m.hooks().Cleanup(ctx)
	m.fails(err, []string{"not saved", "context canceled", "no rescue archive"})
	m.populated(edits)
	if m.log[len(m.log)-1] != "attach vhost1" {
		t.Error(m.said())
	}
}

// Neither cfg nor the rescue directory has space: the tree stays.
func TestNoRescue(t *testing.T) {
	m := newMachine(t, "freebsd", config.BackingMD)
	m.init()
	m.editAll()
	m.must(os.Rename(m.path("cfg"), m.path("cfg.away")))
	m.write("rescue", "a file where a directory should be")
	m.cleanupFails("vhost1: not saved: cfg: ", "no such file", "and no rescue archive", "not a directory",
		"mend the cause and run cfgd jail cleanup vhost1 again")
	m.populated(edits)
	m.must(os.Remove(m.path("rescue")))
	m.write("rescue/.new-vhost1", "what a kill left of an archive")
	s := m.cleanup()
	if s.Rescue == "" || !contains(s.Warnings, "what differs from the defaults is in "+s.Rescue) {
		t.Errorf("%+v", s)
	}
	m.clean()
	names, err := filepath.Glob(m.path("rescue/*"))
	m.must(err)
	hidden, _ := filepath.Glob(m.path("rescue/.*"))
	st, err := os.Stat(s.Rescue)
	m.must(err)
	if !slices.Equal(names, []string{s.Rescue}) || len(hidden) > 0 || st.Mode() != 0o600 ||
		m.rescued()["rc.conf"] != "edited\n" {
		t.Errorf("%q, %q, %v", names, hidden, st.Mode())
	}
}

// What both sides changed goes to an archive. Names that the jail chose cannot forge a line of a message.
func TestHostileNames(t *testing.T) {
	m := newMachine(t, "linux", config.BackingTmpfs)
	m.init()
	evil := "x\ncfgd: all is well"
	m.edit(evil, "first\n")
	m.cleanup()
	m.init()
	m.edit(evil, "live\n")
	m.write("cfg/"+evil, "by hand\n")
	m.must(unix.Mkfifo(m.path("jail/vhost1/etc/fifo\nforged"), 0o600))
	s := m.cleanup()
	if !contains(s.Warnings, `"x\ncfgd: all is well"`) ||
		!contains(s.Warnings, `"fifo\nforged" is not saved, and goes: `) ||
		strings.Contains(strings.Join(s.Warnings, ""), "\n") {
		t.Errorf("%q", s.Warnings)
	}
	if m.rescued()[evil] != "live\n" || m.read("cfg/"+evil) != "by hand\n" {
		t.Errorf("archive %q, cfg %q", m.rescued(), m.read("cfg/"+evil))
	}
	m.clean()
}

// The table of mounts lacks the tree's own mount, as in a chroot: all is saved and nothing is guessed.
func TestNotInTheTable(t *testing.T) {
	m := newMachine(t, "linux", config.BackingTmpfs)
	m.init()
	m.editAll()
	there := m.mounts
	m.mounts = nil
	m.cleanupFails("all is saved, but no memory filesystem is mounted on")
	m.mounts = there
	if m.read("cfg/rc.conf") != "edited\n" {
		t.Error("not saved")
	}
	m.cleanup()
	m.clean()
}

// A stop does not remove a tree that could only be saved in part, because of files that no save can hold
// or directories that cannot be read. What can be archived is archived first; otherwise the tree stays.
func TestNotWhollySaved(t *testing.T) {
	eachSystem(t, func(m *machine) {
		m.init()
		m.edit("new/file", "new\n")
		for i := range 300 {
			name := fmt.Sprintf("user.%04d%s", i, strings.Repeat("x", 240))
			if err := unix.Lsetxattr(m.path("jail/vhost1/etc/new"), name, nil, 0); err != nil {
				m.Skip(err)
			}
		}
		if _, err := unix.Llistxattr(m.path("jail/vhost1/etc/new"), make([]byte, 1<<20)); err == nil {
			m.Skip("this system lists as many attributes as there are")
		}
		s := m.cleanup()
		named := contains(s.Warnings, "attributes can't all be read")
		if m.read("cfg/new/file") != "new\n" || s.Rescue == "" || !named {
			m.Errorf("cfg %q, %+v", m.read("cfg/new/file"), s)
		}
		if b, err := os.ReadFile(s.Rescue); err != nil || !strings.Contains(string(b), "new/file") {
			m.Errorf("archive: %v", err)
		}
		m.clean()
		m.init()
		m.edit("deep"+strings.Repeat("/d", 130)+"/file", "x\n")
		m.edit("deep/too", "y\n")
		before, err := Archives(m.path("rescue"))
		m.must(err)
		for range 2 { // the second attempt keeps the archive of the first one
			m.cleanupFails("nested too deep", "the rescue archive ", " is not whole: ", "stays as it is")
		}
		if m.read("jail/vhost1/etc/new/file") != "new\n" {
			m.Error("the tree is gone")
		}
		all, err := Archives(m.path("rescue"))
		m.must(err)
		if len(all) != len(before)+1 {
			m.Fatalf("%d archives, and %d before", len(all), len(before))
		}
		b, err := os.ReadFile(m.path("rescue/" + all[len(all)-1].Name))
		if err != nil || !strings.Contains(string(b), "deep/too") {
			m.Errorf("what could be read is not in the archive: %v", err)
		}
	})
}

// A file that no save takes goes into an archive before its filesystem goes. If it has no room there, or
// there can be no archive, the tree stays.
func TestFilesThatNoSaveTakes(t *testing.T) {
	eachSystem(t, func(m *machine) {
		m.init()
		m.edit("rc.conf", "edited\n")
		m.edit("large", strings.Repeat("x", 1<<20+1))
		m.must(unix.Mkfifo(m.path("jail/vhost1/etc/fifo"), 0o600))
		m.write("rescue", "a file where a directory should be")
		m.cleanupFails("what no save takes is nowhere else", "no rescue archive", "stays as it is")
		m.must(os.Remove(m.path("rescue")))
		m.must(os.Truncate(m.path("jail/vhost1/etc/large"), 1<<49))
		for range 2 {
			m.cleanupFails("large: its ", "have no room", "stays as it is")
		}
		m.must(os.Truncate(m.path("jail/vhost1/etc/large"), 1<<20+1))
		s := m.cleanup()
		if s.Rescue != "" || s.Extra == "" || !contains(s.Warnings, "large: no save takes it; it is in ") ||
			!contains(s.Warnings, "fifo is not saved, and goes: ") {
			m.Errorf("%+v", s)
		}
		if m.read("cfg/rc.conf") != "edited\n" {
			m.Error("not saved")
		}
		if got := m.rescued(); len(got["large"]) != 1<<20+1 || len(got) != 1 {
			m.Errorf("%d files in the archive, %d bytes", len(got), len(got["large"]))
		}
		m.clean()
	})
}
