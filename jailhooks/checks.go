package jailhooks

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/internal/run"
	"cfgd/merge"
)

// Checking asks checkers about merged files. What they read may be a jail's and hostile: none of it is run, and a program of the system
// that reads it does so as nobody, in a clean environment, within a time.
type Checking struct {
	Checkers *config.Checkers
	Run      run.Runner // nil runs no command, and says nothing of that: with --root
}

// Check is one of overlay.MergeTools.
func (k *Checking) Check(ctx context.Context, path string, content []byte) (problem, skipped string) {
	c, ok := k.Checkers.Of(path)
	switch {
	case !ok, foreign(content):
		return "", ""
	case c.Syntax != "":
		if err := merge.Syntaxes[c.Syntax](content); err != nil {
			return c.Syntax + ": " + err.Error(), ""
		}
		return "", ""
	case k.Run == nil:
		return "", ""
	case c.Where == config.WhereTarget:
		return "", strings.Join(c.Command, " ") + " has to be run where the file stands"
	case !c.Stdin:
		return "", strings.Join(c.Command, " ") + " takes no standard input"
	}
	return k.ask(ctx, c, path, content)
}

// foreign reports whether a file says that another program than sh(1) reads it.
func foreign(content []byte) bool {
	first, _, _ := bytes.Cut(content, []byte("\n"))
	return bytes.HasPrefix(first, []byte("#!")) && !bytes.HasSuffix(bytes.TrimSpace(first), []byte("/sh")) && !bytes.Contains(first, []byte("/sh "))
}

// most is how much is told of what a checker says, in bytes.
const most = 200

func (k *Checking) ask(ctx context.Context, c config.Checker, path string, content []byte) (problem, skipped string) {
	cmd := run.Command(c.Command[0], c.Command[1:]...)
	cmd.Stdin, cmd.From, cmd.Unprivileged = content, path, true
	if cmd.Stdin == nil {
		cmd.Stdin = []byte{}
	}
	return hear(ctx, k.Run, cmd, c)
}

// notRun is the least exit status by which env(1), chroot(8) and sh(1) say that they could not run a program.
const notRun = 126

// hear runs a checker and says what it has against a file.
func hear(ctx context.Context, r run.Runner, cmd run.Cmd, c config.Checker) (problem, skipped string) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	_, err := r.Run(ctx, cmd)
	var failed *run.Error
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", ""
	case ctx.Err() != nil:
		return "", c.Command[0] + " takes too long"
	case errors.Is(err, exec.ErrNotFound), errors.As(err, &exit) && exit.ExitCode() >= notRun:
		return "", c.Command[0] + " is not installed"
	case errors.As(err, &failed) && errors.As(err, &exit) && exit.Exited():
		said := strings.TrimSpace(failed.Stderr)
		if len(said) > most {
			said = said[:most] + "…"
		}
		return strings.Join(c.Command, " ") + ": " + pathname.Plain(strings.ReplaceAll(said, "\n", "; ")), ""
	}
	return "", err.Error()
}
