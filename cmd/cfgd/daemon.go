package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/nano"
	"cfgd/overlay"
	"cfgd/watcher"
)

func (s *session) daemonCommand() *cli.Command {
	return &cli.Command{
		Name: "daemon", Usage: "watch all targets, and save what changes",
		Description: "" +
			"Runs in the foreground; daemon(8) or systemd runs it in the background. Logs to standard " +
			"error. SIGTERM saves once more and ends the daemon. SIGHUP makes it read the " +
			"configuration again. SIGINFO (SIGUSR1 on Linux) writes the state of all targets to the " +
			"log.",
		Action: func(c *cli.Context) error {
			if err := counted(c, 0, 0); err != nil {
				return err
			}
			sparing()
			ctx, cancel := context.WithCancel(c.Context)
			tried := make(chan struct{})
			go func() { defer close(tried); s.try(ctx) }()
			err := s.daemon(nil).Run(ctx)
			cancel()
			<-tried
			return err
		},
	}
}

// sparing makes the daemon keep little more memory than it uses, because it is idle most of the time. The
// first scans read everything; the memory that they took goes back to the system.
func sparing() {
	debug.SetGCPercent(25)
	time.AfterFunc(time.Minute, debug.FreeOSMemory)
}

// daemon returns the daemon of the machine. It closes ready when it watches.
func (s *session) daemon(ready chan<- struct{}) *watcher.Daemon {
	return &watcher.Daemon{
		Load: s.load, Log: s.logger(), Reload: notified(syscall.SIGHUP), Info: notified(infoSignal),
		MountCfg: mountCfg, ClearStopped: s.clearStopped, Ready: ready, Version: version(),
	}
}

// clearStopped clears what a failed start or stop left of a jail that does not run.
func (s *session) clearStopped(ctx context.Context, m *config.Model, t *config.Target) (did string, err error) {
	own := &session{
		out: io.Discard, err: s.err, root: s.root, config: s.config, level: s.level,
		loaded: m, bases: overlay.NewBases(),
	}
	done, err := own.hooks(t).ClearStopped(ctx)
	if err != nil || done.AlreadyClean && len(done.Unmounted) == 0 {
		return "", err
	}
	what := append([]string{"saved and taken away " + t.Live}, done.Warnings...)
	if len(done.Unmounted) > 0 {
		what = append(what, "unmounted "+strings.Join(done.Unmounted, " "))
	}
	return strings.Join(what, "; "), nil
}

func notified(sig os.Signal) <-chan os.Signal {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, sig)
	return ch
}

// try waits for the end of the running image's trial and settles it. If there is no trial, it does nothing.
func (s *session) try(ctx context.Context) {
	m, err := s.load()
	if err != nil {
		return // the daemon reports it
	}
	own := &session{
		out: s.out, err: s.err, root: s.root, config: s.config, level: s.level, loaded: m,
		bases: overlay.NewBases(),
	}
	host := m.Target(config.HostName)
	if host == nil {
		return
	}
	log := own.logger()
	said, began := "", time.Now()
	retry(ctx, func() bool {
		outcome, err := own.settleTrial(ctx, host, began)
		switch {
		case err == nil && outcome == nano.Confirmed:
			log.Info().Msg("the image on trial is well, and stays")
		case err == nil && outcome == nano.GoesBack:
			log.Warn().Msg("the image on trial was not confirmed: the one before boots again")
		case err != nil && err.Error() != said:
			said = err.Error()
			log.Error().Err(err).Msg("the image on trial")
		}
		return err == nil || outcome != nano.Untried
	})
}

// settleTrial settles the trial of the running image, if there is one. The trial began at began.
func (s *session) settleTrial(
	ctx context.Context, host *config.Target, began time.Time,
) (nano.Outcome, error) {
	disk, err := s.nano(ctx)
	if isConfigError(err) {
		return nano.Untried, nil // no NanoBSD host, or check reports what is wrong with it
	}
	if err != nil {
		return nano.Untried, fmt.Errorf("whether the image is on trial is not known: %w", err)
	}
	trials := s.trials(disk, host)
	trials.Since = began
	return trials.Run(ctx)
}

// The pauses of retry: at boot a device may appear late, and cfg may be mounted late.
const (
	firstPause = time.Second
	mostPause  = 5 * time.Minute
)

// retry calls do until do returns true or ctx ends. The pauses between the calls grow.
func retry(ctx context.Context, do func() (done bool)) {
	for pause := firstPause; !do(); pause = min(2*pause, mostPause) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
