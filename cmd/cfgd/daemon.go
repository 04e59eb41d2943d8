package main

import (
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/watcher"
)

func (s *session) daemonCommand() *cli.Command {
	return &cli.Command{
		Name: "daemon", Usage: "watch all targets and save what changes, in the foreground",
		Description: "daemon(8) or systemd puts it behind. SIGTERM saves once more and ends; SIGHUP reads the configuration anew;\n" +
			infoSignalName + " writes the state of all targets to the log, which goes to standard error.",
		Action: func(c *cli.Context) error {
			if err := counted(c, 0, 0); err != nil {
				return err
			}
			sparing()
			return s.daemon(nil).Run(c.Context)
		},
	}
}

// sparing makes the daemon keep little more memory than it uses: it idles most of the time, and a look leaves little behind. What the
// first looks took, which read everything, goes back to the system.
func sparing() {
	debug.SetGCPercent(25)
	time.AfterFunc(time.Minute, debug.FreeOSMemory)
}

// daemon is the daemon of the machine, which closes ready when it is at work.
func (s *session) daemon(ready chan<- struct{}) *watcher.Daemon {
	return &watcher.Daemon{
		Load: s.load, Log: s.logger(), Reload: notified(syscall.SIGHUP), Info: notified(infoSignal), MountCfg: mountCfg, Ready: ready, Version: version(),
	}
}

func notified(sig os.Signal) <-chan os.Signal {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, sig)
	return ch
}
