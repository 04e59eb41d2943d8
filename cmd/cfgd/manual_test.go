package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"cfgd/config"
)

var update = flag.Bool("update", false, "write the list of commands into man/cfgd.8")

const manual = "../../man/cfgd.8"

// The manual lists exactly the commands and flags that there are.
func TestManualListsTheCommands(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = ".\\\" commands: begin\n", ".\\\" commands: end\n"
	before, rest, ok := strings.Cut(string(b), begin)
	listed, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("no marks")
	}
	want := manualCommands(newApp(&session{out: io.Discard, err: io.Discard}))
	if listed == want {
		return
	}
	if !*update {
		t.Fatal("man/cfgd.8 lists other commands or flags than there are: go test ./cmd/cfgd -run Manual " +
			"-update")
	}
	if err := os.WriteFile(manual, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Help of every command fits 80 columns.
func TestHelpFits(t *testing.T) {
	t.Parallel()
	var names func(above string, list []*cli.Command) []string
	names = func(above string, list []*cli.Command) (all []string) {
		for _, c := range list {
			name := strings.TrimSpace(above + " " + c.Name)
			all = append(append(all, name), names(name, c.Subcommands)...)
		}
		return all
	}
	all := names("", newApp(&session{out: io.Discard, err: io.Discard}).Commands)
	if len(all) < 30 {
		t.Fatalf("only %d commands", len(all))
	}
	for _, name := range append(all, "") {
		var out bytes.Buffer
		s := &session{out: &out, err: &out, args: append([]string{"cfgd", "help"}, strings.Fields(name)...)}
		if code := runLine(t.Context(), s); code != exitDone {
			t.Fatalf("cfgd help %s: %d\n%s", name, code, out.String())
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("cfgd help %s: %d columns: %s", name, n, line)
			}
			if strings.HasPrefix(line, "      ") { // the library breaks such a line, and then aligns none
				t.Errorf("cfgd help %s: the text of a flag is too long: %s", name, line)
			}
		}
	}
}

func TestManualIsCleanMdoc(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mandoc"); err != nil {
		t.Skip("no mandoc here")
	}
	pages, err := filepath.Glob("../../man/*")
	if err != nil || len(pages) != 3 {
		t.Fatal(pages, err)
	}
	for _, p := range pages {
		out, _ := exec.Command("mandoc", "-Tlint", "-Wwarning", p).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "referenced manual not found") {
				t.Error(line)
			}
		}
	}
}

// Every example of the manual runs, on the demo's machine.
func TestManualExamples(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "m")
	if err := buildMachine(dir); err != nil {
		t.Fatal(err)
	}
	run := func(line string) int {
		var out bytes.Buffer
		s := &session{
			in: strings.NewReader(""), out: &out, err: &out,
			args: append([]string{"cfgd", "--root", dir}, strings.Fields(line)...),
		}
		code := runLine(t.Context(), s)
		t.Logf("cfgd %s: %d\n%s", line, code, out.String())
		return code
	}
	for _, line := range []string{"jail init vhost1", "jail init vhost2", "save"} {
		run(line)
	}
	if err := appendTo(filepath.Join(dir, "jail/vhost1/etc/hosts"), "10.0.0.1 db\n"); err != nil {
		t.Fatal(err)
	}
	_, examples, _ := strings.Cut(string(b), ".Sh EXAMPLES")
	examples, _, _ = strings.Cut(examples, ".Sh DIAGNOSTICS")
	n := 0
	for line := range strings.Lines(examples) {
		words, ok := strings.CutPrefix(strings.TrimSpace(line), "cfgd ")
		if !ok {
			continue
		}
		if n++; run(words) > exitDiffer {
			t.Errorf("cfgd %s fails", words)
		}
		if n == 3 {
			run("save vhost1")
		}
	}
	if n < 10 {
		t.Errorf("only %d examples", n)
	}
}

// cfgd.toml(5) explains every key and every class.
func TestManualOfTheConfiguration(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../man/cfgd.toml.5")
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`(?m)^#? ?\[?\[?([a-z_]+)(?:\.[a-zA-Z0-9]+)?\]?\]?(?: *=|$)`)
	keys := key.FindAllStringSubmatch(sample, -1)
	if len(keys) < 15 {
		t.Fatalf("only %d keys in the sample", len(keys))
	}
	for _, k := range keys {
		if !strings.Contains(string(b), k[1]) {
			t.Errorf("%s is missing", k[1])
		}
	}
	for _, c := range []config.Class{config.Persist, config.Secret, config.Derived, config.Volatile,
		config.Ignore, config.Report} {
		if !strings.Contains(string(b), ".It Cm "+string(c)) {
			t.Errorf("class %s is missing", c)
		}
	}
}
