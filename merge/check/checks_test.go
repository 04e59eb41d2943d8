package check

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/internal/machinetest"
	"cfgd/internal/run"
)

func TestCheckShell(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no sh here")
	}
	k := &Checkers{Run: run.System{}}
	mark := filepath.Join(t.TempDir(), "made")
	for _, c := range []struct{ path, content, problem string }{
		{"rc.conf", "a=\"1\"\nb='x y'\n", ""},
		{"rc.conf", "a=\"1\nb=2\n", "sh -n: "},
		{"rc.conf", "$(touch " + mark + ")\n: > " + mark + "\n", ""},
		{"rc.conf", "", ""},
		{"rc.d/x", "#!/bin/sh\nif true; then\n", "sh -n: "},
		{"rc.d/x", "#! /bin/sh -e\nif true; then\n", "sh -n: "},
		{"rc.d/x", "#!/usr/local/bin/python\nif x:\n\t(\n", ""},
		{"rc.d/x", "#!/usr/local/bin/perl -w /bin/sh \n(\n", ""},
		{"rc.conf", "set +n\ntouch " + mark + "\n`touch " + mark + "`\ncat <<E\n$(touch " + mark +
			")\nE\ntrap 'touch " + mark + "' 0\n", ""},
		{"rc.conf", "alias a='touch " + mark + ";'\na\n: ${x:=$(touch " + mark + ")}\neval touch " + mark +
			"\n. /etc/profile\nexec touch " + mark + "\n", ""},
		{"periodic.conf", "if\n", "sh -n: "},
		{"crontab", "61 * * * * root x\n", `crontab: line 1: minute "61"`},
		{"crontab", "#!/usr/bin/true\n61 * * * * root x\n", `crontab: line 2: minute "61"`},
		{"crontab", "@" + strings.Repeat("\x1b", 1<<20) + " root x\n", `crontab: line 1: @\033\033`},
		{"hosts", "(((\n", ""},
	} {
		problem, skipped := k.Check(t.Context(), c.path, []byte(c.content))
		if (problem == "") != (c.problem == "") || !strings.Contains(problem, c.problem) || skipped != "" ||
			strings.Contains(problem, "\n") ||
			len(problem) > 1000 {
			t.Errorf("%s %.100q: %.1000q, %q", c.path, c.content, problem, skipped)
		}
	}
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file was run")
	}
}

// answers is a runner that always gives one answer.
type answers struct {
	err error
	cmd run.Cmd
}

func (a *answers) Run(ctx context.Context, c run.Cmd) (string, error) {
	a.cmd = c
	if a.err == nil {
		<-ctx.Done()
		return "", ctx.Err()
	}
	return "", a.err
}

func TestCheckSkips(t *testing.T) {
	t.Parallel()
	a := &answers{err: exec.ErrNotFound}
	k := &Checkers{Run: a}
	if p, s := k.Check(t.Context(), "rc.conf", []byte("x")); p != "" || s != "sh is not installed" ||
		!a.cmd.Unprivileged ||
		a.cmd.String() != "sh -n < rc.conf" {
		t.Errorf("%q, %q, %v", p, s, a.cmd)
	}
	if p, s := k.Check(t.Context(), "ssh/sshd_config", nil); p != "" ||
		s != "sshd -t -f FILE has to be run where the file stands" {
		t.Errorf("%q, %q", p, s)
	}
	if p, s := (&Checkers{}).Check(t.Context(), "rc.conf", nil); p != "" || s != "" {
		t.Errorf("%q, %q", p, s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.err = nil
	if p, s := k.Check(ctx, "rc.conf", nil); p != "" || s != "sh takes too long" {
		t.Errorf("%q, %q", p, s)
	}
}

// A parser that ends by a signal decides nothing, because a deeply nested file uses up its stack.
func TestCheckerThatCrashes(t *testing.T) {
	t.Parallel()
	killed := exec.Command("sh", "-c", "kill -SEGV $$").Run()
	k := &Checkers{Run: &answers{err: &run.Error{Stderr: strings.Repeat("x", 1<<20), Err: killed}}}
	if p, s := k.Check(t.Context(), "rc.conf", []byte("x")); p != "" ||
		s != "sh: signal: segmentation fault" && s != "sh: signal: segmentation fault (core dumped)" {
		t.Errorf("%q, %q", p, s)
	}
}

// exits is a program that prints this and ends with that status.
func exits(status, said string) *answers {
	return &answers{err: &run.Error{Stderr: said, Err: exec.Command("sh", "-c", "exit "+status).Run()}}
}

// sshd(8) ends with 255 on a bad file; only 126 and 127 say that a program could not be run.
func TestExitStatusOfAChecker(t *testing.T) {
	t.Parallel()
	for status, says := range map[string]string{
		"1": "sh -n: bad; worse|", "2": "sh -n: bad; worse|", "255": "sh -n: bad; worse|",
		"128": "sh -n: bad; worse|", "126": "|sh is not installed", "127": "|sh is not installed",
	} {
		k := &Checkers{Run: exits(status, "bad\nworse\n")}
		if p, s := k.Check(t.Context(), "rc.conf", []byte("x")); p+"|"+s != says {
			t.Errorf("%s: %q, %q", status, p, s)
		}
	}
}

// configured returns the checkers and classes of a cfgd.toml.
func configured(t *testing.T, text string) *Checkers {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cfgd.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := config.Load(config.Options{Root: t.TempDir(), File: file, Euid: -1})
	if err != nil {
		t.Fatal(err)
	}
	return &Checkers{Checkers: m.Checkers, Classes: m.Classes}
}

// A host's parser that wants a file by its name gets a copy that nobody else can reach, and that is removed
// afterwards.
func TestPrivateCopy(t *testing.T) {
	t.Parallel()
	k := configured(
		t,
		"[[checker]]\nmatch = \"local/a.conf\"\ncommand = [\"grep\", \"-q\", \"good\", \"FILE\"]\nwhere = "+
			"\"host\"\n",
	)
	seen := ""
	k.Run = machinetest.Runner(func(ctx context.Context, c run.Cmd) (string, error) {
		seen = c.Args[2]
		file, err := os.Stat(seen)
		dir, derr := os.Stat(filepath.Dir(seen))
		if err != nil || derr != nil || file.Mode() != 0o400 || dir.Mode().Perm() != 0o700 ||
			filepath.Base(seen) != "a.conf" ||
			!c.Unprivileged ||
			c.Stdin != nil {
			t.Errorf("%v, %v, %v", file, dir, c)
		}
		return run.System{}.Run(ctx, c)
	})
	for content, says := range map[string]string{"good\n": "", "bad\n": "grep -q good FILE: "} {
		if p, s := k.Check(t.Context(), "local/a.conf", []byte(content)); p != says || s != "" {
			t.Errorf("%q: %q, %q", content, p, s)
		}
		if _, err := os.Stat(filepath.Dir(seen)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("left behind: %v", err)
		}
	}
}

// What a checker quotes from a secret is not shown, and a secret is not copied.
func TestCheckedSecrets(t *testing.T) {
	t.Parallel()
	k := configured(t, `
[[path]]
match = "{rc.conf,crontab}"
class = "secret"
[[checker]]
match = "local/tls.key"
command = ["keycheck", "FILE"]
where = "host"
`)
	k.Run = exits("2", "line 1: hunter2")
	const hidden = ": what it says is not shown, because the file is a secret"
	for path, says := range map[string]string{
		"rc.conf": "sh -n" + hidden + "|", "crontab": "crontab" + hidden + "|",
		"local/tls.key": "|keycheck FILE wants a copy, and of a secret there is none",
		"profile":       "sh -n: line 1: hunter2|",
	} {
		if p, s := k.Check(t.Context(), path, []byte("hunter2\n")); p+"|"+s != says {
			t.Errorf("%s: %q, %q", path, p, s)
		}
	}
}
