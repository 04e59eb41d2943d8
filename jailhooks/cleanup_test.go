package jailhooks

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"cfgd/config"
)

// cleanupFails runs a cleanup that must fail, with these words.
func (m *machine) cleanupFails(words ...string) {
	m.Helper()
	m.fails(m.tryCleanup(), words)
}

// Somebody stands in the tree: all is saved, the daemon takes the tree back, and the next cleanup does the rest.
func TestBusy(t *testing.T) {
	eachSystem(t, func(m *machine) {
		m.init()
		m.editAll()
		m.failing("umount", "device busy")
		users := map[string]string{"freebsd": "fstat -f ", "linux": "fuser -vm "}[m.goos]
		m.cleanupFails("all is saved, but", "is still mounted", "device busy", users+m.target.Live, "run cfgd jail cleanup vhost1 again")
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

func TestMDStays(t *testing.T) {
	m := newMachine(t, "freebsd", config.BackingMD)
	m.init()
	m.failing("mdconfig -d", "device busy")
	m.cleanupFails("all is saved, and", "is unmounted, but md3 still takes its memory", "device busy", "tries again")
	m.cleanupFails("clear what an earlier start left", "device busy")
	m.before = nil
	m.cleanup()
	m.clean()
}

// A daemon that hangs, and holds the target's lock: the jail stops all the same, and what it held is in an archive.
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
		if !contains(s.Warnings, "the daemon did not let go") || !contains(s.Warnings, "not saved: vhost1: another cfgd is at work") || s.Rescue == "" {
			t.Errorf("%+v", s)
		}
		if got := m.rescued(); got["rc.conf"] != "edited\n" || got["local/new"] != "new\n" {
			t.Errorf("archive: %q", got)
		}
		m.clean()
	})
}

// Whoever cancels a cleanup while it waits wants nothing unmounted.
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

// Neither cfg nor the rescue directory can take it: the tree stays.
func TestNoRescue(t *testing.T) {
	m := newMachine(t, "freebsd", config.BackingMD)
	m.init()
	m.editAll()
	m.must(os.Rename(m.path("cfg"), m.path("cfg.away")))
	m.write("rescue", "a file where a directory should be")
	m.cleanupFails("vhost1: not saved: cfg: ", "no such file", "and no rescue archive", "not a directory", "mend the cause and run cfgd jail cleanup vhost1 again")
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
	if !slices.Equal(names, []string{s.Rescue}) || len(hidden) > 0 || st.Mode() != 0o600 || m.rescued()["rc.conf"] != "edited\n" {
		t.Errorf("%q, %q, %v", names, hidden, st.Mode())
	}
}

// What both sides changed goes to an archive; names that the jail chose forge no line of a message.
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
	if !contains(s.Warnings, `"x\ncfgd: all is well"`) || !contains(s.Warnings, `"fifo\nforged" is not saved, and goes: `) || strings.Contains(strings.Join(s.Warnings, ""), "\n") {
		t.Errorf("%q", s.Warnings)
	}
	if m.rescued()[evil] != "live\n" || m.read("cfg/"+evil) != "by hand\n" {
		t.Errorf("archive %q, cfg %q", m.rescued(), m.read("cfg/"+evil))
	}
	m.clean()
}

// A table of mounts that lacks what one stands on, as in a chroot: all is saved and nothing guessed.
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
