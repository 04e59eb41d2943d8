package rcconf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cfgd/config/conffile"
	"cfgd/config/conffile/conffiletest"
)

// rcOf evaluates files and returns the state of the variables.
func rcOf(t testing.TB, files map[string]string) (*Conf, error) {
	t.Helper()
	read, err := conffile.Open(conffiletest.Machine(t, files))
	if err != nil {
		t.Fatal(err)
	}
	return Load(read)
}

// A plain assignment has the value that sh(1) would give it. "?" is a value that only a shell knows.
func TestRcConfValues(t *testing.T) {
	const unknown = "?"
	for text, want := range map[string]string{
		`x=a`:                            "a",
		`x="a b"`:                        "a b",
		`x='a $y'`:                       "a $y",
		`x=a\ b`:                         "a b",
		`x="a\"b\$c\\d\e"`:               `a"b$c\d\e`,
		`x=a'b'"c"`:                      "abc",
		`x="a" # comment`:                "a",
		"x=\"a\nb\"":                     "a\nb",
		"x=\"a\\\nb\"":                   "ab",
		`x=`:                             "",
		`x=*`:                            "*",
		`y=1; x=$y`:                      "1",
		`x=\$y\a`:                        "$ya",
		`x=${y:-a\ b}`:                   unknown,
		`y=1; x="${y}2"`:                 "12",
		`y="a b"; x=$y`:                  "a b",
		`x=$y`:                           "",
		`x=${y:-d}`:                      "d",
		`y=1; x=${y:-d}`:                 "1",
		`y=; x=${y-d}`:                   "",
		`y=1; x=${y:+z}`:                 "z",
		`x=${y:-${z:-d}}`:                "d",
		`y=a.conf; x=${y%.conf}`:         "a",
		`y=/a/b; x=${y##*/}`:             "b",
		`y=abc; x=${#y}`:                 "3",
		`: ${x:=d}`:                      "d",
		`x=1; : ${x:=d}`:                 "1",
		`x=a; x="$x b"; x="$x c"`:        "a b c",
		`export x=a`:                     "a",
		`readonly x="a"`:                 "a",
		`{ x=a; }`:                       "a",
		`x=a; unset x`:                   "",
		`x=1 y=2`:                        "1",
		`x=a y=$x; x=$y$y`:               "aa",
		`x=1 true`:                       "", // for the command alone
		`x=1; (x=2)`:                     unknown,
		`x=$(id)`:                        unknown,
		"x=`id`":                         unknown,
		`x="a$(id)"`:                     unknown,
		`x=${y:-$(id)}`:                  unknown,
		`x=$((1+1))`:                     unknown,
		`x=$$`:                           unknown,
		`x=$1`:                           unknown,
		`x=$?`:                           unknown,
		`x=~/a`:                          unknown,
		`x=${y:?gone}`:                   unknown,
		`y=$(id); x=$y`:                  unknown,
		`y=$(id); y=1; x=$y`:             "1",
		`if true; then x=1; fi`:          unknown,
		`true && x=1`:                    unknown,
		`! x=1`:                          unknown,
		`x=1 &`:                          unknown,
		`for x in a b; do :; done`:       unknown,
		`for i in a; do x=$i; done`:      unknown,
		`case a in a) x=1;; esac`:        unknown,
		`while false; do x=1; done`:      unknown,
		`f() { x=1; }`:                   unknown,
		`x=1; if a; then y=1; fi; x=$x2`: "",
	} {
		c, err := rcOf(t, map[string]string{"/etc/rc.conf": text + "\n"})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		v := c.vars["x"]
		got := v.value
		if c.Unknown("x") {
			got = unknown
		}
		if got != want {
			t.Errorf("%s: x is %q, want %q", text, got, want)
		}
		conffiletest.WantProblems(t, c.Problems) // x matters to nobody
	}
}

// What cannot be followed is reported if it concerns a jail_ variable, and only then.
func TestRcConfWarnings(t *testing.T) {
	for text, want := range map[string]string{
		`jail_list=$(ls /jail)`: `1 warning: jail_list depends on a ` +
			`command substitution, which cfgd does not run`,
		"\njail_list=`ls /jail`": `2 warning: jail_list depends on a ` +
			`command substitution`,
		`if [ -d /jail ]; then jail_list=a; fi`:                  `1 warning: jail_list depends on an if`,
		`for i in a b; do eval jail_${i}_rootdir=/jail/$i; done`: `1 warning: jail_ depends on a loop`,
		`case $x in a) jail_list=b;; esac`:                       `1 warning: jail_list depends on a case`,
		`f() { jail_list=a; }`: `1 warning: jail_list depends on a ` +
			`function`,
		`[ -d /jail ] && jail_list=a`:  `1 warning: jail_list depends on a condition or pipe`,
		`jail_list=a; jail_list+=" b"`: `1 warning: jail_list depends on a command, which`,
		`jail_list+=b`:                 `1 warning: jail_list depends on a command, which`,
		`eval "jail_list=a"`:           `1 warning: jail_list depends on a command, which`,
		`read jail_list < /etc/jails`:  `1 warning: jail_list depends on a command, which`,
		`setvar jail_list a`:           `1 warning: jail_list depends on a command, which`,
		`x=$(id); jail_list=$x`: `1 warning: jail_list depends on the value of x, which is ` +
			`unknown since /etc/rc.conf:1`,
		". /etc/jails": `1 warning: jail_list depends on reading /etc/jails, which ` +
			`cfgd does not follow`,
		`if [ -n "$jail_list" ]; then x=1; fi`: "",
		`echo "jail_list is $jail_list"`:       "",
		`[ -f /etc/x ] && . /etc/x`:            "",
		`. /etc/nothing`:                       "",
		`touch /ran; x=$(touch /ran)`:          "",
	} {
		c, err := rcOf(t, map[string]string{"/etc/rc.conf": text + "\n", "/etc/jails": "jail_list=z\n"})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if want == "" {
			conffiletest.WantProblems(t, c.Problems)
		} else {
			conffiletest.WantProblems(t, c.Problems, "/etc/rc.conf:"+want)
		}
		if v, _, ok := c.Get("jail_list"); ok && want != "" {
			t.Errorf("%s: jail_list is %q", text, v)
		}
	}
}

func TestRcConfMalformed(t *testing.T) {
	for text, want := range map[string]string{
		"a=1\nb=\"c\nd=2\n":                   "/etc/rc.conf:2:3: reached EOF without closing quote",
		"a=1\nif true; then\n":                "/etc/rc.conf:2:10: ",
		"a=$(\n":                              "/etc/rc.conf:1:3: ",
		"a=(b c)\n":                           "/etc/rc.conf:1:3: ",
		"fi\n":                                "/etc/rc.conf:1:1: ",
		strings.Repeat("# comment\n", 30_000): "/etc/rc.conf: larger than 256 KiB",
	} {
		_, err := rcOf(t, map[string]string{"/etc/rc.conf": text})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
}

// A file that nests as deep as its size allows is refused or read, but never ends the program.
func TestRcConfNesting(t *testing.T) {
	for _, s := range []string{"$(", "(", "a=${b:-", "if "} {
		_, err := parseShell("x", []byte(strings.Repeat(s, maxFile/len(s))))
		if err == nil {
			t.Errorf("%q: no error", s)
		}
	}
}

// Doubling a value on every line must not fill the memory.
func TestRcConfGrowth(t *testing.T) {
	text := "x=0123456789\n" + strings.Repeat("x=$x$x$x$x\n", 100) + "jail_list=$x\n"
	c, err := rcOf(t, map[string]string{"/etc/rc.conf": text})
	if err != nil {
		t.Fatal(err)
	}
	conffiletest.WantProblems(t, c.Problems, "/etc/rc.conf:102 warning: jail_list depends on the value of x")
}

// The files and their order are those of rc.subr's load_rc_config for rc.d/jail.
func TestRcConfOrder(t *testing.T) {
	files := map[string]string{}
	for i, name := range []string{"/etc/defaults/rc.conf", "/etc/rc.conf", "/etc/rc.conf.local",
		"/etc/rc.conf.d/jail",
		"/usr/local/etc/rc.conf.d/jail/10-a", "/usr/local/etc/rc.conf.d/jail/20-b"} {
		files[name] = fmt.Sprintf("jail_list=\"$jail_list %d\"\n", i)
	}
	c, err := rcOf(t, files)
	if err != nil {
		t.Fatal(err)
	}
	if v, at, _ := c.Get("jail_list"); v != " 0 1 2 3 4 5" ||
		at.String() != "/usr/local/etc/rc.conf.d/jail/20-b:1" {
		t.Errorf("jail_list=%q at %s", v, at)
	}
}

func TestRcConfFilesOfDefaults(t *testing.T) {
	c, err := rcOf(t, map[string]string{
		"/etc/defaults/rc.conf": "rc_conf_files=\"/etc/rc.conf /etc/rc.conf.site\"\n",
		"/etc/rc.conf.site":     "jail_list=site\n",
		"/etc/rc.conf.local":    "jail_list=local\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	if v, _, _ := c.Get("jail_list"); v != "site" {
		t.Errorf("jail_list=%q", v)
	}
}

// FuzzRcConf: any text ends in values and warnings or an error, and nothing of it runs.
func FuzzRcConf(f *testing.F) {
	mark := filepath.Join(f.TempDir(), "ran")
	for _, s := range []string{"jail_list=\"proto vhost1\"\njail_vhost1_rootdir=\"/jail/vhost1\" # comment\n",
		"jail_list=$(touch " + mark + ")", "`touch " + mark + "`",
		"touch " + mark, ". " + mark,
		"a=${b:-${c:=d}}; jail_list=\"$a $jail_list\"", "a=$((1/0)) b=${x%%*} c=${x/y/z} d=${!x} e=${x@Q}",
		"export a=1 b", "a=~root", "f() { a=1; }; f",
		"jail_list=${a:?no}\nif x; then jail_a_rootdir=/b; fi", "cat <<!\njail_list=a\n!\n"} {
		f.Add(s)
	}
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		read, err := conffile.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		c := newConf(read)
		parsed, err := parseShell("/etc/rc.conf", []byte(text))
		if err == nil {
			c.stmts("/etc/rc.conf", parsed.Stmts)
		} else if e, ok := err.(*conffile.Error); !ok || e.File != "/etc/rc.conf" {
			t.Errorf("error %v", err)
		}
		if _, err := os.Stat(mark); err == nil {
			t.Fatalf("%q was run", text)
		}
	})
}
