// Package run runs commands. No other package does.
//
// A command of the system runs without a shell, with a clean environment, a time limit and bounded output.
// It is data: what --dry-run prints is what runs. An editor of the user is the one program that gets the
// terminal and the user's environment (Editor).
package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Cmd is a command: a name in the path of the system's own programs, and its arguments.
type Cmd struct {
	Name string
	Args []string
	// Stdin is what the command reads. From is its name in String.
	Stdin []byte
	From  string
	// Unprivileged runs it as nobody if it would otherwise run as root.
	Unprivileged bool
}

// Command returns a Cmd.
func Command(name string, args ...string) Cmd { return Cmd{Name: name, Args: args} }

// String returns the command in a form that sh(1) would run the same.
func (c Cmd) String() string {
	words := []string{quote(c.Name)}
	for _, a := range c.Args {
		words = append(words, quote(a))
	}
	if c.From != "" {
		words = append(words, "<", quote(c.From))
	}
	return strings.Join(words, " ")
}

const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+,-./:=@_"

// quote quotes a word for sh(1), which takes every byte but NUL in single quotes. Names of files and
// snapshots may have any.
func quote(s string) string {
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Runner runs commands and returns what they print on standard output.
type Runner interface {
	Run(ctx context.Context, c Cmd) (string, error)
}

// System runs commands on this machine.
type System struct {
	// Limit is the time a command may take; 0 is a minute.
	Limit time.Duration
	// Log, if not nil, is called with every command before it runs.
	Log func(Cmd)
}

const maxOutput = 1 << 20

// Nobody is the user and the group of that name, on FreeBSD and Linux alike.
const Nobody = 65534

// path has the directories of the system's own programs. Nothing of the caller's environment is used.
const path = "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"

// Run runs the command. An error includes what the command wrote to standard error.
func (s System) Run(ctx context.Context, c Cmd) (string, error) {
	if s.Log != nil {
		s.Log(c)
	}
	limit := s.Limit
	if limit == 0 {
		limit = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	name, err := lookup(c.Name)
	if err != nil {
		return "", fmt.Errorf("%s: %w", c, err)
	}
	cmd := exec.CommandContext(ctx, name, c.Args...)
	cmd.Env = []string{"PATH=" + path, "LC_ALL=C"}
	// A command that is killed is killed with all processes that it started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	if c.Unprivileged && os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: Nobody, Gid: Nobody}
		cmd.Dir = "/"
	}
	if c.Stdin != nil {
		cmd.Stdin = bytes.NewReader(c.Stdin)
	}
	cmd.WaitDelay = 2 * time.Second
	var out, errs bounded
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		err = nil // it ended well, and left a daemon behind that holds its output open: jail(8) does
	}
	if err != nil {
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		return out.String(), &Error{c, strings.TrimSpace(errs.String()), err}
	}
	return out.String(), nil
}

// Editor runs an editor of the user's choice on the user's terminal, in the user's environment and without a
// time limit. words are its name, which is looked up in the user's PATH, and its arguments.
func Editor(ctx context.Context, words []string, in io.Reader, out, errs io.Writer) error {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errs
	return cmd.Run()
}

func killGroup(pid int) error {
	err := syscall.Kill(-pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

func lookup(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for dir := range strings.SplitSeq(path, ":") {
		if p, err := exec.LookPath(dir + "/" + name); err == nil {
			return p, nil
		}
	}
	return "", exec.ErrNotFound
}

// Error is a command that failed.
type Error struct {
	Cmd    Cmd
	Stderr string
	Err    error
}

func (e *Error) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("%s: %v", e.Cmd, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Cmd, e.Err, e.Stderr)
}

func (e *Error) Unwrap() error { return e.Err }

// bounded keeps the beginning of what is written to it. The buffer is a named field, because an embedded
// one would let io.Copy bypass Write.
type bounded struct{ kept bytes.Buffer }

func (b *bounded) String() string { return b.kept.String() }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxOutput - b.kept.Len(); room > 0 {
		b.kept.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

// Has reports whether a command's program is installed in the directories of the system's own programs.
func Has(name string) bool {
	_, err := lookup(name)
	return err == nil
}
