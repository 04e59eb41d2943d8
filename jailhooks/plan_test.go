package jailhooks

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/internal/mount"
	"cfgd/internal/run"
)

// The exact commands.
func TestPlans(t *testing.T) {
	m := mount.Memdisk{Size: 16 << 20, Dir: "/jail/vhost1/etc"}
	for _, c := range []struct {
		goos    string
		backing config.Backing
		device  string
		want    string
	}{
		{"freebsd", config.BackingMD, "", `
mdconfig -a -t swap -s 16384k
newfs -i 2048 -f 1024 -b 8192 -O 2 -n /dev/mdN
tunefs -n disable /dev/mdN
mount -o noatime,async /dev/mdN /jail/vhost1/etc
umount /dev/mdN
mdconfig -d -u N`},
		{"freebsd", config.BackingMD, "md12", `
mdconfig -a -t swap -s 16384k
newfs -i 2048 -f 1024 -b 8192 -O 2 -n /dev/md12
tunefs -n disable /dev/md12
mount -o noatime,async /dev/md12 /jail/vhost1/etc
umount /dev/md12
mdconfig -d -u 12`},
		{"freebsd", config.BackingTmpfs, "", `
mount -t tmpfs -o size=16777216,mode=755 tmpfs /jail/vhost1/etc
umount /jail/vhost1/etc`},
		{"linux", config.BackingTmpfs, "", `
mount -c -t tmpfs -o size=16777216,mode=755,nodev,noatime cfgd /jail/vhost1/etc
umount /jail/vhost1/etc`},
	} {
		m.GOOS, m.Backing, m.Device = c.goos, string(c.backing), c.device
		var lines []string
		for _, cmd := range append(m.MakePlan(), m.UnmakePlan()...) {
			lines = append(lines, cmd.String())
		}
		if got := "\n" + strings.Join(lines, "\n"); got != c.want {
			t.Errorf("%s, %s:%s\nwant:%s", c.goos, c.backing, got, c.want)
		}
	}
}

// systems are the kinds of memory that there are.
var systems = []struct {
	goos    string
	backing config.Backing
}{{"freebsd", config.BackingMD}, {"freebsd", config.BackingTmpfs}, {"linux", config.BackingTmpfs}}

func eachSystem(t *testing.T, f func(m *machine)) {
	for _, s := range systems {
		t.Run(fmt.Sprintf("%s/%s", s.goos, s.backing), func(t *testing.T) {
			f(newMachine(t, s.goos, s.backing))
		})
	}
}

var byFd = regexp.MustCompile(`FD\d+`)

// The exact order of a start and a stop: the daemon attaches last and detaches first; the last save is
// before the unmount; the record is written before the memory is made and removed after it is gone.
func TestStartAndStop(t *testing.T) {
	want := map[string]string{
		"freebsd/md": `mdconfig -a -t swap -s 16384k (record populating)
newfs -i 2048 -f 1024 -b 8192 -O 2 -n /dev/md3 (record populating, md3)
tunefs -n disable /dev/md3 (record populating, md3)
mount -o noatime,async /dev/md3 /jail/vhost1/etc (record populating, md3)
attach vhost1
detach vhost1
umount /dev/md3 (record populated, md3; saved)
mdconfig -d -u 3 (record populated, md3; saved)`,
		"freebsd/tmpfs": `mount -t tmpfs -o size=16777216,mode=755 tmpfs /jail/vhost1/etc (record populating)
attach vhost1
detach vhost1
umount /jail/vhost1/etc (record populated; saved)`,
		"linux/tmpfs": `mount -c -t tmpfs -o size=16777216,mode=755,nodev,noatime cfgd FD (record populating)
attach vhost1
detach vhost1
umount /jail/vhost1/etc (record populated; saved)`,
	}
	eachSystem(t, func(m *machine) {
		m.byDescriptor()
		m.before = func(run.Cmd) error {
			state := "record gone"
			if r := m.record(); r != nil {
				state = strings.TrimSuffix("record "+r.State+", "+r.Device, ", ")
			}
			if m.read("cfg/rc.conf") == "edited\n" {
				state += "; saved"
			}
			m.log[len(m.log)-1] += " (" + state + ")"
			return nil
		}
		s := m.init()
		if s.Population == nil || s.Population.Entries == 0 || len(s.Warnings) > 0 {
			t.Errorf("%+v", s)
		}
		m.populated(nil)
		m.edit("rc.conf", "edited\n")
		done := m.cleanup()
		if done.Result == nil || done.Result.Generation != 1 || done.Rescue != "" || done.AlreadyClean ||
			len(done.Warnings) > 0 {
			t.Errorf("%+v", done)
		}
		m.clean()
		_, name, _ := strings.Cut(m.Name(), "/")
		if got := byFd.ReplaceAllString(m.said(), "FD"); got != want[name] {
			m.Errorf("%s\nwant\n%s", got, want[name])
		}
	})
}

// Both hooks may be repeated: the second one runs no command and touches nothing.
func TestRepeated(t *testing.T) {
	eachSystem(t, func(m *machine) {
		m.init()
		m.edit("rc.conf", "edited\n")
		m.log = nil
		if s := m.init(); !s.AlreadyPopulated || s.Population != nil || len(s.Warnings) > 0 {
			m.Errorf("%+v", s)
		}
		m.populated(map[string]string{"rc.conf": "edited\n"})
		if m.said() != "attach vhost1" {
			m.Errorf("a second init: %s", m.said())
		}
		m.cleanup()
		m.log = nil
		if s := m.cleanup(); !s.AlreadyClean || len(s.Warnings) > 0 {
			m.Errorf("%+v", s)
		}
		m.clean()
		if m.said() != "detach vhost1" {
			m.Errorf("a second cleanup: %s", m.said())
		}
		m.init()
		m.populated(map[string]string{"rc.conf": "edited\n"})
	})
}

// Two starts at once: one populates, the other finds the tree populated.
func TestTwoAtOnce(t *testing.T) {
	eachSystem(t, func(m *machine) {
		done := make(chan *Started)
		for range 2 {
			go func() {
				s, err := m.hooks().Init(m.Context())
				if err != nil {
					m.Error(err)
				}
				done <- s
			}()
		}
		a, b := <-done, <-done
		if m.Failed() || a.AlreadyPopulated == b.AlreadyPopulated {
			m.Fatalf("%+v\n%+v", a, b)
		}
		m.populated(nil)
		if len(m.mounts) != 1 {
			m.Errorf("%d mounts", len(m.mounts))
		}
	})
}

// With a directory as backing, it is emptied instead of unmounted, and made where a start would mount it.
func TestDirectory(t *testing.T) {
	m := newMachine(t, "linux", config.BackingDir)
	m.must(removeAll(m.path("jail"), m.path("cfg")))
	h := m.hooks()
	h.Embedded = true
	s, err := h.Init(t.Context())
	m.must(err)
	if s.Population == nil {
		t.Errorf("%+v", s)
	}
	m.populated(nil)
	m.edit("rc.conf", "edited\n")
	m.cleanup()
	m.clean()
	if m.said() != "attach vhost1\ndetach vhost1" {
		t.Errorf("commands ran:\n%s", m.said())
	}
	m.init()
	m.populated(map[string]string{"rc.conf": "edited\n"})
}

func removeAll(paths ...string) error {
	for _, p := range paths {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}

func contains(list []string, part string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, part) })
}
