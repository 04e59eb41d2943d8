// Package root tests the whole cfgd program as a child process. Some tests build a machine of mounts in a
// mount namespace of their own; these need root and Linux. Others kill the program at random times; these
// need neither.
package root

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cfgd/watcher/control"
)

// programEnv tells a test that runs again as a child where the program is, so that it need not build it.
const programEnv = "CFGD_TEST_PROGRAM"

var program string

// atOnce is how many tests run at once, unless -parallel says otherwise. They wait for their daemons and
// hooks most of the time.
const atOnce = "8"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	os.Exit(built(m.Run))
}

// built builds the program before the tests run.
func built(run func() int) int {
	if program = os.Getenv(programEnv); program != "" {
		return run()
	}
	if _, err := exec.LookPath("go"); err != nil {
		fmt.Printf("skipped: no go here to build cfgd, and %s names no program\n", programEnv)
		return 0
	}
	dir, err := os.MkdirTemp("", "cfgd-root")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "cfgd")
	if out, err := exec.Command("go", "build", "-o", program, "cfgd/cmd/cfgd").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build cfgd: %v\n%s", err, out)
		return 1
	}
	return run()
}

// machine is a machine on which the program runs: below dir with --root, or the running machine if dir is "".
type machine struct {
	testing.TB
	dir string
}

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *machine) path(p string) string { return filepath.Join(m.dir, p) }

func (m *machine) write(p, content string) {
	m.Helper()
	m.must(os.MkdirAll(filepath.Dir(m.path(p)), 0o755))
	m.must(os.WriteFile(m.path(p), []byte(content), 0o644))
}

func (m *machine) read(p string) string {
	m.Helper()
	b, err := os.ReadFile(m.path(p))
	if errors.Is(err, os.ErrNotExist) {
		return "(absent)"
	}
	m.must(err)
	return string(b)
}

func (m *machine) command(args ...string) *exec.Cmd {
	if m.dir != "" {
		args = append([]string{"--root", m.dir}, args...)
	}
	return exec.Command(program, args...)
}

// run runs a command line of words, which must end with that status, and returns all that it printed.
func (m *machine) run(status int, line string) string {
	m.Helper()
	out, err := m.command(strings.Fields(line)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.Fatal(err)
	}
	got := 0
	if exit != nil {
		got = exit.ExitCode()
	}
	if got != status {
		m.Errorf("cfgd %s: ended with %d, want %d:\n%s", line, got, status, out)
	}
	return string(out)
}

// daemon is the daemon as a child process.
type daemon struct {
	m    *machine
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan error
}

func (m *machine) daemon(flags ...string) *daemon {
	m.Helper()
	d := &daemon{m: m, cmd: m.command(append(flags, "daemon")...), done: make(chan error, 1)}
	d.cmd.Stderr = &d.log
	m.must(d.cmd.Start())
	go func() { d.done <- d.cmd.Wait() }()
	m.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		if err := <-d.done; m.Failed() {
			m.Logf("the daemon ended (%v) and had said\n%s", err, d.log.String())
		}
	})
	return d
}

// ends sends the signal and waits until the daemon has ended.
func (d *daemon) ends(sig os.Signal) error {
	_ = d.cmd.Process.Signal(sig)
	select {
	case err := <-d.done:
		d.done <- err
		return err
	case <-time.After(20 * time.Second):
		d.m.Fatalf("the daemon does not end\n%s", d.log.String())
		return nil
	}
}

const patience = 15 * time.Second

// until asks the daemon for a target's status until it is as wanted. It has to ask, because the daemon is
// another process.
func (m *machine) until(target string, what string, is func(control.Status) bool) control.Status {
	m.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := control.NewClient(m.path("/var/run/cfgd"))
	for {
		list, err := c.Status(ctx, false)
		for _, s := range list {
			if s.Name == target && is(s) {
				return s
			}
		}
		select {
		case <-ctx.Done():
			m.Fatalf("waited in vain until %s %s; the daemon says %+v, %v", target, what, list, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// saved waits until all earlier edits are saved.
func (m *machine) saved(target string) control.Status {
	m.Helper()
	at := time.Now()
	return m.until(target, "is saved", func(s control.Status) bool {
		return s.SavedAsOf != nil && s.SavedAsOf.After(at) && s.Unsaved == 0 && s.Problem == ""
	})
}
