package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Pipe is two commands. The second reads what the first writes.
type Pipe struct{ From, To Cmd }

// String returns the pipe in a form that sh(1) would run the same.
func (p Pipe) String() string { return p.From.String() + " | " + p.To.String() }

// ErrStalled reports that no data went through a pipe for too long.
var ErrStalled = errors.New("nothing moved for too long")

// RunPipe runs a pipe, and calls progress with the number of bytes so far. Only time without progress is
// limited, to System.Limit or five minutes if it is 0, because a replication may take a day. If one
// command fails, the other is killed with all that it started, and the error has the messages of both.
// RunPipe returns the output of the second command.
func (s System) RunPipe(ctx context.Context, p Pipe, progress func(n int64)) (string, error) {
	if s.Log != nil {
		s.Log(p.From)
		s.Log(p.To)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	from, err := s.end(ctx, p.From)
	if err != nil {
		return "", err
	}
	to, err := s.end(ctx, p.To)
	if err != nil {
		return "", err
	}
	out, err := from.cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	in, err := to.cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	to.cmd.Stdout = &to.out
	if err := to.cmd.Start(); err != nil {
		return "", fmt.Errorf("%s: %w", p.To, err)
	}
	if err := from.cmd.Start(); err != nil {
		cancel(nil)
		_ = to.cmd.Wait()
		return "", fmt.Errorf("%s: %w", p.From, err)
	}
	limit := s.Limit
	if limit == 0 {
		limit = 5 * time.Minute
	}
	stall := time.AfterFunc(limit, func() { cancel(ErrStalled) })
	defer stall.Stop()
	moved := movedBy{progress: func(n int64) { stall.Reset(limit); progress(n) }}
	ended := make(chan error, 1)
	go func() {
		// If the second command has ended, nobody reads what the first writes, whether it is writing or
		// not.
		err := to.wait(ctx)
		if err != nil {
			_ = killGroup(from.cmd.Process.Pid)
		}
		ended <- err
	}()
	_, cerr := io.CopyBuffer(in, io.TeeReader(struct{ io.Reader }{out}, &moved), make([]byte, 256<<10))
	in.Close()
	if cerr != nil { // nobody reads any more what the first writes
		_ = killGroup(from.cmd.Process.Pid)
	}
	terr := <-ended
	ferr := from.wait(ctx)
	return to.out.String(), pipeError(ctx, ferr, terr, cerr)
}

// end is one side of a pipe.
type end struct {
	c    Cmd
	cmd  *exec.Cmd
	out  bounded
	errs bounded
}

func (s System) end(ctx context.Context, c Cmd) (*end, error) {
	name, err := lookup(c.Name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	e := &end{c: c, cmd: exec.CommandContext(ctx, name, c.Args...)}
	e.cmd.Env = []string{"PATH=" + path, "LC_ALL=C"}
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	e.cmd.Cancel = func() error { return killGroup(e.cmd.Process.Pid) }
	e.cmd.WaitDelay = 2 * time.Second
	e.cmd.Stderr = &e.errs
	return e, nil
}

func (e *end) wait(ctx context.Context) error {
	err := e.cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		err = nil
	}
	if err != nil {
		return &Error{e.c, strings.TrimSpace(e.errs.String()), err}
	}
	return nil
}

// pipeError joins the errors of both commands. If the first was killed because the second had ended, that
// is not reported as a cause.
func pipeError(ctx context.Context, from, to, copied error) error {
	if cause := context.Cause(ctx); cause != nil {
		return errors.Join(cause, from, to)
	}
	if (to != nil || copied != nil) && signaled(from) {
		from = nil
	}
	if from == nil && to == nil && copied != nil {
		return fmt.Errorf("pipe: %w", copied)
	}
	return errors.Join(to, from)
}

// signaled reports whether a command was ended by SIGPIPE, or by our SIGKILL.
func signaled(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	ws, ok := exit.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled()
}

// movedBy counts what goes by.
type movedBy struct {
	n        int64
	progress func(int64)
}

func (m *movedBy) Write(p []byte) (int, error) {
	m.n += int64(len(p))
	m.progress(m.n)
	return len(p), nil
}

// Piper is a Runner that runs pipes as well.
type Piper interface {
	Runner
	RunPipe(ctx context.Context, p Pipe, progress func(n int64)) (string, error)
}
