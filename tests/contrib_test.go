// Package tests has the tests that span several packages: the scripts of the command line, tests that need
// root, benchmarks, and in this directory tests of contrib, of the documents and of the layout of the source.
package tests

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rcLines returns the words after a keyword of rcorder(8) in a script.
func rcLines(script, keyword string) []string {
	var words []string
	for line := range strings.Lines(script) {
		if rest, ok := strings.CutPrefix(line, "# "+keyword+": "); ok {
			words = append(words, strings.Fields(rest)...)
		}
	}
	return words
}

// stock has the scripts of FreeBSD's /etc/rc.d whose order matters here.
var stock = map[string]string{
	"root":        "# PROVIDE: root\n",
	"FILESYSTEMS": "# PROVIDE: FILESYSTEMS\n# REQUIRE: root\n",
	"hostname":    "# PROVIDE: hostname\n# REQUIRE: FILESYSTEMS\n# BEFORE: netif\n",
	"netif":       "# PROVIDE: netif\n# REQUIRE: FILESYSTEMS\n",
	"NETWORKING":  "# PROVIDE: NETWORKING NETWORK\n# REQUIRE: netif\n",
	"SERVERS":     "# PROVIDE: SERVERS\n# REQUIRE: NETWORKING\n",
	"DAEMON":      "# PROVIDE: DAEMON\n# REQUIRE: NETWORKING SERVERS\n",
	"LOGIN":       "# PROVIDE: LOGIN\n# REQUIRE: DAEMON\n",
	"jail":        "# PROVIDE: jail\n# REQUIRE: LOGIN FILESYSTEMS\n# BEFORE: securelevel\n",
	"securelevel": "# PROVIDE: securelevel\n",
}

// rcBefore returns, as rcorder(8) does, the pairs of scripts in which the first has to run before the second.
func rcBefore(scripts map[string]string) map[[2]string]bool {
	provider := map[string]string{}
	for name, text := range scripts {
		for _, p := range rcLines(text, "PROVIDE") {
			provider[p] = name
		}
	}
	before := map[[2]string]bool{}
	for name, text := range scripts {
		for _, r := range rcLines(text, "REQUIRE") {
			before[[2]string{provider[r], name}] = true
		}
		for _, b := range rcLines(text, "BEFORE") {
			before[[2]string{name, provider[b]}] = true
		}
	}
	for b := range scripts { // Warshall's closure
		for a := range scripts {
			for c := range scripts {
				if before[[2]string{a, b}] && before[[2]string{b, c}] {
					before[[2]string{a, c}] = true
				}
			}
		}
	}
	return before
}

func TestRCOrder(t *testing.T) {
	t.Parallel()
	scripts := maps.Clone(stock)
	for _, name := range []string{"cfgd", "cfgd_early"} {
		b, err := os.ReadFile("../contrib/rc.d/" + name)
		if err != nil {
			t.Fatal(err)
		}
		scripts[name] = string(b)
		if got := rcLines(string(b), "PROVIDE"); !slices.Equal(got, []string{name}) {
			t.Errorf("%s provides %q", name, got)
		}
		if !slices.Contains(rcLines(string(b), "KEYWORD"), "nojail") {
			t.Errorf("%s runs in jails", name)
		}
		// load_rc_config reads rc.conf; the script is read after it
		_, after, _ := strings.Cut(string(b), "\nload_rc_config")
		if own, _, _ := strings.Cut(after, "\nrun_rc_command"); !strings.Contains(own,
			"\n"+name+"_svcj=\"NO\"\n") {
			t.Errorf("%s runs in a service jail where svcj_all_enable is set", name)
		}
	}
	before := rcBefore(scripts)
	for name := range scripts {
		if before[[2]string{name, name}] {
			t.Errorf("%s is in a circle", name)
		}
	}
	for _, pair := range [][2]string{{"FILESYSTEMS", "cfgd_early"}, {"cfgd_early", "hostname"},
		{"cfgd_early", "NETWORKING"}, {"cfgd_early", "cfgd"}, {"cfgd", "jail"},
		{"FILESYSTEMS", "cfgd"}, {"cfgd", "securelevel"}} {
		if !before[pair] {
			t.Errorf("%s is not before %s", pair[0], pair[1])
		}
	}
}

// At boot, no fault of cfgd stops the machine.
func TestRCEarly(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no sh here")
	}
	b, err := os.ReadFile("../contrib/rc.d/cfgd_early")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ program, want string }{
		"as it should be": {"#!/bin/sh\necho \"$@\"\n", "--log-level warn host early\n"},
		"it fails": {"#!/bin/sh\nexit 2\n",
			"warn host early ended with 2: /etc is as rc.initdiskless made it\n"},
		"it is not there": {"", "warn /cfgd is not there\n"},
	} {
		dir := t.TempDir()
		text := strings.NewReplacer("/etc/rc.subr", filepath.Join(dir, "rc.subr"), "/usr/local/sbin",
			dir).Replace(string(b))
		files := map[string]string{"rc.subr": strings.Replace(stubs, "start) ",
			"start) $start_cmd; exit $?\n", 1), "script": text}
		if c.program != "" {
			files["cfgd"] = c.program
		}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command("sh", filepath.Join(dir, "script"), "start").CombinedOutput()
		if got := strings.ReplaceAll(string(out), dir, ""); err != nil || got != c.want {
			t.Errorf("%s: %v, %q", name, err, got)
		}
	}
}

// stubs replaces rc.subr by functions that print what they are called for.
const stubs = `load_rc_config() { cfgd_flags="--log-level warn"; }
warn() { echo "warn $*"; }
run_rc_command() {
	case $1 in
	show) echo "$rcvar $cfgd_enable $command $command_args $pidfile [$cfgd_flags]" ;;
	start) $start_precmd && echo "started" ;;
	reload) $reload_cmd ;;
	flush) echo "$flush_cmd" ;;
	esac
}
`

func TestRCScript(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no sh here")
	}
	b, err := os.ReadFile("../contrib/rc.d/cfgd")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := strings.NewReplacer("/etc/rc.subr", filepath.Join(dir, "rc.subr"), "/var/run/cfgd",
		filepath.Join(dir, "run")).Replace(string(b))
	for name, content := range map[string]string{"rc.subr": stubs, "cfgd": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	say := func(word string) string {
		// the exit status of report decides
		out, _ := exec.Command("sh", filepath.Join(dir, "cfgd"), word).CombinedOutput()
		return strings.ReplaceAll(strings.TrimSpace(string(out)), dir, "")
	}
	for word, want := range map[string]string{
		"show": "cfgd_enable NO /usr/sbin/daemon -f -r -S -T cfgd -P /run/supervisor.pid -p " +
			"/run/cfgd.pid /usr/local/sbin/cfgd --log-level warn daemon /run/supervisor.pid []",
		"start": "started", "flush": "/usr/local/sbin/cfgd save",
	} {
		if got := say(word); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
	if got := say("reload"); !strings.HasSuffix(got, "warn cfgd does not run") {
		t.Errorf("reload without a daemon: %q", got)
	}
	// The signal goes to this process, which asks for it even where it was started with SIGHUP ignored, as by
	// nohup(1).
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	pid := []byte(strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(filepath.Join(dir, "run/cfgd.pid"), pid, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := say("reload"); got != "" {
		t.Errorf("reload: %q", got)
	}
	select {
	case <-hup:
	case <-time.After(time.Minute):
		t.Error("the daemon was not told")
	}
}

// The exit status for periodic(8): nothing, notable, wrong settings, or problems.
func TestPeriodic(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no sh here")
	}
	for name, c := range map[string]struct {
		settings, program string
		status            int
		want              string
	}{
		"not asked for": {"", "echo no", 0, ""},
		"turned off":    {"daily_status_cfgd_enable=no", "echo no", 0, ""},
		"silence":       {"daily_status_cfgd_enable=YES", "exit 0", 0, ""},
		"findings": {"daily_status_cfgd_enable=yes daily_status_cfgd_flags='--always x'",
			"echo \"$*\"; exit 1", 1, "\nUnsaved changes of /etc in memory:\nreport --always x\n"},
		"bad flags": {"daily_status_cfgd_enable=YES", "echo usage >&2; exit 64", 2,
			"\nUnsaved changes of /etc in memory:\nusage\n"},
		"bad config": {"daily_status_cfgd_enable=YES", "exit 78", 2, ""},
		"it fails": {"daily_status_cfgd_enable=YES", "echo no >&2; exit 2", 3,
			"\nUnsaved changes of /etc in memory:\nno\n"},
		"some targets do": {"daily_status_cfgd_enable=YES", "exit 3", 3, ""},
		"no program there": {"daily_status_cfgd_enable=YES daily_status_cfgd_program=/none", "", 2,
			"$daily_status_cfgd_enable is set but /none is not there\n"},
	} {
		dir := t.TempDir()
		program := filepath.Join(dir, "cfgd")
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+c.program+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c",
			"daily_status_cfgd_program="+program+"\n"+c.settings+"\nexport daily_status_cfgd_program "+
				"daily_status_cfgd_enable daily_status_cfgd_flags; exec sh ../contrib/periodic/480.cfgd")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		status := 0
		if errors.As(err, &exit) {
			status = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if status != c.status || string(out) != c.want {
			t.Errorf("%s: %d, %q", name, status, out)
		}
	}
}

// Every script is for sh(1), and shellcheck accepts it.
func TestScriptsArePlain(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("../contrib/*/*")
	if err != nil {
		t.Fatal(err)
	}
	freebsd, err := filepath.Glob("freebsd/*")
	if err != nil || len(freebsd) < 10 {
		t.Fatal(freebsd, err)
	}
	scripts = append(append(scripts, freebsd...), "zfs/run", "zfs/init")
	for _, s := range scripts {
		b, err := os.ReadFile(s)
		if err != nil || !strings.HasPrefix(string(b), "#!/bin/sh") && filepath.Ext(s) != ".sh" {
			continue
		}
		known := "SC1091,SC2034,SC2154" // variables that another file sets or reads
		if filepath.Dir(s) == "freebsd" {
			known += ",SC2086" // names of disks and jails, which have no blanks
		}
		if out, err := exec.Command("sh", "-n", s).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", s, err, out)
		}
		if _, err := exec.LookPath("shellcheck"); err != nil {
			continue
		}
		if out, err := exec.Command("shellcheck", "-s", "sh", "-e", known, s).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", s, out)
		}
	}
}

// The driver of tests/freebsd and its README list every scenario.
func TestScenarios(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("freebsd/run")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(b), "\nscenarios=\"")
	list, _, _ = strings.Cut(list, "\"")
	files, err := filepath.Glob("freebsd/*.sh")
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	readme, err := os.ReadFile("freebsd/README.md")
	for _, f := range files {
		text, rerr := os.ReadFile(f)
		err = errors.Join(err, rerr)
		name := strings.TrimSuffix(filepath.Base(f), ".sh")
		if name == "guest" || !strings.HasPrefix(string(text), "#!/bin/sh") {
			continue
		}
		there = append(there, name)
		if !strings.Contains(string(text), "\nbegin \"") || !strings.HasSuffix(string(text), "\nfinish\n") {
			t.Errorf("%s does not begin or does not finish", f)
		}
		if !strings.Contains(string(readme), "| `"+name+"` |") {
			t.Errorf("README.md says nothing of %s", name)
		}
	}
	known := strings.Fields(list)
	slices.Sort(known)
	if err != nil || !slices.Equal(known, there) {
		t.Errorf("run knows %q, there are %q: %v", known, there, err)
	}
}
