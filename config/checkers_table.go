package config

import "time"

// checkWithin is how long a checker may take. A checker that takes longer has no result.
const checkWithin = 5 * time.Second

// shell is a parser of sh(1): with -n it reads and runs nothing.
var shell = []string{"sh", "-n"}

var visudo = []string{"visudo", "-c", "-f", "FILE"}

// newsyslog with -n rotates nothing, and with -r it need not be root to say so.
var newsyslog = []string{"newsyslog", "-n", "-r", "-f", "FILE"}

// builtinCheckers is the table of checkers: the first that matches wins, after the administrator's own
// [[checker]].
var builtinCheckers = []Checker{
	{
		Match:   "/rc.conf",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "rc(8) reads it with sh(1)",
	},
	{
		Match:   "/rc.conf.local",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "rc(8) reads it with sh(1)",
	},
	{
		Match:   "/rc.conf.d/**",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "rc(8) reads it with sh(1)",
	},
	{
		Match:   "/defaults/rc.conf",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "rc(8) reads it with sh(1)",
	},
	{
		Match:   "/rc.d/**",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "a script of sh(1)",
	},
	{
		Match:   "/local/rc.d/**",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "a script of sh(1)",
	},
	{
		Match:   "/periodic.conf",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "periodic(8) reads it with sh(1)",
	},
	{
		Match:   "/periodic.conf.local",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "periodic(8) reads it with sh(1)",
	},
	{
		Match:   "/defaults/periodic.conf",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "periodic(8) reads it with sh(1)",
	},
	{
		Match:   "/profile",
		Command: shell,
		Stdin:   true,
		Timeout: checkWithin,
		Where:   WhereHost,
		Reason:  "sh(1) reads it at a login",
	},

	{
		Match:  "/crontab",
		Syntax: "crontab",
		Where:  WhereHost,
		Reason: "cron(8) leaves out what it cannot read",
	},
	{
		Match:  "/cron.d/**",
		Syntax: "crontab",
		Where:  WhereHost,
		Reason: "cron(8) leaves out what it cannot read",
	},
	{
		Match:  "/syslog.conf",
		Syntax: "syslog.conf",
		Where:  WhereHost,
		Reason: "syslogd(8) leaves out what it cannot read",
	},

	{
		Match:   "/ssh/sshd_config",
		Command: []string{"sshd", "-t", "-f", "FILE"},
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "sshd(8) does not start with a bad one",
	},
	{
		Match:   "/namedb/named.conf",
		Command: []string{"named-checkconf", "FILE"},
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "named(8) does not start with a bad one",
	},
	{
		Match:   "/local/namedb/named.conf",
		Command: []string{"named-checkconf", "FILE"},
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "named(8) does not start with a bad one",
	},
	{
		Match:   "/local/nginx/nginx.conf",
		Command: []string{"nginx", "-t", "-c", "FILE"},
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "nginx(8) does not start with a bad one",
	},
	{
		Match:   "/local/sudoers",
		Command: visudo,
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "with a bad one nobody becomes root",
	},
	{
		Match:   "/local/sudoers.d/**",
		Command: visudo,
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "with a bad one nobody becomes root",
	},
	{
		Match:   "/newsyslog.conf",
		Command: newsyslog,
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "newsyslog(8) rotates nothing with a bad one",
	},
	{
		Match:   "/newsyslog.conf.d/**",
		Command: newsyslog,
		Timeout: checkWithin,
		Where:   WhereTarget,
		Reason:  "newsyslog(8) rotates nothing with a bad one",
	},
}
