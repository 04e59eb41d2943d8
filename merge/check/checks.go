package check

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/internal/run"
	"cfgd/merge"
)

// Checkers asks checkers about merged files. What they read may be a jail's and hostile: none of it is run, and a program of the system
// that reads it does so as nobody, in a clean environment, within a time. What they say of a secret is not repeated.
type Checkers struct {
	Checkers *config.Checkers
	Classes  *config.Classes
	Run      run.Runner // nil runs no command, and says nothing of that: with --root
}

// Check is one of merge.Tools.
func (k *Checkers) Check(ctx context.Context, path string, content []byte) (problem, skipped string) {
	c, ok := k.Checkers.Of(path)
	if !ok || isShell(c) && foreign(content) {
		return "", ""
	}
	secret := k.Classes.Secret(path)
	switch {
	case c.Syntax != "":
		return Discreet(c, secret, syntax(c, content)), ""
	case k.Run == nil:
		return "", ""
	case c.Where == config.WhereTarget:
		return "", strings.Join(c.Command, " ") + " has to be run where the file stands"
	case secret && !c.Stdin:
		return "", strings.Join(c.Command, " ") + " wants a copy, and of a secret there is none"
	}
	problem, skipped = k.ask(ctx, c, path, content)
	return Discreet(c, secret, problem), skipped
}

// Discreet is what may be told of a problem: what checkers say of a file they often quote from it.
func Discreet(c config.Checker, secret bool, problem string) string {
	if problem == "" || !secret {
		return problem
	}
	return cmp.Or(c.Syntax, strings.Join(c.Command, " ")) + ": what it says is not shown, for the file is a secret"
}

func syntax(c config.Checker, content []byte) string {
	if err := merge.Syntaxes[c.Syntax](content); err != nil {
		return told(c.Syntax + ": " + err.Error())
	}
	return ""
}

func isShell(c config.Checker) bool { return len(c.Command) > 0 && path.Base(c.Command[0]) == "sh" }

// foreign reports whether a file says that another program than sh(1) reads it.
func foreign(content []byte) bool {
	first, _, _ := bytes.Cut(content, []byte("\n"))
	interpreter, isScript := bytes.CutPrefix(first, []byte("#!"))
	words := bytes.Fields(interpreter)
	return isScript && (len(words) == 0 || path.Base(string(words[0])) != "sh")
}

// most is how much is told of what a checker says, in bytes.
const most = 200

// told is the beginning of what a checker says, in one line.
func told(said string) string {
	said = strings.TrimSpace(said)
	if len(said) > most {
		said = said[:most] + "…"
	}
	return pathname.Plain(strings.ReplaceAll(said, "\n", "; "))
}

func (k *Checkers) ask(ctx context.Context, c config.Checker, name string, content []byte) (problem, skipped string) {
	cmd := run.Cmd{Unprivileged: true}
	words := c.Words("")
	if c.Stdin {
		cmd.Stdin, cmd.From = append([]byte{}, content...), name // never nil, which would be no input
	} else {
		file, remove, err := privateCopy(name, content)
		if err != nil {
			return "", "copy it for " + c.Command[0] + ": " + err.Error()
		}
		defer remove()
		words = c.Words(file)
	}
	cmd.Name, cmd.Args = words[0], words[1:]
	return Hear(ctx, k.Run, cmd, c)
}

// privateCopy makes a file that a checker can be given by name, in a directory that only it can enter: a name in a directory that others
// can write could come to be another file.
func privateCopy(name string, content []byte) (file string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "cfgd-check-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	file = filepath.Join(dir, path.Base(name))
	if err = os.WriteFile(file, content, 0o400); err == nil && os.Geteuid() == 0 {
		err = errors.Join(os.Chown(file, run.Nobody, run.Nobody), os.Chown(dir, run.Nobody, run.Nobody))
	}
	if err != nil {
		remove()
	}
	return file, remove, err
}

// notExecuted and notFound are the exit statuses by which env(1) and sh(1) say that they could not run a program. Others as large are a
// program's own: sshd(8) ends with 255 on a bad sshd_config.
const (
	notExecuted = 126
	notFound    = 127
)

// Hear runs a checker and says what it has against a file.
func Hear(ctx context.Context, r run.Runner, cmd run.Cmd, c config.Checker) (problem, skipped string) {
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
	case errors.Is(err, exec.ErrNotFound), errors.As(err, &exit) && (exit.ExitCode() == notExecuted || exit.ExitCode() == notFound):
		return "", c.Command[0] + " is not installed"
	case errors.As(err, &failed) && cmd.Name == "jail" && strings.HasPrefix(failed.Stderr, "jail: "): // it ends with 1 for all
		return "", told(failed.Stderr)
	case errors.As(err, &failed) && errors.As(err, &exit) && exit.Exited():
		return strings.Join(c.Command, " ") + ": " + told(failed.Stderr), ""
	case exit != nil: // by a signal, such as a parser whose stack a file that is nested too deep has used up
		return "", c.Command[0] + ": " + exit.String()
	}
	return "", told(err.Error())
}
