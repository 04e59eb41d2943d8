package root

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// away makes a machine whose directories are absolute links. With --root each link leads to a place below the
// root; if it were followed as it is, it would lead to a place of the real machine.
func away(t *testing.T) *machine {
	m := crowded(t)
	for name, to := range map[string]string{"etc": "/etc", "usr/local/etc": "/conf", "jail": "/usr/jail",
		"var": "/usr/var"} {
		moved := filepath.Join("real", to)
		m.must(os.MkdirAll(filepath.Dir(m.path(moved)), 0o755))
		if _, err := os.Lstat(m.path(name)); err == nil {
			m.must(os.Rename(m.path(name), m.path(moved)))
		} else {
			m.must(os.MkdirAll(m.path(moved), 0o755))
		}
		m.must(os.Symlink("/real"+to, m.path(name)))
	}
	m.must(os.Rename(m.path("real/etc/fstab.vhost2"), m.path("real/tab")))
	m.must(os.Symlink("/real/tab", m.path("real/etc/fstab.vhost2")))
	m.must(os.Mkdir(m.path("tmp"), 0o1777))
	return m
}

// own are places outside that the Go runtime and the C library open.
var own = []string{
	"/proc/", "/dev/", "/sys/kernel/mm/", "/sys/fs/cgroup/", "/usr/share/zoneinfo/", "/etc/localtime",
	"/etc/ld.so.cache", "/lib/", "/usr/lib/",
}

var (
	opened  = regexp.MustCompile(`(?m)^\d* *(?:open|openat|openat2|creat)\(.* = \d+<([^>]*)>`)
	changed = regexp.MustCompile(`(?m)^\d* *(?:unlink|rename|mkdir|rmdir|symlink|link|` +
		`chmod|chown|lchown|mknod|truncate)[a-z0-9]*\((.*)\) += 0`)
	quoted = regexp.MustCompile(`"(/[^"]*)"`)
)

// With --root no command opens or changes anything outside of the directory, whatever links are in it.
func TestNothingOutsideOfRoot(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("no strace here")
	}
	t.Parallel()
	m := away(t)
	before := m.read("real/etc/rc.conf")
	for _, c := range []struct {
		status int
		line   string
	}{
		{1, "check"}, {0, "status"}, {1, "report"}, {0, "diff vhost1"}, {0, "setup --yes"}, {0,
			"jail create --ip 10.0.0.1 web"}, {0, "jail init web"},
		{0, "proto snapshot"}, {0, "proto list"}, {0, "jail switch --plan ALL 2"}, {0,
			"jail switch --restart ALL 2"}, {0, "jail switch vhost2 1"},
		{0, "jail clone --ip 10.0.0.2 vhost1 try 2"}, {0, "relocate proto /usr/local/etc"}, {0,
			"relocate proto"}, {0, "relocate --undo proto /usr/local/etc"},
		{0, "save"}, {0, "log vhost1"}, {0, "rescue list"}, {0, "jail cleanup web"}, {0,
			"jail destroy --yes web"}, {0, "jail destroy --yes try"},
		{0, "proto prune --keep 1"}, {0, "setup --remove"},
	} {
		m.audited(c.status, c.line)
	}
	if got := m.read("real/etc/rc.conf"); got != before {
		t.Errorf("rc.conf:\n%s", got)
	}
}

// audited runs a command line under strace(1).
func (m *machine) audited(status int, line string) {
	m.Helper()
	log := filepath.Join(m.TempDir(), "strace")
	args := append([]string{"-f", "-y", "-s", "4096", "-e", "trace=%file", "-o", log, program, "--root",
		m.dir}, strings.Fields(line)...)
	cmd := exec.Command("strace", args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+m.path("tmp"))
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != status {
		if strings.Contains(string(out), "ptrace") {
			m.Skipf("strace is not permitted here: %s", out)
		}
		m.Errorf("cfgd %s: ended with %d (%v):\n%s", line, code, err, out)
	}
	b, err := os.ReadFile(log)
	m.must(err)
	inside := func(p string) bool {
		return p == m.dir || strings.HasPrefix(p, m.dir+"/") || p == program ||
			slices.ContainsFunc(own, func(o string) bool { return strings.HasPrefix(p, o) })
	}
	calls := 0
	for _, call := range opened.FindAllStringSubmatch(string(b), -1) {
		calls++
		if !inside(call[1]) {
			m.Errorf("cfgd %s opened %s: %s", line, call[1], call[0])
		}
	}
	for _, call := range changed.FindAllStringSubmatch(string(b), -1) {
		for _, p := range quoted.FindAllStringSubmatch(call[1], -1) {
			if !inside(p[1]) && !strings.Contains(call[0], "symlink") {
				m.Errorf("cfgd %s changed %s: %s", line, p[1], call[0])
			}
		}
	}
	if calls == 0 {
		m.Errorf("cfgd %s: strace saw nothing", line)
	}
}
