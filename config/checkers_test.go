package config

import (
	"cmp"
	"strings"
	"testing"

	"cfgd/config/pattern"
)

// Every line of the built-in table, by a path that it matches and the command that is then run.
func TestBuiltinCheckers(t *testing.T) {
	t.Parallel()
	met := map[string]bool{}
	for _, c := range []struct{ path, match, command string }{
		{"rc.conf", "/rc.conf", "sh -n < F"},
		{"rc.conf.local", "/rc.conf.local", "sh -n < F"},
		{"rc.conf.d/jail", "/rc.conf.d/**", "sh -n < F"},
		{"defaults/rc.conf", "/defaults/rc.conf", "sh -n < F"},
		{"rc.d/sshd", "/rc.d/**", "sh -n < F"},
		{"local/rc.d/nginx", "/local/rc.d/**", "sh -n < F"},
		{"periodic.conf", "/periodic.conf", "sh -n < F"},
		{"periodic.conf.local", "/periodic.conf.local", "sh -n < F"},
		{"defaults/periodic.conf", "/defaults/periodic.conf", "sh -n < F"},
		{"profile", "/profile", "sh -n < F"},
		{"crontab", "/crontab", "crontab"},
		{"cron.d/at", "/cron.d/**", "crontab"},
		{"syslog.conf", "/syslog.conf", "syslog.conf"},
		{"ssh/sshd_config", "/ssh/sshd_config", "sshd -t -f F"},
		{"namedb/named.conf", "/namedb/named.conf", "named-checkconf F"},
		{"local/namedb/named.conf", "/local/namedb/named.conf", "named-checkconf F"},
		{"local/nginx/nginx.conf", "/local/nginx/nginx.conf", "nginx -t -c F"},
		{"local/sudoers", "/local/sudoers", "visudo -c -f F"},
		{"local/sudoers.d/wheel", "/local/sudoers.d/**", "visudo -c -f F"},
		{"newsyslog.conf", "/newsyslog.conf", "newsyslog -n -r -f F"},
		{"newsyslog.conf.d/amd.conf", "/newsyslog.conf.d/**", "newsyslog -n -r -f F"},
	} {
		met[c.match] = true
		got, ok := (*Checkers)(nil).Of(c.path)
		command := cmp.Or(strings.Join(got.Words("F"), " "), got.Syntax)
		if got.Stdin {
			command += " < F"
		}
		if !ok || got.Match != c.match || command != c.command {
			t.Errorf("%s: %v, %s: %s", c.path, ok, got.Match, command)
		}
	}
	for _, c := range builtinCheckers {
		if !met[c.Match] {
			t.Errorf("%s has no example", c.Match)
		}
	}
	for _, path := range []string{
		"hosts", "local/rc.conf", "x/rc.d/y", "rc.d", "local/nginx/mime.types", "ssh/sshd_config.orig",
		"a/crontab",
	} {
		if c, ok := new(Checkers).Of(path); ok {
			t.Errorf("%s: %v", path, c)
		}
	}
}

// Every line of the table can be run and says why it is there.
func TestBuiltinCheckersAreWhole(t *testing.T) {
	t.Parallel()
	for _, c := range new(Checkers).Table() {
		named := strings.Contains(strings.Join(c.Command, " "), "FILE")
		switch {
		case pattern.Check(c.Match) != nil || c.Reason == "" || c.Where == "":
		case c.Syntax != "":
			if len(c.Command) == 0 && !c.Stdin {
				continue
			}
		case len(c.Command) > 0 && c.Timeout > 0 && c.Stdin != named && c.Stdin == (c.Where == WhereHost):
			continue
		}
		t.Errorf("%+v", c)
	}
}

// FILE is replaced only as a whole word, and Words does not change the table.
func TestWordsOfAChecker(t *testing.T) {
	t.Parallel()
	c := Checker{Command: []string{"p", "-DPROFILE", "FILE", "FILE"}}
	for _, file := range []string{"/etc/x", "FILE/y"} {
		if got := strings.Join(c.Words(file), " "); got != "p -DPROFILE "+file+" "+file {
			t.Error(got)
		}
	}
}
