package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// console finds the sessions in a document.
var console = regexp.MustCompile("(?s)```console\n(.*?)```")

// changing has what differs from run to run: times, room, padding.
var changing = []struct {
	was *regexp.Regexp
	is  string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?|\b\d\d:\d\d:\d\d\b`), "TIME"},
	{regexp.MustCompile(`(?m) +\d[\d.]*[BKMGT]$`), " ROOM"},
	{regexp.MustCompile(`sha256:[0-9a-f]{12}`), "DIGEST"}, // of the owner too
	{regexp.MustCompile(`\b(fsnotify|kqueue)\b`), "EVENTS"},
	{regexp.MustCompile(`  +`), "  "},
}

func unchanging(text string) string {
	for _, c := range changing {
		text = c.was.ReplaceAllString(text, c.is)
	}
	return text
}

// TestReadmeSession runs README's session on the demo's machine and compares what it prints.
func TestReadmeSession(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := console.FindStringSubmatch(string(text))
	if m == nil {
		t.Fatal("README has no session")
	}
	dir := t.TempDir()
	session := strings.ReplaceAll(m[1], "/tmp/m", filepath.Join(dir, "m"))
	var script, want strings.Builder
	// A person types the save before the daemon gets to it; a busy machine may not.
	script.WriteString("set -e\ncfgd demo $M >/dev/null\nmkdir -p $M/usr/local/etc\n" +
		"printf '[defaults]\\nsettle = \"60s\"\\nmax_wait = \"60s\"\\n' >$M/usr/local/etc/cfgd.toml\n")
	for line := range strings.Lines(session) {
		command, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			want.WriteString(line)
			continue
		}
		script.WriteString(shellLine(command))
	}
	script.WriteString("kill $!\nwait $!\n")
	// a busy or emulated machine needs more than one minute
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script.String())
	cmd.Env = append(os.Environ(), "TZ=UTC", "M="+filepath.Join(dir, "m"))
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := unchanging(string(out)); got != unchanging(want.String()) {
		t.Errorf("README's session prints\n%s\nand not\n%s", got, unchanging(want.String()))
	}
}

// shellLine changes a typed line so that it works in a script: a shell that is not interactive has no
// aliases, and diff ends with 1.
func shellLine(command string) string {
	switch {
	case strings.HasPrefix(command, "alias c="):
		return "c() { " + strings.Trim(strings.TrimSpace(strings.TrimPrefix(command, "alias c=")), "'") +
			" \"$@\"; }\n"
	case strings.HasPrefix(command, "c daemon"):
		// Wait until the daemon listens; a person types slowly enough. The function c is not used here,
		// because it would run the daemon in a subshell.
		return strings.Replace(command, "c daemon", "cfgd --root $M daemon", 1) +
			"until c status 2>/dev/null | grep -Eq '^vhost2.*(fsnotify|kqueue)'; do :; done\n"
	case strings.HasPrefix(command, "c diff"):
		return strings.TrimSuffix(command, "\n") + " || test $? = 1\n"
	}
	return command
}
