package jailhooks

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/mount"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// initFails runs an init that must fail with this text.
func (m *machine) initFails(words ...string) {
	m.Helper()
	m.fails(m.tryInit(), words)
}

func (m *machine) fails(err error, words []string) {
	m.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			m.Errorf("the error is %v, want %q in it", err, w)
		}
	}
}

// failing makes one command fail, once for each of the texts; "" fails none.
func (m *machine) failing(begin, why string) {
	m.before = func(c run.Cmd) error {
		if strings.HasPrefix(c.String(), begin) {
			return errors.New(why)
		}
		return nil
	}
}

// A link in place of the live tree is not followed, and nothing is mounted.
func TestLinkInTheWay(t *testing.T) {
	eachSystem(t, func(m *machine) {
		m.write("outside/precious", "untouched")
		m.must(removeAll(m.target.Live))
		m.must(os.Symlink(m.path("outside"), m.target.Live))
		m.initFails("is mounted on a directory, and on no link")
		if s := m.cleanup(); !s.AlreadyClean {
			m.Errorf("%+v", s)
		}
		if len(m.mounts) > 0 || m.read("outside/precious") != "untouched" ||
			strings.Contains(m.said(), "mount") {
			m.Errorf("%d mounts; %s", len(m.mounts), m.said())
		}
	})
}

// The directory is swapped for a link just before mount(8) resolves it. On Linux mount(8) still mounts on
// the original directory. Elsewhere a mount in another place is undone if its device identifies it, and
// never by the path, which may lead anywhere.
func TestSwappedWhileMounted(t *testing.T) {
	eachSystem(t, func(m *machine) {
		m.byDescriptor()
		m.write("outside/precious", "untouched")
		m.before = func(c run.Cmd) error {
			if c.Name == "mount" {
				m.must(os.Rename(m.target.Live, m.path("jail/vhost1/moved")))
				m.must(os.Symlink(m.path("outside"), m.target.Live))
			}
			return nil
		}
		m.initFails("shows something else")
		if m.record() != nil || len(m.mds) > 0 || strings.Contains(m.said(), "umount /jail/vhost1/etc") {
			m.Errorf("left: %+v, %v\n%s", m.record(), m.mds, m.said())
		}
		if lost := m.goos == "freebsd" && m.target.Memory == config.BackingTmpfs; !lost &&
			(len(m.mounts) > 0 || m.read("outside/precious") != "untouched") {
			m.Errorf("left: %+v", m.mounts)
		}
	})
}

// A tree stayed mounted, and the next start mounts the jail's root over it. Its unsaved changes are saved
// through its md. A tmpfs stays, and is archived when it is visible again.
func TestHiddenByTheRoot(t *testing.T) {
	want := map[string]string{
		"freebsd/md": "umount /dev/md3\nmount -o ro /dev/md3 /run/mnt/vhost1.etc\numount " +
			"/run/mnt/vhost1.etc\nmdconfig -d -u 3\nmdconfig -a",
		"freebsd/tmpfs": "mount -t", "linux/tmpfs": "mount -c",
	}
	eachSystem(t, func(m *machine) {
		m.init()
		m.editAll()
		m.cover()
		m.log = nil
		s := m.init()
		_, name, _ := strings.Cut(m.Name(), "/")
		if !strings.HasPrefix(m.said(), want[name]) {
			m.Errorf("%s\nwant first\n%s", m.said(), want[name])
		}
		if name == "freebsd/md" {
			m.populated(edits)
			if len(m.mounts) != 1 ||
				!contains(s.Warnings, "an earlier start left its /etc hidden on md3: saved as generation 1") {
				m.Errorf("%d mounts, %q", len(m.mounts), s.Warnings)
			}
			m.cleanup()
			m.clean()
			return
		}
		m.populated(nil)
		if len(m.mounts) != 2 ||
			!contains(s.Warnings, "that the jail's root now hides, with all that was not saved in it") {
			m.Errorf("%d mounts, %q", len(m.mounts), s.Warnings)
		}
		m.edit("hosts", "newer\n")
		m.cleanup()
		m.uncover()
		if m.live()["rc.conf"] != "edited\n" {
			m.Fatalf("the old tree is gone: %q", m.live())
		}
		if done := m.cleanup(); done.Rescue == "" ||
			!contains(done.Warnings, "held the /etc of an earlier start") {
			m.Errorf("%+v", done)
		}
		m.clean()
		if got := m.rescued(); !maps.Equal(got, edits) || m.read("cfg/rc.conf") != "(absent)" ||
			m.read("cfg/hosts") != "newer\n" {
			m.Errorf("archive %q, cfg/rc.conf %q", got, m.read("cfg/rc.conf"))
		}
		if s := m.init(); !contains(s.Warnings, "cfgd rescue restore vhost1 vhost1-") {
			m.Errorf("%q", s.Warnings)
		}
	})
}

// The old tree is visible again at a start, with nothing mounted over it: it goes to an archive, and the
// start goes on.
func TestSeenAgainAtStart(t *testing.T) {
	m := newMachine(t, "linux", config.BackingTmpfs)
	m.init()
	m.editAll()
	m.cover()
	m.init()
	m.cleanup()
	m.uncover()
	m.init()
	m.populated(nil)
	if got := m.rescued(); !maps.Equal(got, edits) || len(m.mounts) != 1 {
		t.Errorf("archive %q, %d mounts", got, len(m.mounts))
	}
	m.cleanup()
	m.clean()
}

// The same while the tree is in use, or while no archive can be made: the new one is mounted over it, and
// a later stop archives it.
func TestSeenAgainAndStays(t *testing.T) {
	for name, spoil := range map[string]func(m *machine) (mend func()){
		"busy": func(m *machine) func() {
			m.failing("umount", "device busy")
			return func() { m.before = nil }
		},
		"no archive": func(m *machine) func() {
			m.write("rescue", "a file where a directory should be")
			return func() { m.must(os.Remove(m.path("rescue"))) }
		},
	} {
		m := newMachine(t, "freebsd", config.BackingTmpfs)
		m.init()
		m.editAll()
		m.cover()
		m.init()
		m.cleanup()
		m.uncover()
		mend := spoil(m)
		before := m.before
		m.before = func(c run.Cmd) error {
			if c.Name == "mount" {
				return errors.New("no memory left")
			}
			if before != nil {
				return before(c)
			}
			return nil
		}
		m.initFails("no memory left")
		m.before = before
		if m.live()["rc.conf"] != "edited\n" {
			t.Fatalf("%s: a mount that failed took the old tree away: %q", name, m.live())
		}
		s := m.init()
		if !contains(s.Warnings, "the new one is mounted over it") || len(m.mounts) != 2 {
			t.Errorf("%s: %q, %d mounts", name, s.Warnings, len(m.mounts))
		}
		m.populated(nil)
		mend()
		m.edit("hosts", "newer\n")
		m.cleanup()
		if s := m.cleanup(); s.Rescue == "" {
			t.Errorf("%s: %+v", name, s)
		}
		m.clean()
		if got := m.rescued(); !maps.Equal(got, edits) || m.read("cfg/hosts") != "newer\n" ||
			m.read("cfg/rc.conf") != "(absent)" {
			t.Errorf("%s: archive %q, cfg/hosts %q", name, got, m.read("cfg/hosts"))
		}
	}
}

// A hidden md is still in use, or cannot be mounted: the start goes on, and nothing of it is lost.
func TestHiddenAndBusy(t *testing.T) {
	for _, command := range []string{"umount /dev/md3", "mount -o ro", "umount /run/mnt"} {
		m := newMachine(t, "freebsd", config.BackingMD)
		m.init()
		m.editAll()
		m.cover()
		m.before = func(c run.Cmd) error {
			if strings.HasPrefix(strings.ReplaceAll(c.String(), m.dir, ""), command) {
				return errors.New("device busy")
			}
			return nil
		}
		s := m.init()
		if !contains(
			s.Warnings, "what an earlier start left is still there: md3 holds the /etc of an earlier start",
		) {
			t.Errorf("%s: %q", command, s.Warnings)
		}
		if m.mds["md3"] == "" {
			t.Errorf("%s: the md was destroyed", command)
		}
	}
}

// A cleanup finds it hidden.
func TestCleanupOfHidden(t *testing.T) {
	eachSystem(t, func(m *machine) {
		m.init()
		m.editAll()
		m.cover()
		s := m.cleanup()
		if m.record() != nil || s.Hidden != (m.target.Memory == config.BackingTmpfs) {
			m.Errorf("%+v, record %+v", s, m.record())
		}
		if !s.Hidden && (len(m.mounts)+len(m.mds) > 0 || m.read("cfg/rc.conf") != "edited\n") {
			m.Errorf("left: %d mounts, %v; cfg/rc.conf %q", len(m.mounts), m.mds, m.read("cfg/rc.conf"))
		}
		if s.Hidden && len(m.mounts) != 1 {
			m.Errorf("%d mounts", len(m.mounts))
		}
	})
}

// A record names an md by its number, which may belong to something else by now: the record is of an
// earlier boot.
func TestRecordThatLies(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		used       bool   // mounted elsewhere
		left       bool   // it is still there after init
		warning    string // of init
		refused    bool   // cleanup ends with an error, and may be repeated
	}{
		{name: "gone"},
		{
			name:    "somebody's, unmounted",
			kind:    "swap",
			left:    true,
			warning: "holds something else now, and was left alone",
		},
		{name: "somebody's image", kind: "vnode", left: true},
		{
			name:    "somebody's memory",
			kind:    "swap",
			used:    true,
			left:    true,
			warning: "device busy",
			refused: true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			lie := func() *machine {
				m := newMachine(t, "freebsd", config.BackingMD)
				if c.kind != "" {
					m.mds["md7"] = c.kind
				}
				if c.used {
					m.mounts = []*mounted{{Mount: mount.Mount{Source: "/dev/md7", Dir: "/mnt", Type: "ufs"}}}
				}
				m.must(m.hooks().Overlay.WriteRecord(&overlay.Record{
					Identity: "of another life",
					State:    overlay.Populated,
					Memory:   "md",
					Device:   "md7",
				}))
				return m
			}
			m := lie()
			s := m.init()
			m.populated(nil)
			if _, there := m.mds["md7"]; there != c.left || c.warning != "" &&
				!contains(s.Warnings, c.warning) || c.warning == "" && len(s.Warnings) > 0 {
				t.Errorf("init: md7 is there: %v; %q\n%s", there, s.Warnings, m.said())
			}
			m = lie()
			if err := m.tryCleanup(); (err != nil) != c.refused || (m.record() != nil) != c.refused {
				t.Errorf("cleanup: %v, record %+v", err, m.record())
			}
			if _, there := m.mds["md7"]; there != c.left {
				t.Errorf("cleanup: md7 is there: %v\n%s", there, m.said())
			}
		})
	}
}

// What is at the live path and was not made by cfgd.
func TestSomebodyElses(t *testing.T) {
	mounted := func(source, kind string) *machine {
		m := newMachine(t, "freebsd", config.BackingMD)
		m.must(m.mount(source, m.target.Live))
		m.mounts[0].Type = kind
		return m
	}
	t.Run("an empty tmpfs serves, and is emptied where it cannot be filled", func(t *testing.T) {
		m := mounted("tmpfs", "tmpfs")
		m.must(os.Rename(m.path("cfg"), m.path("cfg.away")))
		m.initFails("cfg: ")
		if s := m.cleanup(); len(m.mounts) != 1 || !s.AlreadyClean {
			t.Errorf("%d mounts, %+v", len(m.mounts), s)
		}
		m.must(os.Rename(m.path("cfg.away"), m.path("cfg")))
		m.hook = (&stopper{at: 9}).op
		m.initFails("this step fails")
		if len(m.live()) > 0 || len(m.mounts) != 1 {
			t.Errorf("%q, %d mounts", m.live(), len(m.mounts))
		}
		m.hook = nil
		m.init()
		if len(m.mounts) != 1 {
			t.Errorf("%d mounts", len(m.mounts))
		}
		m.populated(nil)
	})
	t.Run("an empty filesystem on a disk is mounted over", func(t *testing.T) {
		m := mounted("zpool/vhost1/etc", "zfs")
		m.init()
		m.populated(nil)
		m.cleanup()
		if len(m.mounts) != 1 || !strings.Contains(m.said(), "umount /dev/md3") {
			t.Errorf("%d mounts\n%s", len(m.mounts), m.said())
		}
	})
	t.Run("what holds files is left alone", func(t *testing.T) {
		m := mounted("zpool/vhost1/etc", "zfs")
		m.edit("precious", "untouched")
		m.initFails("zpool/vhost1/etc (zfs) is mounted on", "in the way", "unmount it, then try again")
		m.fails(m.tryCleanup(), []string{"in the way"})
		if len(m.mounts) != 1 || m.live()["precious"] != "untouched" {
			t.Errorf("%d mounts, %q", len(m.mounts), m.live())
		}
	})
	t.Run("so is a directory", func(t *testing.T) {
		m := newMachine(t, "linux", config.BackingDir)
		m.edit("precious", "untouched")
		m.initFails("holds files", "in the way", "move them away, then try again")
		m.fails(m.tryCleanup(), []string{"in the way"})
		if m.live()["precious"] != "untouched" {
			t.Errorf("%q", m.live())
		}
	})
	t.Run("a directory that is what base and cfg make is taken over", func(t *testing.T) {
		m := newMachine(t, "linux", config.BackingDir)
		for p, content := range base {
			m.edit(p, content)
		}
		m.edit("rc.conf", "edited\n")
		if s := m.init(); !s.Adopted || !contains(s.Warnings, "taken over as it is") {
			t.Errorf("%+v", s)
		}
		m.cleanup()
		m.clean()
		if m.read("cfg/rc.conf") != "edited\n" {
			t.Errorf("cfg/rc.conf: %q", m.read("cfg/rc.conf"))
		}
	})
}

// The output of mdconfig(8) is checked before it is used.
func TestStrangeDevice(t *testing.T) {
	m := newMachine(t, "freebsd", config.BackingMD)
	h := m.hooks()
	h.Run = runner(func(run.Cmd) (string, error) { return "ada0\n", nil })
	_, err := h.Init(t.Context())
	m.fails(err, []string{`printed "ada0\n", not the name of an md`})
	m.clean()
}

type runner func(run.Cmd) (string, error)

func (r runner) Run(_ context.Context, c run.Cmd) (string, error) { return r(c) }

// A tree that an earlier start populated is from another base than the fstab names now.
func TestPopulatedFromAnotherBase(t *testing.T) {
	m := newMachine(t, "freebsd", config.BackingMD)
	m.init()
	m.target.BaseID = "proto/etc@2"
	if s := m.init(); !s.AlreadyPopulated ||
		!contains(s.Warnings, "is populated from proto/etc@1, and fstab names proto/etc@2 now") {
		t.Errorf("%+v", s)
	}
	m.target.BaseID, m.target.Base = "", "/moved"
	if s := m.init(); !contains(s.Warnings, "and fstab names /moved now") {
		t.Errorf("%+v", s)
	}
}

// The configured backing does not matter for an existing tree.
func TestBackingChanged(t *testing.T) {
	for _, other := range []config.Backing{config.BackingDir, config.BackingTmpfs} {
		m := newMachine(t, "freebsd", config.BackingMD)
		m.init()
		m.target.Memory = other
		m.edit("rc.conf", "edited\n")
		m.cleanup()
		m.clean()
	}
	m := newMachine(t, "freebsd", config.BackingDir)
	m.init()
	m.target.Memory = config.BackingMD
	m.edit("rc.conf", "edited\n")
	m.cleanup()
	m.clean()
	if m.read("cfg/rc.conf") != "edited\n" {
		t.Errorf("cfg/rc.conf: %q", m.read("cfg/rc.conf"))
	}
}

// A start waits for another hook, within a limit. A daemon that does not answer is a warning.
func TestInitWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, "freebsd", config.BackingMD)
		unlock, err := m.hooks().lock(t.Context())
		m.must(err)
		m.initFails("another cfgd is at work on the start or stop of vhost1: process ")
		unlock()
		m.daemon = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
		if s := m.init(); !contains(s.Warnings, "the daemon was not told: context deadline exceeded") {
			t.Errorf("%+v", s)
		}
		m.populated(nil)
	})
}

func TestInitErrors(t *testing.T) {
	m := newMachine(t, "freebsd", config.BackingMD)
	h := m.hooks()
	h.Mounted = func(string) ([]mount.Mount, error) { return nil, unix.EIO }
	_, err := h.Init(t.Context())
	m.fails(err, []string{"mounts on", "input/output error"})

	m.target.Root, m.target.Live = m.path("none"), m.path("none/etc")
	m.initFails("is the jail's root mounted?")
	if s := m.cleanup(); !s.AlreadyClean {
		t.Errorf("%+v", s)
	}

	m = newMachine(t, "freebsd", config.BackingMD)
	m.failing("newfs", "no space left on device")
	m.initFails("/dev/md3: no space left on device")
	m.clean()

	m.write("plain", "")
	h = m.hooks()
	h.Overlay.RunDir = m.path("plain")
	_, err = h.Init(t.Context())
	m.fails(err, []string{"not a directory"})
}

// If the record of a hidden tree cannot be kept, the start replaces no other record, because that is all
// that identifies the tree. When there is space again, nothing is lost.
func TestHiddenRecordThatCanNotBeKept(t *testing.T) {
	eachSystem(t, func(m *machine) {
		m.init()
		m.editAll()
		m.cover()
		if m.target.Memory == config.BackingMD {
			m.failing("umount /dev/md3", "device busy")
		}
		m.write("run/hidden", "no directory, as if there were no room")
		was := m.record()
		for _, hook := range []func() error{m.tryInit, m.tryCleanup} {
			if err := hook(); err == nil || !strings.Contains(err.Error(), "its record can't be kept") {
				m.Errorf("%v", err)
			}
			if now := m.record(); !reflect.DeepEqual(now, was) {
				m.Errorf("record %+v, was %+v", now, was)
			}
		}
		m.must(os.Remove(m.path("run/hidden")))
		m.before = nil
		m.init()
		if m.target.Memory == config.BackingMD && m.read("cfg/rc.conf") != "edited\n" {
			m.Errorf("cfg/rc.conf %q", m.read("cfg/rc.conf"))
		}
		kept, _ := filepath.Glob(m.path("run/hidden/*"))
		if m.target.Memory == config.BackingTmpfs && len(kept) != 1 {
			m.Errorf("kept %q", kept)
		}
	})
}
