package main

import (
	"log/syslog"

	"github.com/urfave/cli/v2"

	"cfgd/internal/pathname"
)

// hook runs a hook of a jail, and hands its error to syslogd(8) as well: rc.d/jail throws away what a stop prints, once
// the jail is gone, and nobody would hear that its etc is still mounted.
func (s *session) hook(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		err := action(c)
		if code := exitCode(err); err != nil && !c.Bool("plan") && code != exitUsage {
			s.toSyslog(syslog.LOG_ERR, err.Error())
		}
		return err
	}
}

// hookWarn is warn for what a hook has to say.
func (s *session) hookWarn(target, words string) {
	s.warn(target, words)
	s.toSyslog(syslog.LOG_WARNING, target+": "+words)
}

// toSyslog hands a line to syslogd(8). Without a running syslogd the line is lost. With --root nothing of the
// machine's is touched.
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
