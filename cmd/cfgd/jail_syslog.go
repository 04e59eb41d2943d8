package main

import (
	"log/syslog"

	"github.com/urfave/cli/v2"

	"cfgd/internal/pathname"
)

// hook runs a hook of a jail, and sends its error to syslogd(8) too. rc.d/jail throws away what a stop prints
// when the jail is gone, and then nobody would learn that its etc is still mounted.
func (s *session) hook(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		err := action(c)
		if code := exitCode(err); err != nil && !c.Bool("plan") && code != exitUsage {
			s.toSyslog(syslog.LOG_ERR, err.Error())
		}
		return err
	}
}

// hookWarn prints a warning of a hook, and sends it to syslogd(8).
func (s *session) hookWarn(target, words string) {
	s.warn(target, words)
	s.toSyslog(syslog.LOG_WARNING, target+": "+words)
}

// toSyslog sends a line to syslogd(8). If syslogd does not run, the line is lost. With --root nothing is
// sent.
func (s *session) toSyslog(severity syslog.Priority, words string) {
	if s.root != "" {
		return
	}
	w, err := syslog.New(severity|syslog.LOG_DAEMON, "cfgd")
	if err != nil {
		return
	}
	defer w.Close()
	_, _ = w.Write([]byte(pathname.Plain(words)))
}
