package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/watcher/control"
)

func demoCommand(s *session, run func(context.Context, *session) int) *cli.Command {
	return &cli.Command{
		Name: "demo", ArgsUsage: "DIR",
		Usage: "build a small machine in DIR, and show cfgd at work on it",
		Description: "" +
			"Makes a host, a prototype with two snapshots, and two jails, as plain directories. It " +
			"needs no root and mounts nothing. The daemon runs on the machine while files are edited. " +
			"DIR must be empty or must not exist. The machine stays, for you to try commands on.",
		Action: func(c *cli.Context) error { return runDemo(s, c, run) },
	}
}

// runDemo shows the main job of cfgd. Each step is a command line, as a person would type it.
func runDemo(s *session, c *cli.Context, run func(context.Context, *session) int) error {
	dir := c.Args().First()
	if s.root != "" || s.config != "" {
		return usagef("demo: DIR is the machine; --root and --config do not go with it")
	}
	root, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := buildMachine(root); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	d := &demo{line: run, out: s.out, err: s.err, root: root, shown: dir}
	ctx := c.Context
	d.say("%s is a small machine: a host, a prototype with snapshots 1 and 2, jails vhost1 and vhost2", dir)
	d.cfgd(ctx, "jail", "init", "vhost1")
	d.run(ctx, io.Discard, "jail", "init", "vhost2")
	stop := d.daemon(ctx)
	defer stop()
	d.show(ctx)
	return d.failed
}

// demo is the state of the show. After the first failure it does nothing more.
type demo struct {
	line     func(context.Context, *session) int // runs a command line
	out, err io.Writer
	root     string
	shown    string // root as the user typed it
	failed   error
}

func (d *demo) say(format string, args ...any) {
	if d.failed == nil {
		_, d.failed = fmt.Fprintf(d.out, format+"\n", args...)
	}
}

// show runs the part in which the daemon works.
func (d *demo) show(ctx context.Context) {
	d.step(`echo 'sshd_enable="YES"' >> etc/rc.conf; rm etc/ftpusers   (in vhost1)`)
	began := time.Now()
	d.do(func() error {
		return appendTo(filepath.Join(d.root, "jail/vhost1/etc/rc.conf"), "sshd_enable=\"YES\"\n")
	})
	d.do(func() error { return os.Remove(filepath.Join(d.root, "jail/vhost1/etc/ftpusers")) })
	generation := 0
	d.do(func() (err error) { generation, err = d.saved(ctx, "vhost1"); return err })
	d.say("the daemon saved both, as generation %d, after %.1f s", generation, time.Since(began).Seconds())
	d.cfgd(ctx, "diff", "-U0", "vhost1", "rc.conf")
	d.cfgd(ctx, "jail", "cleanup", "vhost1")
	d.cfgd(ctx, "jail", "init", "vhost1")
	d.do(d.survived)
	d.say("after the restart rc.conf still has the line, and ftpusers is still deleted")
	d.cfgd(ctx, "restore", "--from", "base", "vhost1", "rc.conf")
	d.cfgd(ctx, "status")
	d.say("play on: C=%q; edit below %s, then try", "cfgd --root "+d.shown,
		filepath.Join(d.shown, "jail/vhost1/etc"))
	d.say("  $C daemon &   $C status   $C diff vhost1   $C log vhost1   $C restore vhost1 PATH   " +
		"$C check   $C help")
}

// step prints a command line of the shell.
func (d *demo) step(line string) { d.say("$ %s", line) }

func (d *demo) do(f func() error) {
	if d.failed == nil {
		d.failed = f()
	}
}

// cfgd prints and runs a command line.
func (d *demo) cfgd(ctx context.Context, args ...string) {
	d.step("cfgd --root " + d.shown + " " + strings.Join(args, " "))
	d.run(ctx, d.out, args...)
}

func (d *demo) run(ctx context.Context, out io.Writer, args ...string) {
	d.do(func() error {
		code := d.line(ctx, &session{
			in: os.Stdin, out: out, err: d.err, args: append([]string{"cfgd", "--root", d.root}, args...),
		})
		if code != exitDone && code != exitDiffer {
			return printedError{fmt.Errorf("cfgd %s ended with %d", strings.Join(args, " "), code)}
		}
		return nil
	})
}

// daemon runs the daemon until stop is called.
func (d *demo) daemon(ctx context.Context) (stop func()) {
	if d.failed != nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &session{out: io.Discard, err: io.Discard, root: d.root}
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- newDaemon(s, ready).Run(ctx) }()
	select {
	case <-ready:
		return func() { cancel(); <-ended }
	case d.failed = <-ended:
		return cancel
	}
}

// saved waits until both edits are in a target's cfg, and returns the generation.
func (d *demo) saved(ctx context.Context, target string) (generation int, err error) {
	c := control.NewClient(filepath.Join(d.root, "var/run/cfgd"))
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		both := d.holds(target, "rc.conf", "sshd_enable") && d.holds(target, ".cfgd/removed", "ftpusers")
		list, err := c.Status(ctx, false, target)
		if err != nil {
			return 0, err
		}
		// the daemon knows the generation that has both
		if both && len(list) == 1 && list[0].Generation > 0 && list[0].Unsaved == 0 {
			return list[0].Generation, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%s: not saved: %w", target, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// holds reports whether a file of cfg contains a word.
func (d *demo) holds(target, name, word string) bool {
	b, err := os.ReadFile(filepath.Join(d.root, "jail", target, "cfg", name))
	return err == nil && strings.Contains(string(b), word)
}

// survived checks that the edits are there.
func (d *demo) survived() error {
	b, err := os.ReadFile(filepath.Join(d.root, "jail/vhost1/etc/rc.conf"))
	if err != nil {
		return err
	}
	if !strings.Contains(string(b), "sshd_enable") {
		return errors.New("the edit of rc.conf is lost")
	}
	_, err = os.Lstat(filepath.Join(d.root, "jail/vhost1/etc/ftpusers"))
	if !errors.Is(err, os.ErrNotExist) {
		return errors.New("ftpusers came back")
	}
	return nil
}

func appendTo(name, text string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
