package check

import (
	"fmt"
	"strings"
	"testing"
)

func TestCrontab(t *testing.T) {
	t.Parallel()
	const good = `# /etc/crontab - root's crontab
SHELL=/bin/sh
PATH = /etc:/bin:/sbin
#minute	hour	mday	month	wday	who	command
*/5	*	*	*	*	root	/usr/libexec/atrun
1,31	0-5	*	*	*	root	adjkerntz -a
15 4 * jan-mar mon,wed-fri root periodic weekly
0 0-23/2 * * 7 www /usr/local/bin/job --x=1
@daily	root	/bin/x
@600 nobody /bin/y
`
	if err := crontab([]byte(good)); err != nil {
		t.Error(err)
	}
	for line, says := range map[string]string{
		"60 * * * * root x": `minute "60"`, "* * 0 * * root x": `day of month "0"`,
		"* * * * root x": "6 fields", "* 5-3 * * * root x": `hour "5-3"`,
		"*/0 * * * * root x": `minute "*/0"`,
		"* * * foo * root x": `month "foo"`, "@sometimes root x": "no time",
		"@daily root": "no user and command", "a b": "2 fields", "<<<<<<< saved x y z": "5 fields",
		"=======": "1 fields", "= x": "2 fields",
	} {
		if err := crontab([]byte(good + line + "\n")); err == nil ||
			!strings.Contains(err.Error(), "line 11: ") ||
			!strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestSyslogConf(t *testing.T) {
	t.Parallel()
	const good = `# comments
*.err;kern.warning;auth.notice;mail.crit		/dev/console
security.*					/var/log/security
cron.*	-/var/log/cron
*.emerg	*
*.notice	root,ann
*.*	@loghost
!ppp
*.*	/var/log/ppp.log
+host
!*
include						/etc/syslog.d
`
	if err := syslogConf([]byte(good)); err != nil {
		t.Error(err)
	}
	for line, says := range map[string]string{"security.*": "no action",
		"security /var/log/x": "not FACILITY.LEVEL", "*.* {x}": "neither a file",
		"======= x": "not FACILITY.LEVEL"} {
		if err := syslogConf([]byte(good + line + "\n")); err == nil ||
			!strings.Contains(err.Error(), "line 13: ") ||
			!strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// cron(8) ignores a last line that has no newline. A comment may lack one.
func TestCrontabsLastLine(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"": "", "# x": "", "A=b\n#": "", "A=b\n  ": "", "* * * * * root x": "line 1: no newline",
		"A=b\nC=d": "line 2: no newline",
	} {
		if err := crontab([]byte(text)); (err == nil) != (says == "") ||
			err != nil && !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzSyntax expects an answer on any content, and that the line it names exists.
func FuzzSyntax(f *testing.F) {
	f.Add([]byte("* * * * * root x\n@1 a b\n"))
	f.Add([]byte("*.* /x\n+\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, check := range syntaxes {
			n, err := 0, check(b)
			if err == nil {
				continue
			}
			if _, scan := fmt.Sscanf(err.Error(), "line %d: ", &n); scan != nil || n < 1 ||
				n > strings.Count(string(b), "\n")+1 {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
