package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/nano"
	"cfgd/watcher"
)

func daemonCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "daemon", Usage: "watch all targets, and save what changes",
		Description: "" +
			"Runs in the foreground; daemon(8) or systemd runs it in the background. Logs to standard " +
			"error. SIGTERM saves once more, except files that have just become empty, and ends the " +
			"daemon. SIGHUP makes it read the " +
			"configuration again. SIGINFO (SIGUSR1 on Linux) writes the state of all targets to the " +
			"log.",
		Action: s.action(runDaemon),
	}
}

func runDaemon(s *session, c *cli.Context) error {
	sparing()
	ctx, cancel := context.WithCancel(c.Context)
	settled := make(chan struct{})
	go func() { defer close(settled); settleTrial(ctx, s) }()
	err := newDaemon(s, nil).Run(ctx)
	cancel()
	<-settled
	return err
}

// sparing makes the daemon keep little more memory than it uses, because it is idle most of the time. The
// first scans read everything; the memory that they took goes back to the system.
func sparing() {
	debug.SetGCPercent(25)
	time.AfterFunc(time.Minute, debug.FreeOSMemory)
}

// newDaemon returns the daemon of the machine. It closes ready when it watches.
func newDaemon(s *session, ready chan<- struct{}) *watcher.Daemon {
	return &watcher.Daemon{
		Load: s.load, Log: s.logger(), Reload: notified(syscall.SIGHUP), Info: notified(infoSignal),
		MountCfg: mountCfg, Ready: ready, Version: version(),
		ClearStopped: func(ctx context.Context, m *config.Model, t *config.Target) (string, error) {
			return clearStopped(ctx, newMachine(m, s.load), t)
		},
	}
}

// clearStopped clears what a failed start or stop left of a jail that does not run. It returns what was
// done, or "" if there was nothing to do.
func clearStopped(ctx context.Context, m *machine, t *config.Target) (string, error) {
	done, err := m.hooks(t).ClearStopped(ctx)
	if err != nil || done.AlreadyClean && len(done.Unmounted) == 0 {
		return "", err
	}
	did := append([]string{"saved and taken away " + t.Live}, done.Warnings...)
	if len(done.Unmounted) > 0 {
		did = append(did, "unmounted "+strings.Join(done.Unmounted, " "))
	}
	return strings.Join(did, "; "), nil
}

func notified(sig os.Signal) <-chan os.Signal {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, sig)
	return ch
}

// settleTrial waits for the end of the running image's trial and settles it. If there is no trial, it does
// nothing.
func settleTrial(ctx context.Context, s *session) {
	model, err := s.load()
	if err != nil {
		return // the daemon reports it
	}
	m, log := newMachine(model, s.load), s.logger()
	trials := func(ctx context.Context) (*nano.Trials, error) { return hostTrials(ctx, m, s.warnMachine) }
	nano.SettleTrial(ctx, trials, func(outcome nano.Outcome, err error) {
		switch {
		case err != nil:
			log.Error().Err(err).Msg("the image on trial")
		case outcome == nano.Confirmed:
			log.Info().Msg("the image on trial is well, and stays")
		case outcome == nano.GoesBack:
			log.Warn().Msg("the image on trial was not confirmed: the one before boots again")
		}
	})
}

// hostTrials returns the trials of a NanoBSD host; nil if this is none, or if cfgd check reports what is
// wrong with its configuration.
func hostTrials(ctx context.Context, m *machine, warn func(string)) (*nano.Trials, error) {
	if m.host() == nil {
		return nil, nil
	}
	d, err := m.disk(ctx, warn)
	switch {
	case nano.NoHost(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return m.trials(d), nil
}
