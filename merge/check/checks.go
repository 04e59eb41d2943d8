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
)

// Checkers runs checkers on merged files. The files may be a jail's and hostile: they are never executed. A
// program of the system that reads them runs as nobody, in a clean environment, with a time limit. Its
// messages about a secret are not repeated.
type Checkers struct {
	Checkers *config.Checkers
	Classes  *config.Classes
	Run      run.Runner // nil runs no command and reports nothing: with --root
}

// Check implements merge.Tools.Check.
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

// Discreet returns what may be shown of a problem. Checkers often quote the file.
func Discreet(c config.Checker, secret bool, problem string) string {
	if problem == "" || !secret {
		return problem
	}
	return cmp.Or(c.Syntax, strings.Join(c.Command, " ")) +
		": what it says is not shown, because the file is a secret"
}

func syntax(c config.Checker, content []byte) string {
	if err := syntaxes[c.Syntax](content); err != nil {
		return firstLine(c.Syntax + ": " + err.Error())
	}
	return ""
}

func isShell(c config.Checker) bool { return len(c.Command) > 0 && path.Base(c.Command[0]) == "sh" }

// foreign reports whether a file's first line names another interpreter than sh(1).
func foreign(content []byte) bool {
	first, _, _ := bytes.Cut(content, []byte("\n"))
	interpreter, isScript := bytes.CutPrefix(first, []byte("#!"))
	words := bytes.Fields(interpreter)
	return isScript && (len(words) == 0 || path.Base(string(words[0])) != "sh")
}

// most is how many bytes are shown of a checker's message.
const most = 200

// firstLine returns the beginning of a checker's message, in one line.
func firstLine(said string) string {
	said = strings.TrimSpace(said)
	if len(said) > most {
		said = said[:most] + "…"
	}
	return pathname.Plain(strings.ReplaceAll(said, "\n", "; "))
}

func (k *Checkers) ask(
	ctx context.Context, c config.Checker, name string, content []byte,
) (problem, skipped string) {
	cmd := run.Cmd{Unprivileged: true}
	words := c.Words("")
	if c.Stdin {
		cmd.Stdin, cmd.From = append([]byte{}, content...), name // never nil, because nil means no input
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

// privateCopy makes a file that a checker gets by name. Its directory is closed to others, who could
// otherwise replace the file.
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

// notExecuted and notFound are the exit statuses by which env(1) and sh(1) say that they could not run a
// program. Higher ones are a program's own: sshd(8) ends with 255 on a bad sshd_config.
const (
	notExecuted = 126
	notFound    = 127
)

// Hear runs a checker and returns what it says against a file.
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
	case errors.Is(err, exec.ErrNotFound),
		errors.As(err, &exit) && (exit.ExitCode() == notExecuted || exit.ExitCode() == notFound):
		return "", c.Command[0] + " is not installed"
	// jail(8) ends with 1 for every error
	case errors.As(err, &failed) && cmd.Name == "jail" && strings.HasPrefix(failed.Stderr, "jail: "):
		return "", firstLine(failed.Stderr)
	case errors.As(err, &failed) && errors.As(err, &exit) && exit.Exited():
		return strings.Join(c.Command, " ") + ": " + firstLine(failed.Stderr), ""
	case exit != nil: // by a signal, such as a parser that ran out of stack because a file is nested too deep
		return "", c.Command[0] + ": " + exit.String()
	}
	return "", firstLine(err.Error())
}
