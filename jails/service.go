package jails

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cfgd/config"
	"cfgd/internal/run"
	"cfgd/jailhooks"
)

// Service starts and stops jails as rc(8) does.
type Service struct {
	Run run.Runner
	// Pause waits between two checks whether a jail came up. nil waits a second.
	Pause func(ctx context.Context) error
}

// upWithin is how long after its start a jail may take to be up.
const upWithin = time.Minute

// Stop runs rc.d/jail.
func (s Service) Stop(ctx context.Context, t *config.Target) error { return s.do(ctx, s.stop(t)) }

// Start runs rc.d/jail, which exits 0 whether the jail started or not: Up finds out.
func (s Service) Start(ctx context.Context, t *config.Target) error { return s.do(ctx, s.start(t)) }

func (s Service) stop(t *config.Target) run.Cmd {
	return run.Command("service", "jail", "stop", t.Name)
}
func (s Service) start(t *config.Target) run.Cmd {
	return run.Command("service", "jail", "start", t.Name)
}

// checks are the commands that tell whether a jail is up: jls(8), and the health command of cfgd.toml.
func (s Service) checks(t *config.Target) []run.Cmd {
	all := []run.Cmd{jailhooks.RunningCommand(t.Name)}
	if t.Health != "" {
		all = append(all, run.Command("sh", "-c", t.Health))
	}
	return all
}

// Plan returns all commands, in order.
func (s Service) Plan(t *config.Target) []run.Cmd {
	return append([]run.Cmd{s.stop(t), s.start(t)}, s.checks(t)...)
}

func (s Service) do(ctx context.Context, c run.Cmd) error {
	_, err := s.Run.Run(ctx, c)
	return err
}

// Up checks until the jail is up, for at most upWithin.
func (s Service) Up(ctx context.Context, t *config.Target) error {
	ctx, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	for {
		err := s.well(ctx, t)
		if err == nil {
			return nil
		}
		if perr := s.pause(ctx); perr != nil {
			return fmt.Errorf("after %v: %w", upWithin, err)
		}
	}
}

// Runs reports whether the jail runs, healthy or not.
func (s Service) Runs(ctx context.Context, t *config.Target) bool {
	return s.do(ctx, s.checks(t)[0]) == nil
}

func (s Service) well(ctx context.Context, t *config.Target) error {
	for _, c := range s.checks(t) {
		if err := s.do(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (s Service) pause(ctx context.Context) error {
	if s.Pause != nil {
		return s.Pause(ctx)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
		return nil
	}
}

// Embedded starts and stops jails with --root: no jail runs there, so a start or stop is only the jail's
// hooks.
type Embedded struct {
	Hooks func(t *config.Target) *jailhooks.Hooks
}

// Stop runs the stop's hook.
func (e Embedded) Stop(ctx context.Context, t *config.Target) error {
	_, err := e.Hooks(t).Cleanup(ctx)
	return err
}

// Start runs the start's hook.
func (e Embedded) Start(ctx context.Context, t *config.Target) error {
	_, err := e.Hooks(t).Init(ctx)
	return err
}

// Up reports an error unless the live tree is populated.
func (e Embedded) Up(_ context.Context, t *config.Target) error {
	if e.Runs(context.Background(), t) {
		return nil
	}
	return errors.New("its /etc is not populated")
}

// Runs reports the same: nothing else can run.
func (e Embedded) Runs(_ context.Context, t *config.Target) bool {
	st, err := e.Hooks(t).Overlay.State()
	return err == nil && st.Populated
}

// Plan returns no command.
func (e Embedded) Plan(*config.Target) []run.Cmd { return nil }
