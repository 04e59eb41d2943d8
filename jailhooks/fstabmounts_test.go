package jailhooks

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/config/fstab"
	"cfgd/internal/mount"
	"cfgd/internal/run"
)

// jls is what jls(8) does.
func (m *machine) jls(c run.Cmd) (string, error) {
	if m.jails != nil {
		return "1\n", m.jails(c)
	}
	return "", &run.Error{Cmd: c, Stderr: `jls: jail "vhost1" not found`, Err: errors.New("exit status 1")}
}

// fstabbed gives the jail two fstabs: root and base, then var and a line that is not of the jail's tree.
func (m *machine) fstabbed() {
	m.target.Fstab = m.path("fstab.vhost1")
	var err error
	m.target.Mounts, err = config.FstabMounts("", "vhost1", m.target.Fstab, m.path("fstab.more"))
	m.must(err)
	m.write("fstab.vhost1", fmt.Sprintf(`# the jail's
%[1]s/proto %[1]s/jail/vhost1 nullfs ro 0 0
%[1]s/base %[1]s/jail/vhost1/conf/base/etc/ nullfs ro 0 0
`, m.dir))
	m.write("fstab.more", fmt.Sprintf(`tank/vhost1/var %[1]s/jail/vhost1/var zfs rw 0 0
/elsewhere /not/below nullfs rw 0 0
`, m.dir))
}

// entries are those of both fstabs.
func (m *machine) entries() (all []fstab.Entry) {
	for _, name := range []string{m.target.Fstab, m.path("fstab.more")} {
		data, err := os.ReadFile(name)
		m.must(err)
		entries, bad := fstab.ParseJail(name, data)
		if len(bad) > 0 {
			m.Fatal(bad[0])
		}
		all = append(all, entries...)
	}
	return all
}

// lay puts a mount of the fstab into the table.
func (m *machine) lay(source, dir, kind string) {
	on := mount.Mount{Source: source, Dir: dir, Type: kind}
	m.mounts = append(m.mounts, &mounted{Mount: on, fstab: true})
}

// mountFstab is what jail(8) does before exec.prestart. nullfs(5) refuses a directory that is mounted
// there already.
func (m *machine) mountFstab() error {
	for _, e := range m.entries() {
		dir := strings.TrimSuffix(e.Dir, "/")
		on, _ := m.Mounted(dir)
		if len(on) > 0 && e.Type == "nullfs" && on[len(on)-1].Source == e.Source {
			return fmt.Errorf("mount_nullfs: %s: %w", dir, unix.EDEADLK)
		}
		m.lay(e.Source, dir, e.Type)
	}
	return nil
}

// unmountFstab is what jail(8) does after exec.poststop, or when a start failed: backwards, and on where
// one is busy.
func (m *machine) unmountFstab() (failed []string) {
	for _, e := range slices.Backward(m.entries()) {
		if err := m.unmount(strings.TrimSuffix(e.Dir, "/")); err != nil {
			failed = append(failed, strings.TrimPrefix(e.Dir, m.dir))
		}
	}
	return failed
}

// stuck is a jail whose start failed after its init: its root stays below the memory of its /etc.
func (m *machine) stuck(kind string) {
	m.Helper()
	m.fstabbed()
	m.must(m.mountFstab())
	m.init()
	m.edit("rc.conf", "edited\n")
	m.unmountCfg(kind)
	if failed := m.unmountFstab(); !slices.Equal(failed, []string{"/jail/vhost1"}) {
		m.Fatalf("not unmounted: %q", failed)
	}
	if err := m.mountFstab(); !errors.Is(err, unix.EDEADLK) {
		m.Fatalf("a start over what is left: %v", err)
	}
	m.log = nil
}

// onFstab lists what is mounted of the fstab.
func (m *machine) onFstab() (dirs []string) {
	for _, on := range m.mounts {
		if on.fstab {
			dirs = append(dirs, strings.TrimPrefix(on.Dir, m.dir))
		}
	}
	return dirs
}

// wholeFstab is what is mounted while the jail runs, and in exec.poststop.
var wholeFstab = []string{"/jail/vhost1", "/jail/vhost1/conf/base/etc", "/jail/vhost1/var", "/not/below"}

// One cleanup, as exec.prepare runs it, and the jail can be started again, with all that was edited.
func TestFailedStart(t *testing.T) {
	eachCfg(t, func(m *machine, kind string) {
		m.stuck(kind)
		s := m.cleanup()
		if want := []string{m.path("jail/vhost1")}; !slices.Equal(s.Unmounted, want) || s.AlreadyClean {
			m.Errorf("%+v, want %q unmounted", s, want)
		}
		for _, w := range s.Warnings {
			if strings.Contains(w, "root") {
				m.Errorf("warned of a root that is gone: %s", w)
			}
		}
		m.clean()
		if s := m.cleanup(); !s.AlreadyClean || len(s.Unmounted)+len(s.Warnings) > 0 {
			m.Errorf("a second cleanup: %+v", s)
		}
		m.mountCfg()
		m.must(m.mountFstab())
		m.init()
		m.populated(map[string]string{"rc.conf": "edited\n"})
		m.cleanup()
		if got := m.onFstab(); !slices.Equal(got, wholeFstab) {
			m.Errorf("a regular stop's cleanup leaves %q of the fstab", got)
		}
		if failed := m.unmountFstab(); len(failed) > 0 {
			m.Errorf("jail(8) could not unmount %q", failed)
		}
		m.clean()
	})
}

// What a cleanup of an earlier version, or by hand, left: any mounts of the fstab and nothing else.
func TestOnlyMountsLeft(t *testing.T) {
	eachSystem(t, func(m *machine) {
		m.fstabbed()
		m.must(m.mountFstab())
		m.must(m.unmount(m.path("jail/vhost1/conf/base/etc")))
		s := m.cleanup()
		want := []string{m.path("jail/vhost1/var"), m.path("jail/vhost1")}
		if !slices.Equal(s.Unmounted, want) {
			m.Errorf("unmounted %q, want %q", s.Unmounted, want)
		}
		if got := m.onFstab(); !slices.Equal(got, []string{"/not/below"}) {
			m.Errorf("left: %q", got)
		}
	})
}

// A mount that may not have been left by jail(8) stays as it is.
func TestMountsThatStay(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(m *machine)
		wrong   string // the cleanup's error
	}{
		"the jail runs": {func(m *machine) { m.jails = func(run.Cmd) error { return nil } }, ""},
		"jls(8) fails": {func(m *machine) {
			m.jails = func(c run.Cmd) error {
				return &run.Error{Cmd: c, Stderr: "jls: no memory", Err: errors.New("exit status 1")}
			}
		}, "whether the jail runs is not known"},
		"another source": {func(m *machine) { m.mounts[0].Source = "/another" }, ""},
		"another type":   {func(m *machine) { m.mounts[0].Type = "unionfs" }, ""},
		"another mount lies over it": {func(m *machine) {
			m.lay("x", m.mounts[0].Dir, "tmpfs")
		}, ""},
		"base is still mounted": {func(m *machine) {
			m.lay(m.path("base"), m.path("jail/vhost1/conf/base/etc"), "nullfs")
		}, ""},
		"the fstab is gone":  {func(m *machine) { m.must(os.Remove(m.target.Fstab)) }, ""},
		"the fstab is wrong": {func(m *machine) { m.write("fstab.vhost1", "one\n") }, ""},
		"the root is busy": {func(m *machine) { m.failing("umount "+m.path("jail/vhost1"), "device busy") },
			"/jail/vhost1 is still mounted, so the jail cannot be started"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, "freebsd", config.BackingTmpfs)
			m.stuck("nullfs")
			m.must(m.unmount(m.target.Live))
			m.must(m.hooks().forget())
			c.prepare(m)
			before := m.onFstab()
			s, err := m.hooks().Cleanup(m.Context())
			if said := fmt.Sprint(err); c.wrong == "" && err != nil || !strings.Contains(said, c.wrong) {
				m.Errorf("error %v, want %q", err, c.wrong)
			}
			if got := m.onFstab(); !slices.Equal(got, before) || len(s.Unmounted) > 0 {
				m.Errorf("left: %q, and unmounted %q", got, s.Unmounted)
			}
		})
	}
}

// A root that is in use is named, with who uses it and what to do, and is unmounted at the next try.
func TestBusyRoot(t *testing.T) {
	m := newMachine(t, "freebsd", config.BackingTmpfs)
	m.stuck("nullfs")
	root := m.path("jail/vhost1")
	m.before = func(c run.Cmd) error {
		if c.String() == "umount "+root {
			return unix.EBUSY
		}
		return nil
	}
	m.cleanupFails(root+" is still mounted",
		"fstat -f "+root+" shows who uses it: sleep (661), an odd name (9)",
		"end what uses it, then run umount "+root)
	if m.record() != nil {
		m.Error("its /etc was not taken away")
	}
	m.before = nil
	m.cleanup()
	m.clean()
}

// Before jail(8) mounts anything, a cleanup does not touch what is in the root: the next init checks it.
func TestNothingMountedYet(t *testing.T) {
	for _, backing := range []config.Backing{config.BackingTmpfs, config.BackingDir} {
		m := newMachine(t, "freebsd", backing)
		m.fstabbed()
		m.target.CfgMount = true
		m.edit("of the root's", "own\n")
		s := m.cleanup()
		if !s.AlreadyClean || len(s.Warnings)+len(m.mounts) > 0 || m.live()["of the root's"] != "own\n" {
			m.Errorf("%s: %+v\n%s", backing, s, m.said())
		}
	}
}

// The daemon does the same only if the mounted root prevents every start; otherwise a start may be in
// progress.
func TestClearStopped(t *testing.T) {
	t.Run("a failed start", func(t *testing.T) {
		m := newMachine(t, "freebsd", config.BackingTmpfs)
		m.stuck("nullfs")
		s, err := m.hooks().ClearStopped(m.Context())
		m.must(err)
		if s.AlreadyClean || len(s.Unmounted) != 1 {
			m.Errorf("%+v", s)
		}
		m.clean()
	})
	for name, prepare := range map[string]func(m *machine){
		"a jail that is well":        func(m *machine) { m.must(m.mountFstab()); m.init() },
		"a root that is not mounted": func(m *machine) { m.init() },
		"a jail that runs": func(m *machine) {
			m.stuck("nullfs")
			m.jails = func(run.Cmd) error { return nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, "freebsd", config.BackingTmpfs)
			m.fstabbed()
			prepare(m)
			mounts := len(m.mounts)
			s, err := m.hooks().ClearStopped(m.Context())
			m.must(err)
			if !s.AlreadyClean || len(m.mounts) != mounts || m.record() == nil {
				m.Errorf("%+v\n%s", s, m.said())
			}
		})
	}
}
