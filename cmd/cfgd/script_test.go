package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"cfgd/internal/memtest"
	"cfgd/watcher/control"
)

func TestMain(m *testing.M) {
	cfgd := func() { os.Exit(Main()) }
	testscript.Main(memtest.M{M: m},
		map[string]func(){"cfgd": cfgd, "jail_etc_init": cfgd, "jail_etc_cleanup": cfgd})
}

// TestScripts runs the scripts of tests/scripts. Each has a machine, command lines, and what they print.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "../../tests/scripts",
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			e.Setenv("M", filepath.Join(e.WorkDir, "m"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "machine": layMachine, "ready": ready, "saved": savedBy, "append": appendLine,
			"links":  links,
			"change": change, "attribute": attribute,
		},
		RequireExplicitExec: true,
		Condition: func(cond string) (bool, error) {
			if cond != "xattrs" {
				return false, fmt.Errorf("%s: no such condition", cond)
			}
			return hasXattrs(), nil
		},
		UpdateScripts: os.Getenv("CFGD_UPDATE_SCRIPTS") != "",
	})
}

// exits CODE COMMAND… runs a command, which must end with that status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if err != nil || neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%q ended with %d, want %d", args[1:], got, want)
	}
}

// machine DIR makes the small machine of the demo.
func layMachine(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(buildMachine(ts.MkAbs(args[0])))
}

// ready DIR waits until the daemon of the machine in DIR answers; ! ready until it does not.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	poll(ts, args[0], func(_ []control.Status, err error) bool { return (err == nil) != neg })
}

// saved DIR TARGET N waits until the daemon has saved generation N of a target, and all of it is saved.
func savedBy(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	poll(ts, args[0], func(list []control.Status, err error) bool {
		for _, s := range list {
			if err == nil && s.Name == args[1] && s.Generation >= n && s.Unsaved == 0 {
				return true
			}
		}
		return false
	})
}

// poll asks a daemon again and again, because it is another process and sends no event.
func poll(ts *testscript.TestScript, dir string, done func([]control.Status, error) bool) {
	c := control.NewClient(filepath.Join(ts.MkAbs(dir), "var/run/cfgd"))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		list, err := c.Status(ctx, false)
		if done(list, err) {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("waited in vain; the daemon says %+v, %v", list, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// append FILE LINE appends a line, to a new file too.
func appendLine(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	ts.Check(err)
	_, err = f.WriteString(args[1] + "\n")
	ts.Check(errors.Join(err, f.Close()))
}

// change FILE REGEXP TEXT replaces every match in a file by a text, in which \n is the end of a line and ${0}
// the match. sed -i is not used, because it takes an argument on FreeBSD.
func change(ts *testscript.TestScript, _ bool, args []string) {
	name := ts.MkAbs(args[0])
	old, err := os.ReadFile(name)
	ts.Check(err)
	text := strings.ReplaceAll(args[2], `\n`, "\n")
	changed := regexp.MustCompile(args[1]).ReplaceAll(old, []byte(text))
	if bytes.Equal(old, changed) {
		ts.Fatalf("%s: nothing matches %s", args[0], args[1])
	}
	ts.Check(os.WriteFile(name, changed, 0o644))
}

// attribute NAME ATTRIBUTE [VALUE] sets an extended attribute, or removes it.
func attribute(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 2 {
		ts.Check(unix.Removexattr(ts.MkAbs(args[0]), args[1]))
		return
	}
	ts.Check(unix.Setxattr(ts.MkAbs(args[0]), args[1], []byte(args[2]), 0))
}

// hasXattrs reports whether temporary files can have extended attributes.
func hasXattrs() bool {
	f, err := os.CreateTemp("", "cfgd-test")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	return errors.Join(f.Close(), unix.Setxattr(f.Name(), "user.probe", nil, 0)) == nil
}

// links NAME TARGET makes a symbolic link with any text as its target.
func links(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.Symlink(args[1], ts.MkAbs(args[0])))
}
