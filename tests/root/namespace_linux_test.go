package root

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

	"golang.org/x/sys/unix"

	"cfgd/internal/mount"
	"cfgd/watcher/control"
)

const namespaceEnv = "CFGD_TEST_NAMESPACE"

// namespaced runs the test again in a mount namespace of its own, in parallel with other tests. It reports
// whether this run is that one.
func namespaced(t *testing.T) bool {
	if os.Getenv(namespaceEnv) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout=5m",
		fmt.Sprintf("-test.short=%v", testing.Short()))
	// which that run cannot remove from within
	cmd.Env = append(os.Environ(), namespaceEnv+"=1", programEnv+"="+program, "TMPDIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, unix.EPERM):
		t.Skip("no mount namespace to be had here")
	case err != nil:
		t.Errorf("%v:\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("%s", out)
	default:
		t.Logf("%s", out)
	}
	return false
}

// system are the directories of the real machine that the program, mount(8) and sh(1) need. The tests make
// all others.
var system = []string{"usr", "bin", "sbin", "lib", "lib64", "proc", "sys", "dev"}

// enter makes a new filesystem in memory the root of this namespace. Afterwards no path leads to writable
// files of the real machine.
func enter(t *testing.T) *machine {
	m := &machine{t, ""}
	m.must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	root := t.TempDir()
	m.must(unix.Mount("tmpfs", root, "tmpfs", 0, "mode=755"))
	for _, d := range system {
		m.carry("/"+d, filepath.Join(root, d))
	}
	for _, d := range []string{"etc", "tmp", "run", "old", "outside", filepath.Dir(program)} {
		m.must(os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	m.must(copyFile(program, filepath.Join(root, program), 0o755))
	if _, err := os.Stat("/etc/ld.so.cache"); err == nil {
		m.must(copyFile("/etc/ld.so.cache", filepath.Join(root, "etc/ld.so.cache"), 0o644))
	}
	m.must(unix.PivotRoot(root, filepath.Join(root, "old")))
	m.must(os.Chdir("/"))
	m.must(unix.Unmount("/old", unix.MNT_DETACH))
	m.must(os.Remove("/old"))
	m.must(os.Setenv("TMPDIR", "/tmp"))
	m.write("/outside/precious", "untouched")
	m.Cleanup(func() { m.holds(map[string]string{"/outside/precious": "untouched"}) })
	return m
}

// carry makes a directory or link of the real machine visible in the new root.
func (m *machine) carry(from, to string) {
	st, err := os.Lstat(from)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return
	case err == nil && st.Mode()&os.ModeSymlink != 0:
		link, err := os.Readlink(from)
		m.must(err)
		m.must(os.Symlink(link, to))
		return
	}
	m.must(err)
	m.must(os.Mkdir(to, 0o755))
	m.must(unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""))
}

func copyFile(from, to string, mode os.FileMode) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, mode)
}

func (m *machine) tmpfs(dir, options string) {
	m.Helper()
	m.must(os.MkdirAll(dir, 0o755))
	m.must(unix.Mount("tmpfs", dir, "tmpfs", 0, options))
}

func (m *machine) remount(dir string, flags uintptr, options string) {
	m.Helper()
	m.must(unix.Mount("", dir, "", unix.MS_REMOUNT|flags, options))
}

func (m *machine) umount(dir string) {
	m.Helper()
	m.must(unix.Unmount(dir, 0))
}

// mounted lists the types of what is mounted on a directory.
func (m *machine) mounted(dir string) string {
	m.Helper()
	on, err := mount.On(dir)
	m.must(err)
	var types []string
	for _, x := range on {
		types = append(types, x.Type)
	}
	return strings.Join(types, " ")
}

// shell is a process that has a directory as its working directory.
func (m *machine) shell(dir string) (leave func()) {
	m.Helper()
	cmd := exec.Command("/bin/sh", "-c", "echo here; read -r line")
	cmd.Dir = dir
	in, err := cmd.StdinPipe()
	m.must(err)
	out, err := cmd.StdoutPipe()
	m.must(err)
	m.must(cmd.Start())
	_, err = out.Read(make([]byte, 5))
	m.must(err)
	return func() {
		in.Close()
		_ = cmd.Wait() // its read(1) found the end
	}
}

// holds checks the contents of files.
func (m *machine) holds(files map[string]string) {
	m.Helper()
	for p, want := range files {
		if got := m.read(p); got != want {
			m.Errorf("%s holds %.200q, want %.200q", p, got, want)
		}
	}
}

// says checks that a command printed all of the words.
func (m *machine) says(out string, words ...string) {
	m.Helper()
	for _, w := range words {
		if !strings.Contains(out, w) {
			m.Errorf("%q is not in what was printed:\n%s", w, out)
		}
	}
}

// kill runs a command line and kills it after so many milliseconds, unless it has ended.
func (m *machine) kill(line string, after int) {
	m.Helper()
	cmd := m.command(strings.Fields(line)...)
	m.must(cmd.Start())
	timer := time.AfterFunc(time.Duration(after)*time.Millisecond, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
}

// output returns what a stock tool prints.
func (m *machine) output(name string, args ...string) string {
	m.Helper()
	out, err := exec.Command(name, args...).Output()
	m.must(err)
	return string(out)
}

func (m *machine) watched(target string) control.Status {
	m.Helper()
	return m.until(target, "is watched", func(s control.Status) bool { return s.Watched && s.Problem == "" })
}
