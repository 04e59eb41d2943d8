package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"cfgd/config/conffile"
	"cfgd/config/conffile/conffiletest"
)

const tomlName = "/usr/local/etc/cfgd.toml"

// loadWith loads the paper's machine without its mistake, with a cfgd.toml.
func loadWith(t testing.TB, text string) (*Model, error) {
	t.Helper()
	files := corrected()
	files[tomlName] = text
	files["/conf/base/etc/"] = ""
	return Load(Options{Root: conffiletest.Machine(t, files), Euid: -1})
}

func TestTomlSettings(t *testing.T) {
	m, err := loadWith(t, `
[defaults]
settle = "1s"
max_wait = "1m30s"
memory_size = "32M"
max_file = 1000
watch = "scan"
keep_generations = 7

[host]
cfg = "/mnt/cfg/"
keep_bytes = "256k"

[jail.vhost1]
settle = "2s"
on_conflict = "theirs"
rescan = "2m"
rehash = "2h"
health = "jexec vhost1 service nginx status"

[jail.extra]
root = "/srv/extra"
base = "/srv/proto/.cfgd/snapshot/3/etc"

[prototype.proto]
dataset = "zpool/proto"

[[path]]
match = "/etc/motd"
class = "persist"
`)
	if err != nil {
		t.Fatal(err)
	}
	conffiletest.WantProblems(t, m.Problems)
	want := defaultSettings(false)
	want.Settle, want.MaxWait, want.MemorySize, want.MaxFile = 2*time.Second, 90*time.Second, 32<<20, 1000
	want.Watch, want.KeepGenerations, want.OnConflict, want.Memory = WatchScan, 7, ConflictTheirs, BackingDir
	want.Rescan, want.Rehash = 2*time.Minute, 2*time.Hour
	v := m.Target("vhost1")
	if v.Settings != want {
		t.Errorf("settings\n got %+v\nwant %+v", v.Settings, want)
	}
	if v.Health != "jexec vhost1 service nginx status" {
		t.Errorf("health %q", v.Health)
	}
	h := m.Target("host")
	if h.Cfg != "/mnt/cfg" || h.KeepBytes != 256<<10 || h.Settle != time.Second {
		t.Errorf("host %+v", h)
	}
	x := m.Target("extra")
	if x == nil || x.Base != "/srv/proto/.cfgd/snapshot/3/etc" || x.BaseID != "proto/etc@3" ||
		x.Live != "/srv/extra/etc" || x.Cfg != "/srv/extra/cfg" {
		t.Errorf("extra %+v", x)
	}
	if c, why := v.Classes.Of("motd"); c != Persist || why != "set at /usr/local/etc/cfgd.toml:28" {
		t.Errorf("motd is %s, %s", c, why)
	}
	for key, line := range map[string]int{"settle": 15, "memory_size": 5, "health": 19} {
		if at := v.Origin[key]; at != (conffile.At(tomlName, line)) {
			t.Errorf("origin of %s: %s", key, at)
		}
	}
	var protos []string
	for _, p := range m.Prototypes {
		protos = append(protos, p.Name+" "+p.Root+" "+p.Dataset)
	}
	if !reflect.DeepEqual(protos, []string{"proto /jail/proto zpool/proto", "srv/proto /srv/proto "}) {
		t.Errorf("prototypes %q", protos)
	}
}

// Each cfgd.toml has one mistake. The message names file and line and says what to do.
func TestTomlErrors(t *testing.T) {
	for text, want := range map[string]string{
		"[default]\n": `1: default is not known; did you mean defaults?`,
		"settle = \"1s\"\n": `1: settle is not known; known are defaults, host, ` +
			`jail, prototype, path`,
		"[defaults]\n\nsetle = \"1s\"\n": `3: defaults.setle is not known; did you mean ` +
			`settle?`,
		"[host]\nroot = \"/x\"\n": `2: host.root is not known; known are base, cfg, ` +
			`live, keep_bytes,`,
		"[defaults]\nhealth = \"x\"\n":    `2: defaults.health is not known`,
		"[jail.vhost1]\ntrial = \"1h\"\n": `2: jail.vhost1.trial is not known`,
		"[jail.vhost1]\nbases = \"/x\"\n": `2: jail.vhost1.bases is not known; did you mean ` +
			`base?`,
		"[prototype.proto]\nrot = \"\"\n": `2: prototype.proto.rot is not known; did you mean ` +
			`root?`,
		"[prototype.a]\ndataset = \"/zpool\"\n":        `2: prototype.a.dataset "/zpool" is no dataset`,
		"[prototype]\na = 1\n":                         `2: prototype.a is an integer, not a table`,
		"[[path]]\nmatch = \"a\"\nclas = \"secret\"\n": `3: path.clas is not known; did you mean class?`,
		"[jail.vhost1]\nsettle = \"1s\"\n[jail.vhost1]\nsettle = " +
			"\"1s\"\n": `3:2: Key 'jail.vhost1' has already been defined; write each table and key once`,
		"[defaults]\nsettle = \"1s\"\nsettle = \"1s\"\n": `3:1: Key 'defaults.settle' has already been ` +
			`defined; write each table and key once`,
		"[defaults]\nsettle = \n": `2:10: `,
		"[defaults\n":             `1:`,
		"[defaults]\nsettle = 5\n": `2: defaults.settle: 5 is an ` +
			`integer, not a duration; write a duration such as`,
		"[defaults]\nsettle = \"5\"\n": `2: defaults.settle: "5" is not a ` +
			`duration; write a duration such as`,
		"[defaults]\nsettle = \"-5s\"\n": `2: defaults.settle: "-5s" is not ` +
			`more than nothing`,
		"[defaults]\nsettle = \"1m\"\n": `2: settle 1m0s of host is longer ` +
			`than max_wait 5s; make max_wait the longer one`,
		"[defaults]\nmemory_size = \"16mb\"\n": `2: defaults.memory_size: "16mb" is not a size; write a ` +
			`size such as`,
		"[defaults]\nmemory_size = \"-16m\"\n": `2: defaults.memory_size: "-16m" is not a size`,
		"[defaults]\nmemory_size = \"m\"\n": `2: defaults.memory_size: "m" is ` +
			`not a size`,
		"[defaults]\nmemory_size = \"\"\n": `2: defaults.memory_size: "" is ` +
			`not a size`,
		"[defaults]\nmemory_size = \"1.5m\"\n": `2: defaults.memory_size: "1.5m" is not a size`,
		"[defaults]\nmemory_size = 1.5\n": `2: defaults.memory_size: 1.5 is a ` +
			`float, not a size`,
		"[defaults]\nmemory_size = 16\n": `2: defaults.memory_size: 16 is ` +
			`too small; write 1m or more`,
		"[defaults]\nmemory_size = \"100g\"\n": `2: defaults.memory_size: 100g is too large; write 64g ` +
			`or less`,
		"[defaults]\nmax_file = \"9999999999g\"\n": `2: defaults.max_file: "9999999999g" is not a size`,
		"[defaults]\nmax_file = 0\n": `2: defaults.max_file: 0 is too ` +
			`small; write 1 or more`,
		"[defaults]\nmemory = \"ram\"\n": `2: defaults.memory: "ram" is not ` +
			`known; write one of auto md tmpfs dir`,
		"[defaults]\nwatch = true\n": `2: defaults.watch: "true" is not ` +
			`known; write one of auto fsnotify scan`,
		"[defaults]\non_conflict = \"ours\"\n": `2: defaults.on_conflict: "ours" is not known; write one ` +
			`of mine theirs`,
		"[defaults]\nkeep_generations = 0\n": `2: defaults.keep_generations: 0 is not a number of ` +
			`generations`,
		"[defaults]\nkeep_generations = \"9\"\n": `2: defaults.keep_generations: 9 is not a number`,
		"defaults = 1\n": `1: defaults is an integer, not a ` +
			`table; write [defaults]`,
		"[jail]\nroot = \"/x\"\n": `2: jail.root stands in no jail's ` +
			`table; write [jail.NAME]`,
		"[jail.host]\nroot = \"/x\"\n": `1: "host" is the name of the ` +
			`machine itself`,
		"[jail.\"a/b\"]\nroot = \"/x\"\n": `1: "a/b" cannot be a jail's name`,
		"[jail.\"..\"]\nroot = \"/x\"\n":  `1: ".." cannot be a jail's name`,
		"[jail.vhost2]\nsettle = \"1s\"\n": `1: jail vhost2 is neither in ` +
			`rc.conf nor in jail.conf; give its root, or mend the name`,
		"[jail.a]\nroot = \"jail/a\"\n": `2: jail.a.root "jail/a" is a ` +
			`relative path; write it from the top, as "/jail/a"`,
		"[jail.a]\nroot = \"/jail/../a\"\n": `2: jail.a.root "/jail/../a" leads ` +
			`through ..; write it without ..`,
		"[jail.a]\nroot = \"/jail/\\n\"\n": `2: jail.a.root "/jail/\n" has a ` +
			`control character`,
		"[jail.a]\nroot = \"\"\n": `2: jail.a.root is empty`,
		"[jail.a]\nroot = 1\n": `2: jail.a.root is an integer, not ` +
			`a string`,
		"[jail.a]\nroot = \"/\"\n": `2: root "/" of jail a is not a ` +
			`directory of its own`,
		"[jail.a]\nroot = \"/a\"\nbase = \"/a/etc/base\"\n": `3: base /a/etc/base of a is ` +
			`inside live /a/etc of a; give each tree a directory of its own`,
		"[jail.a]\nroot = \"/a\"\nlive = \"/a/conf/base/etc/x\"\n": `3: live /a/conf/base/etc/x of a ` +
			`is inside base /a/conf/base/etc of a`,
		"[jail.a]\nroot = \"/a\"\nbase = \"/a/etc/.zfs/snapshot/1\"\n": `3: base /a/etc/.zfs/snapshot/1 of ` +
			`a is inside live /a/etc of a`,
		"[jail.a]\nroot = \"/a\"\ncfg = \"/a/etc\"\n": `3: cfg /a/etc of a is live /a/etc of a`,
		"[jail.a]\nroot = \"/a\"\ncfg = \"/jail/vhost1/cfg\"\n": `3: cfg /jail/vhost1/cfg of a is cfg ` +
			`/jail/vhost1/cfg of vhost1`,
		"[jail.a]\nroot = \"/a\"\nbase = \"/jail/vhost1/etc\"\n": `3: base /jail/vhost1/etc of a is live ` +
			`/jail/vhost1/etc of vhost1`,
		"[jail.a]\nroot = \"/jail/vhost1\"\n": `2: live /jail/vhost1/etc of a is live /jail/vhost1/etc of ` +
			`vhost1`,
		"[host]\ncfg = \"/etc/cfg\"\n": `2: cfg /etc/cfg of host is inside ` +
			`live /etc of host`,
		"[host]\ncfg = \"/jail/vhost1/cfg/x\"\n": `2: cfg /jail/vhost1/cfg/x of host is inside ` +
			`cfg /jail/vhost1/cfg of vhost1`,
		"[[path]]\nmatch = \"a[\"\nclass = \"secret\"\n":   `2: match "a[" is not a valid pattern`,
		"[[path]]\nmatch = \"../x\"\nclass = \"secret\"\n": `2: match "../x" leads out of etc`,
		"[[path]]\nmatch = \"/\"\nclass = \"secret\"\n":    `2: match is empty`,
		"[[path]]\nmatch = \"a\"\nclass = \"secret\"\n\n[[path]]\nmatch = \"b\"\nclass = " +
			"\"secrets\"\n": `7: class "secrets" is unknown; write one of persist, secret,`,
		"[[path]]\nclass = \"secret\"\n": `1: [[path]] has no match; add match = …`,
		"[path]\nmatch = \"a\"\n":        `1: path is a table, not an array of tables; write [[path]]`,
		"path = [\n {match = \"a\", class = \"secret\"},\n {match = \"b\", class = " +
			"\"x\"},\n]\n": `3: class "x" is unknown`,
		"host = { cfg = \"x\" }\n": `1: host.cfg "x" is a relative path`,
		"host.cfg = \"x\"\n":       `1: host.cfg "x" is a relative path`,
	} {
		_, err := loadWith(t, text)
		if err == nil || !strings.HasPrefix(err.Error(), tomlName+":"+want) {
			t.Errorf("%q:\n got %v\nwant %s:%s", text, err, tomlName, want)
			continue
		}
		if ce, ok := errors.AsType[*conffile.Error](err); !ok || ce.Fix == "" {
			t.Errorf("%q: no conffile.Error with a fix: %#v", text, err)
		}
	}
}

// All errors are shown at once, in the order of lines.
func TestTomlErrorsTogether(t *testing.T) {
	_, err := loadWith(t, "[host]\nx = 1\ncfg = \"y\"\n[defaults]\nsettle = \"z\"\n")
	want := tomlName +
		":2: host.x is not known; known are base, cfg, live, keep_bytes, keep_generations, max_file, " +
		"max_wait, memory, memory_size, on_conflict, rehash, rescan, settle, watch, health, trial\n" +
		tomlName + ":3: host.cfg \"y\" is a relative path; write it from the top, as \"/y\"\n" +
		tomlName + ":5: defaults.settle: \"z\" is not a duration; " + durationFix
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	var es conffile.Errors
	if !errors.As(err, &es) || len(es) != 3 {
		t.Errorf("%#v", err)
	}
}

// --config names a file as the shell does, not below --root, and it must be there.
func TestTomlFile(t *testing.T) {
	root := conffiletest.Machine(t, corrected())
	file := filepath.Join(t.TempDir(), "other.toml")
	_, err := Load(Options{Root: root, File: file})
	if err == nil || err.Error() != file+": no such file or directory" {
		t.Errorf("missing: %v", err)
	}
	if err := os.WriteFile(file, []byte("[defaults]\nsettle = \"3s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Load(Options{Root: root, File: file})
	if err != nil || m.File != file || m.Targets[0].Settle != 3*time.Second ||
		m.Targets[0].Origin["settle"].String() != file+":2" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestTomlUnusedSection(t *testing.T) {
	m, err := loadWith(t, "[jail.proto]\nsettle = \"1s\"\n")
	if err != nil {
		t.Fatal(err)
	}
	conffiletest.WantProblems(t, m.Problems,
		tomlName+":1 warning: jail proto is no target: its fstab mounts nothing on /jail/proto/conf/base/etc")
	m, err = loadWith(t, "[jail.proto]\nhealth = \"true\"\n")
	if err != nil {
		t.Fatal(err)
	}
	conffiletest.WantProblems(t, m.Problems)
}

// The backing that "auto" means, and md where there is none.
func TestMemory(t *testing.T) {
	for _, c := range []struct {
		opts  Options
		text  string
		want  Backing
		error string
	}{
		{Options{Root: "x", GOOS: "freebsd"}, "auto", BackingDir, ""},
		{Options{Root: "x", GOOS: "linux"}, "md", BackingDir, ""},
		{Options{GOOS: "freebsd", Euid: 1}, "auto", BackingMD, ""},
		{Options{GOOS: "linux", Euid: 0}, "auto", BackingTmpfs, ""},
		{Options{GOOS: "linux", Euid: 1}, "auto", BackingDir, ""},
		{Options{GOOS: "freebsd"}, "tmpfs", BackingTmpfs, ""},
		{
			Options{GOOS: "linux"}, "md", "",
			`: memory disks (md) are FreeBSD's, and this is linux; write memory = "auto" or "tmpfs"`,
		},
	} {
		m := &targetMaker{opts: c.opts}
		target := &Target{
			Settings: Settings{Memory: Backing(c.text)},
			Origin:   map[string]conffile.Origin{"memory": {File: "f", Line: 3}},
		}
		ok := m.backing(target)
		switch {
		case c.error != "":
			if ok || len(m.Errors) != 1 || m.Errors[0].Error() != "f:3"+c.error {
				t.Errorf("%+v %s: %v", c.opts, c.text, m.Errors)
			}
		case !ok || target.Memory != c.want:
			t.Errorf("%+v %s: %s, want %s", c.opts, c.text, target.Memory, c.want)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0":           0,
		"1":           1,
		"1k":          1 << 10,
		"1K":          1 << 10,
		"16m":         16 << 20,
		"2G":          2 << 30,
		"8589934591g": 8589934591 << 30,
	} {
		if n, err := parseSize(text); err != nil || n != want {
			t.Errorf("%s: %d, %v", text, n, err)
		}
		if want > 0 && text[0] != '8' && !strings.EqualFold(formatSize(want), text) {
			t.Errorf("formatSize(%d) = %s", want, formatSize(want))
		}
	}
	for _, text := range []string{
		"8589934592g", "9223372036854775808", "1t", "k", " 1k", "1 k", "+1", "0x10", "1kk", "1_0",
	} {
		if n, err := parseSize(text); err == nil {
			t.Errorf("%s: %d", text, n)
		}
	}
}

// FuzzToml: any text is a configuration or errors with lines in it.
func FuzzToml(f *testing.F) {
	f.Add("[defaults]\nsettle = \"1s\"\n[[path]]\nmatch = \"a\"\nclass = \"secret\"\n")
	f.Add("a = [[1,2],{b='''x'''}]\n[[c]]\n[c.d]\ne.f=1\n")
	f.Add("x = {a=1, # b\n c=2}\n\"\\u00e9\"=1\n")
	f.Add("[a]\nb=\"\"\"\"\"\"\nc=''''''''\n")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := parseToml("f", []byte(text)); err != nil {
			for _, e := range errorsOf(err) {
				if e.File != "f" || e.Line < 0 || e.Line > strings.Count(text, "\n")+1 {
					t.Errorf("error %#v", e)
				}
			}
		}
	})
}

func errorsOf(err error) conffile.Errors {
	if es, ok := errors.AsType[conffile.Errors](err); ok {
		return es
	}
	if e, ok := errors.AsType[*conffile.Error](err); ok {
		return conffile.Errors{e}
	}
	return conffile.Errors{{}}
}

func TestCheckersOfToml(t *testing.T) {
	t.Parallel()
	c, err := parseToml("cfgd.toml", []byte(`[[checker]]
match = "/etc/local/haproxy.conf"
command = ["haproxy", "-c", "-f", "FILE"]
timeout = "20s"
[[checker]]
match = "rc.conf"
command = []
[[checker]]
match = "*.json"
command = ["jq", "."]
stdin = true
where = "host"
`))
	if err != nil {
		t.Fatal(err)
	}
	k := newCheckers(c.checkers)
	for path, want := range map[string]string{
		"local/haproxy.conf": "haproxy -c -f FILE",
		"x/y.json":           "jq .",
		"rc.conf":            "",
		"rc.conf.local":      "sh -n",
	} {
		got, ok := k.Of(path)
		if strings.Join(got.Command, " ") != want || ok != (want != "") {
			t.Errorf("%s: %v, %v", path, got, ok)
		}
	}
	if got, _ := k.Of("local/haproxy.conf"); got.Timeout != 20*time.Second || got.Where != WhereTarget ||
		got.Origin != (conffile.At("cfgd.toml", 1)) {
		t.Errorf("%+v", got)
	}
	for text, says := range map[string]string{
		"[[checker]]\nmatch = \"x\"\n": "cfgd.toml:1: " +
			"[[checker]] has no command",
		"[[checker]]\nmatch = \"x\"\ncommand = [\"p\"]\n": "cfgd.toml:1: " +
			"[[checker]] says nowhere how the program gets the file",
		"[[checker]]\nmatch = \"x\"\ncommand = [\"p\", \"FILE\"]\nstdin = true\n": "cfgd.toml:1: " +
			"[[checker]] has FILE in its command, and stdin",
		"[[checker]]\nmatch = \"../x\"\ncommand = []\n": "cfgd.toml:2: match",
		"[[checker]]\nmatch = \"x\"\ncommand = \"p FILE\"\n": "cfgd.toml:3: " +
			"checker.command is no array of words",
		"[[checker]]\nmatch = \"x\"\ncommand = [\"p\", \"FILE\"]\ntimeout = \"5h\"\n": "cfgd.toml:4: " +
			"checker.timeout: 5h is not one",
		"[[checker]]\nmatch = \"x\"\ncommand = [\"p\", \"FILE\"]\nwhere = " +
			"\"jail\"\n": `cfgd.toml:4: checker.where "jail" is unknown`,
		"[[checker]]\nmatch = \"x\"\ncommand = [\"p\"]\nstdin = true\n": "cfgd.toml:1: " +
			"[[checker]] has stdin, and in the jail's root the file is named; add where = \"host\"",
		"[[checker]]\nmatch = \"x\"\ncommand = [\"p\", \"-DFILE\"]\n": "cfgd.toml:1: " +
			"[[checker]] says nowhere how the program gets the file",
		"[[checker]]\nmatch = \"x\"\ncommand = [\"p\", 1]\n": "cfgd.toml:3: " +
			"checker.command is no array of words",
		"[[checker]]\nmatch = \"x\"\ncommand = [\"p\", \"\"]\n": "cfgd.toml:3: " +
			"checker.command is no array of words",
		"[[checker]]\ncommand = [\"p\", \"FILE\"]\n": "cfgd.toml:1: " +
			"[[checker]] has no match",
		"[[checker]]\nmatch = \"x\"\ncommand = [\"p\", \"FILE\"]\ntimeout = 5\n": "cfgd.toml:4: " +
			"checker.timeout: 5 is not one",
		"[[checker]]\nmatch = \"x\"\ncommand = [\"p\", \"FILE\"]\nwhere = 5\n": "cfgd.toml:4: " +
			"checker.where is an integer, not a string",
		"[[checker]]\nmatch = \"x\"\ncommand = [\"p\", \"FILE\"]\nstdin = \"yes\"\n": "cfgd.toml:4: " +
			"checker.stdin is a string, not a boolean",
		"[[checker]]\nmatch = \"x\"\ncomand = [\"p\"]\n": "cfgd.toml:3: checker.comand is not known; did " +
			"you mean command?",
		"[checker]\nmatch = \"x\"\n": "cfgd.toml:1: checker is a table, not an array of tables",
	} {
		if _, err := parseToml("cfgd.toml", []byte(text)); err == nil ||
			!strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %s", text, err, says)
		}
	}
}
