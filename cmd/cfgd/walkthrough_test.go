package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestWalkthrough runs the commands of docs/walkthrough.md in one shell, and compares what they print. With
// -update it writes that into the file.
func TestWalkthrough(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it goes the way of the scripts, which are not left out")
	}
	const file = "../../docs/walkthrough.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "w")
	var script strings.Builder
	var commands []string
	for _, m := range console.FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(m[1]) {
			if c, ok := strings.CutPrefix(line, "$ "); ok {
				fmt.Fprintf(&script, "echo %%%%%%%%%d\n%s", len(commands), shellLine(c))
				commands = append(commands, c)
			}
		}
	}
	// a busy or emulated machine needs more than one minute
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", strings.ReplaceAll(script.String(), "/tmp/w", dir))
	cmd.Env = append(os.Environ(), "TZ=UTC")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(err.Error(), "exit status 1") { // report ends with 1
		t.Fatalf("%v\n%s", err, out)
	}
	printed := strings.Split(strings.ReplaceAll(string(out), dir, "/tmp/w"), "%%%%")[1:]
	n := 0
	got := console.ReplaceAllStringFunc(string(text), func(block string) string {
		var b strings.Builder
		b.WriteString("```console\n")
		for range strings.Count(block, "\n$ ") {
			_, says, _ := strings.Cut(printed[n], "\n")
			b.WriteString("$ " + commands[n] + hostless.ReplaceAllString(says, "cfgd on server: "))
			n++
		}
		return b.String() + "```"
	})
	switch {
	case unchanging(got) == unchanging(string(text)):
	case *update:
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the walkthrough shows something else: go test ./cmd/cfgd -run Walkthrough -update\n%s", got)
	}
}

var hostless = regexp.MustCompile(`cfgd on [^:]*: `)
