package jailhooks

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/internal/run"
)

func TestCheckShell(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no sh here")
	}
	k := &Checking{Run: run.System{}}
	mark := filepath.Join(t.TempDir(), "made")
	for _, c := range []struct{ path, content, problem string }{
		{"rc.conf", "a=\"1\"\nb='x y'\n", ""},
		{"rc.conf", "a=\"1\nb=2\n", "sh -n: "},
		{"rc.conf", "$(touch " + mark + ")\n: > " + mark + "\n", ""},
		{"rc.conf", "", ""},
		{"rc.d/x", "#!/bin/sh\nif true; then\n", "sh -n: "},
		{"rc.d/x", "#!/usr/local/bin/python\nif x:\n\t(\n", ""},
		{"periodic.conf", "if\n", "sh -n: "},
		{"crontab", "61 * * * * root x\n", `crontab: line 1: minute "61"`},
		{"hosts", "(((\n", ""},
	} {
		problem, skipped := k.Check(t.Context(), c.path, []byte(c.content))
		if (problem == "") != (c.problem == "") || !strings.Contains(problem, c.problem) || skipped != "" || strings.Contains(problem, "\n") {
			t.Errorf("%s %q: %q, %q", c.path, c.content, problem, skipped)
		}
	}
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file was run")
	}
}

// answers is a runner that has one answer.
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
	k := &Checking{Run: a}
	if p, s := k.Check(t.Context(), "rc.conf", []byte("x")); p != "" || s != "sh is not installed" || !a.cmd.Unprivileged || a.cmd.String() != "sh -n < rc.conf" {
		t.Errorf("%q, %q, %v", p, s, a.cmd)
	}
	if p, s := k.Check(t.Context(), "ssh/sshd_config", nil); p != "" || s != "sshd -t -f FILE has to be run where the file stands" {
		t.Errorf("%q, %q", p, s)
	}
	if p, s := (&Checking{}).Check(t.Context(), "rc.conf", nil); p != "" || s != "" {
		t.Errorf("%q, %q", p, s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.err = nil
	if p, s := k.Check(ctx, "rc.conf", nil); p != "" || s != "sh takes too long" {
		t.Errorf("%q, %q", p, s)
	}
}

// The table, and what a [[checker]] makes of it.
func TestCheckersTable(t *testing.T) {
	t.Parallel()
	var none *config.Checkers
	for path, command := range map[string]string{
		"rc.conf": "sh -n", "rc.conf.d/jail": "sh -n", "rc.d/sshd": "sh -n", "local/rc.d/nginx": "sh -n", "ssh/sshd_config": "sshd -t -f FILE", "local/nginx/nginx.conf": "nginx -t -c FILE",
		"namedb/named.conf": "named-checkconf FILE", "local/sudoers": "visudo -c -f FILE", "newsyslog.conf": "newsyslog -n -r -f FILE", "crontab": "", "cron.d/at": "", "syslog.conf": "",
	} {
		if c, ok := none.Of(path); !ok || strings.Join(c.Command, " ") != command {
			t.Errorf("%s: %v, %v", path, ok, c)
		}
	}
	for _, path := range []string{"hosts", "local/rc.conf", "x/rc.d/y"} {
		if c, ok := none.Of(path); ok {
			t.Errorf("%s: %v", path, c)
		}
	}
}
