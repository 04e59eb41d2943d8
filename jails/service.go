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
	// Pause waits between two looks whether a jail came up; nil is a second.
	Pause func(ctx context.Context) error
}

// upWithin is how long a jail may take to be well after its start.
const upWithin = time.Minute

// Stop runs rc.d/jail.
func (s Service) Stop(ctx context.Context, t *config.Target) error { return s.do(ctx, s.stop(t)) }

// Start runs rc.d/jail, which ends well whether the jail started or not: Up tells.
func (s Service) Start(ctx context.Context, t *config.Target) error { return s.do(ctx, s.start(t)) }

func (s Service) stop(t *config.Target) run.Cmd {
	return run.Command("service", "jail", "stop", t.Name)
}
func (s Service) start(t *config.Target) run.Cmd {
	return run.Command("service", "jail", "start", t.Name)
}

// looks are what tells that a jail is up: jls(8), and the health command of cfgd.toml.
func (s Service) looks(t *config.Target) []run.Cmd {
	all := []run.Cmd{jailhooks.Asks(t.Name)}
	if t.Health != "" {
		all = append(all, run.Command("sh", "-c", t.Health))
	}
	return all
}

// Plan is all of it, in order.
func (s Service) Plan(t *config.Target) []run.Cmd {
	return append([]run.Cmd{s.stop(t), s.start(t)}, s.looks(t)...)
}

func (s Service) do(ctx context.Context, c run.Cmd) error {
	_, err := s.Run.Run(ctx, c)
	return err
}

// Up looks until the jail is well, for as long as a jail may take.
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

// Runs reports whether the jail runs, well or not.
func (s Service) Runs(ctx context.Context, t *config.Target) bool {
	return s.do(ctx, s.looks(t)[0]) == nil
}

func (s Service) well(ctx context.Context, t *config.Target) error {
	for _, c := range s.looks(t) {
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

// Embedded are jails of --root: no jail runs there, and its hooks are all that a stop and a start are.
type Embedded struct {
	Hooks func(t *config.Target) *jailhooks.Hooks
}

// Stop is the stop's hook.
func (e Embedded) Stop(ctx context.Context, t *config.Target) error {
	_, err := e.Hooks(t).Cleanup(ctx)
	return err
}

// Start is the start's hook.
func (e Embedded) Start(ctx context.Context, t *config.Target) error {
	_, err := e.Hooks(t).Init(ctx)
	return err
}

// Up looks whether the live tree is populated.
func (e Embedded) Up(_ context.Context, t *config.Target) error {
	if e.Runs(context.Background(), t) {
		return nil
	}
	return errors.New("its /etc is not populated")
}

// Runs is the same: there is nothing else.
func (e Embedded) Runs(_ context.Context, t *config.Target) bool {
	st, err := e.Hooks(t).Overlay.State()
	return err == nil && st.Populated
}

// Plan runs no command.
func (e Embedded) Plan(*config.Target) []run.Cmd { return nil }
