// Package tests holds what is tested across the tree: scripts for the command line, root tests, benchmarks, and here the files of contrib.
package tests

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rcLines are the words behind a keyword of rcorder(8) in a script.
func rcLines(script, keyword string) []string {
	var words []string
	for line := range strings.Lines(script) {
		if rest, ok := strings.CutPrefix(line, "# "+keyword+": "); ok {
			words = append(words, strings.Fields(rest)...)
		}
	}
	return words
}

func TestRCOrder(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../contrib/rc.d/cfgd")
	if err != nil {
		t.Fatal(err)
	}
	for keyword, want := range map[string][]string{"PROVIDE": {"cfgd"}, "REQUIRE": {"FILESYSTEMS"}, "BEFORE": {"jail", "securelevel"}, "KEYWORD": {"nojail", "shutdown"}} {
		if got := rcLines(string(b), keyword); !slices.Equal(got, want) {
			t.Errorf("%s: %q", keyword, got)
		}
	}
}

// stubs stand for rc.subr: they say what the script would have it do.
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
	text := strings.NewReplacer("/etc/rc.subr", filepath.Join(dir, "rc.subr"), "/var/run/cfgd", filepath.Join(dir, "run")).Replace(string(b))
	for name, content := range map[string]string{"rc.subr": stubs, "cfgd": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	say := func(word string) string {
		out, _ := exec.Command("sh", filepath.Join(dir, "cfgd"), word).CombinedOutput() // what it says decides
		return strings.ReplaceAll(strings.TrimSpace(string(out)), dir, "")
	}
	for word, want := range map[string]string{
		"show":  "cfgd_enable NO /usr/sbin/daemon -r -S -T cfgd -P /run/supervisor.pid -p /run/cfgd.pid /usr/local/sbin/cfgd --log-level warn daemon /run/supervisor.pid []",
		"start": "started", "flush": "/usr/local/sbin/cfgd save",
	} {
		if got := say(word); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
	if got := say("reload"); !strings.HasSuffix(got, "warn cfgd does not run") {
		t.Errorf("reload without a daemon: %q", got)
	}
	// Told to a process that waits for it: this one's own child.
	child := exec.Command("sh", "-c", "trap 'exit 7' HUP; echo ready; while :; do sleep 1 & wait; done")
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "run/cfgd.pid"), []byte(strconv.Itoa(child.Process.Pid)), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := say("reload"); got != "" {
		t.Errorf("reload: %q", got)
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("the daemon was not told: %v", err)
	}
}
