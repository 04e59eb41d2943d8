package jailconf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cfgd/config/conffile"
	"cfgd/config/conffile/conffiletest"
)

// confFiles are files in memory, by their names.
type confFiles map[string]string

func (f confFiles) ReadFile(name string) ([]byte, error) {
	text, ok := f[path.Clean(name)]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return []byte(text), nil
}

func (f confFiles) Glob(pattern string) ([]string, error) {
	var found []string
	for name := range f {
		ok, err := path.Match(pattern, name)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found, nil
}

// printJails formats blocks for tests: one line for each jail, with values in brackets unless there is
// exactly one.
func printJails(blocks []Block) string {
	var lines []string
	for _, b := range blocks {
		line := b.Name + ":"
		for _, name := range slices.Sorted(maps.Keys(b.Params)) {
			if p := b.Params[name]; name == "name" && slices.Equal(p.Values, []string{b.Name}) {
				continue
			} else if len(p.Values) == 1 {
				line += fmt.Sprintf(" %s=%q", name, p.Values[0])
			} else {
				line += fmt.Sprintf(" %s=%q", name, p.Values)
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestJailConf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ conf, want string }{
		"nothing":          {"", ``},
		"empty statements": {";;\n;", ``},
		"a block":          {"web { path = /jail/web; }", `web: path="/jail/web"`},
		"an empty one":     {"web{}", `web:`},
		"without blanks":   {"web{path=/jail/web;persist;}", `web: path="/jail/web" persist=[]`},
		"without =":        {"web { path /jail/web; }", `web: path="/jail/web"`},
		"several jails":    {"b { } a { }", "b:\na:"},
		"carriage returns": {"web {\r\n\tpersist;\r\n}\r\n", `web: persist=[]`},
		"a name in quotes": {`'web' { } "db one" { }`, "web:\ndb one:"},
		"a numeric name is an id": {
			"7 { path = /j/$jid; host.hostname = $name; }", `7: host.hostname="7" jid="7" path="/j/7"`,
		},
		"an id with a name": {
			"7 { name = web; path = /j/$name; }", `7: jid="7" name="web" path="/j/web"`,
		},
		"a child": {"web.db { path = /j/$name; }", `web.db: path="/j/web.db"`},
		"a block in a block": {
			"web { path = /j/$name; db { path = /j/$name; } persist; }",
			`web: path="/j/web" persist=[]` + "\n" + `web.db: path="/j/web.db"`,
		},
		"comments": {
			"# one\n// two\n/* three\n * { ** } */ web /**/ { /* persist; **/ path = /w; # end\n} // end",
			`web: path="/w"`,
		},
		"# ends an unquoted word":  {"web { path = /w#; }\n; }", `web: path="/w"`},
		"// ends an unquoted word": {"web { path = /jail//web;\n; }", `web: path="/jail"`},
		"/* ends an unquoted word": {"web { path = /jail/*x*/; }", `web: path="/jail"`},
		"none of them in quotes":   {`web { path = "/jail//web#/*"; }`, `web: path="/jail//web#/*"`},
		"what needs no quotes": {
			"web { a = A-z_0.9!%&()-:<>?@[]^`|~*/+x; }", "web: a=\"A-z_0.9!%&()-:<>?@[]^`|~*/+x\"",
		},
		"escapes of C":               {`web { a = "\a\b\f\n\r\t\v\\\"\q"; }`, `web: a="\a\b\f\n\r\t\v\\\"q"`},
		"octal and hexadecimal":      {`web { a = "\1\12\1234\x41\x4fF\x7"; }`, `web: a="\x01\nS4AOF\a"`},
		"escapes outside of quotes":  {`web { a = one\ two\;\x41; }`, `web: a="one two;A"`},
		"escapes in single quotes":   {`web { a = 'it\'s \101'; }`, `web: a="it's A"`},
		"a string over two lines":    {"web { a = \"one\ntwo\"; }", `web: a="one\ntwo"`},
		"a line continued in quotes": {"web { a = \"one\\\ntwo\"; b = 'x\\\ny'; }", `web: a="onetwo" b="xy"`},
		"a line continued outside":   {"web { a = one\\\ntwo; }", `web: a="onetwo"`},
		"strings joined":             {`web { a = "one"'two'three"four"; }`, `web: a="onetwothreefour"`},
		"an empty string": {
			`web { exec.start = ""; exec.stop = ''; }`, `web: exec.start="" exec.stop=""`,
		},
		"other bytes in quotes": {"web { a = \"gr\xfcn ü\"; }", `web: a="gr\xfcn ü"`},
		"a list": {
			"web { ip4.addr = 10.1.1.1, 10.1.1.2 ,'10.1.1.3'; }",
			`web: ip4.addr=["10.1.1.1" "10.1.1.2" "10.1.1.3"]`,
		},
		"+= adds":              {"web { a = 1; a += 2, 3; b += 4; }", `web: a=["1" "2" "3"] b="4"`},
		"= replaces":           {"web { a = 1, 2; a = 3; }", `web: a="3"`},
		"a name alone empties": {"web { a = 1, 2; a; }", `web: a=[]`},
		"booleans": {
			"web { persist; allow.mount; mount.devfs = true; }",
			`web: allow.mount=[] mount.devfs="true" persist=[]`,
		},
		"no replaces": {
			"web { persist; allow.mount = 1; allow.nomount; nopersist; }",
			`web: allow.nomount=[] nopersist=[]`,
		},
		"and is replaced": {"allow.nomount; web { allow.mount; }", `web: allow.mount=[]`},
		"defaults": {
			"path = /j; persist; web { path = /w; } db { }",
			`web: path="/w" persist=[]` + "\n" + `db: path="/j" persist=[]`,
		},
		"defaults of *": {
			"* { path = /j; } web { } db { path = /d; }", `web: path="/j"` + "\n" + `db: path="/d"`,
		},
		"* below overrides":    {"web { path = /w; } * { path = /j; }", `web: path="/j"`},
		"and so does no block": {"web { path = /w; } path = /j;", `web: path="/j"`},
		"+= of defaults": {
			"exec.prestart = a; web { exec.prestart += b; } * { exec.prestart += c; }",
			`web: exec.prestart=["a" "b" "c"]`,
		},
		"wildcard of children": {`"web.*" { path = /c; } web { path = /w; } web.a { } web.a.b { } db.a { ` +
			`path = /d; }`,
			`web: path="/w"` + "\n" + `web.a: path="/c"` + "\n" + `web.a.b: path="/c"` + "\n" +
				`db.a: path="/d"`},
		"wildcard within": {
			`"*.a" { path = /c; } web.a { } web.b { persist; } a { }`,
			`web.a: path="/c"` + "\n" + `web.b: persist=[]` + "\n" + `a:`,
		},
		"wildcard in a block":      {"web { * { path = /c; } a { } }", "web:\n" + `web.a: path="/c"`},
		"a star in a name is none": {`"we*" { path = /w; } web { }`, `we*: path="/w"` + "\nweb:"},

		"$name": {
			`path = "/jail/$name"; web { } db { }`, `web: path="/jail/web"` + "\n" + `db: path="/jail/db"`,
		},
		"a variable outside of quotes": {
			`web { path = /jail/$name/root; }`, `web: path="/jail/web/root"`,
		},
		"braces": {
			`web { host.hostname = w.local; path = "/j/${host.hostname}x"; }`,
			`web: host.hostname="w.local" path="/j/w.localx"`,
		},
		"a parameter": {
			`web { path = /w; mount.fstab = "$path.fstab"; }`, `web: mount.fstab="/w.fstab" path="/w"`,
		},
		"a variable of one's own": {
			`$root = /jail; path = "$root/$name"; web { }`, `web: path="/jail/web"`,
		},
		"with a name in braces": {
			`${my root} = /jail; web { path = "${my root}"; }`, `web: path="/jail"`,
		},
		"set below its use": {
			`web { path = "$root/$name"; $root = /j; }`, `web: path="/j/web"`,
		},
		"set by the jail": {
			`path = "$root/$name"; $root = /j; web { } db { $root = /d; }`,
			`web: path="/j/web"` + "\n" + `db: path="/d/db"`,
		},
		"variables of variables": {
			`$a = "$b/a"; $b = "/$name"; web { path = $a; }`, `web: path="/web/a"`,
		},
		"none in single quotes": {
			`web { a = '$name'; b = '${name}'"$name"; }`, `web: a="$name" b="${name}web"`,
		},
		"none behind a backslash": {`web { a = "\$name"; b = \$name; }`, `web: a="$name" b="$name"`},
		"a command of the shell is text": {
			`web { a = "echo $(hostname) $1 $"; b = $(id); }`, `web: a="echo $(hostname) $1 $" b="$(id)"`,
		},
		"a variable ends": {`web { a = "$name.x-$name/$name"; }`, `web: a="web.x-web/web"`},
		"a list by its variable": {
			`$l = a, "b c"; web { x = $l, d; y = "$l"; }`, `web: x=["a" "b c" "d"] y=["a" "b c"]`,
		},
		"an empty variable":            {`$e = ""; web { a = "x${e}y"; b = $e; }`, `web: a="xy" b=""`},
		"nothing is substituted twice": {`$d = '$name'; web { a = $d; }`, `web: a="$name"`},
		"variables are no parameters":  {`$x = 1; web { $y = 2; }`, `web:`},
		"a default may use what jails set": {
			`mount.fstab = "/etc/fstab.${host.hostname}"; web { host.hostname = w; }`,
			`web: host.hostname="w" mount.fstab="/etc/fstab.w"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blocks, problems, err := Load(confFiles{"/etc/jail.conf": c.conf}, "/etc/jail.conf")
			if err != nil {
				t.Fatal(err)
			}
			conffiletest.WantProblems(t, problems)
			if got := printJails(blocks); got != c.want {
				t.Errorf("%s\n got %s\nwant %s", c.conf, got, c.want)
			}
		})
	}
}

// What makes jail(8) refuse the file is an error with its place and what to do.
func TestJailConfErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ conf, want string }{
		"no semicolon at the end": {
			"web {\n\tpath = /w\n}\n",
			`/etc/jail.conf:2:11: missing ";" before "}"; end the parameter with ";"`,
		},
		"no semicolon before a name": {
			"web {\n\tpath = /w\n\tpersist;\n}\n", `/etc/jail.conf:2:11: missing ";" before a word`,
		},
		"none behind a boolean": {
			"web {\n\tpersist\n\tpath = /w;\n}\n", `/etc/jail.conf:2:9: missing ";" before a word`,
		},
		"none before a block": {
			"exec.clean\nweb { }\n", `/etc/jail.conf:1:11: missing ";" before a word`,
		},
		"none at the end": {
			"persist", `/etc/jail.conf:1:8: missing ";" before the end of the file`,
		},
		"a comment took it": {
			"path = /a//b;\n", `/etc/jail.conf:1:10: missing ";" before the end of the file`,
		},
		"no closing brace": {
			"web {\n persist;\n\n", "/etc/jail.conf:1:1: block web without an end; close it with }",
		},
		"a brace too many":       {"web { }\n}", `/etc/jail.conf:2:1: unexpected "}"`},
		"a block without a name": {" { }", `/etc/jail.conf:1:2: unexpected "{"`},
		"an empty name":          {"'' { }", "/etc/jail.conf:1:1: no name of a jail"},
		"a variable for a name":  {"$x { }", "/etc/jail.conf:1:1: no name of a jail"},
		"no value": {
			"web { path = ; }", `/etc/jail.conf:1:14: ";" where the value of path should be`,
		},
		"no value behind a comma": {"a = 1, ;", `/etc/jail.conf:1:8: ";" where the value of a should be`},
		"two values":              {"a = 1 2;", `/etc/jail.conf:1:6: missing ";" before a word`},
		"two =":                   {"a = = 2;", `/etc/jail.conf:1:5: "=" where the value of a should be`},
		"a value alone":           {"= 2;", `/etc/jail.conf:1:1: unexpected "="`},
		"a name in pieces":        {`a"b" = 2;`, "/etc/jail.conf:1:1: no name of a parameter"},
		"a name with a variable":  {`"$a" = 2;`, "/etc/jail.conf:1:1: no name of a parameter"},
		"a string without an end": {
			"a = 1;\nb = \"x;\n", `/etc/jail.conf:2:5: string without an end; close it with "`,
		},
		"in single quotes": {
			"b = 'x\\';\n", `/etc/jail.conf:1:5: string without an end; close it with '`,
		},
		"a comment without an end": {
			"persist; /* x\n* /", "/etc/jail.conf:1:10: comment without an end; end it with */",
		},
		"a variable without an end": {
			"a = ${x;\n}", "/etc/jail.conf:1:5: variable without an end; close it with }",
		},
		"in quotes":                 {`a = "${x";`, "/etc/jail.conf:1:6: variable without an end"},
		"a variable without a name": {"a = ${};", "/etc/jail.conf:1:5: variable with a name of 0 bytes"},
		"a byte that needs quotes": {
			"web {\n a = \xc3\xbc;\n}", "/etc/jail.conf:2:6: unexpected \"\\xc3\"; put it in quotes",
		},
		"NUL": {"a = 1;\n b = '\x00';", "/etc/jail.conf:2:7: NUL byte"},
		"NUL in octal": {
			`a = "x\0";`, "/etc/jail.conf:1:7: NUL, where jail(8) would cut the string short",
		},
		"a backslash at the end": {`a = x\`, "/etc/jail.conf:1:6: backslash at the end of the file"},
		"a long name": {
			strings.Repeat("x", 256) + " { }", "/etc/jail.conf:1:1: name of more than 255 bytes",
		},
		"a long name of children": {
			strings.Repeat("x", 200) + " {\n " + strings.Repeat("y", 55) + " { } }",
			"/etc/jail.conf:2:2: name of more than 255 bytes",
		},
		"a long parameter": {
			strings.Repeat("x", 256) + ";", "/etc/jail.conf:1:1: name of more than 255 bytes",
		},
		"include with =":           {"\n.include = x;", "/etc/jail.conf:2: .include is no parameter"},
		"include of nothing":       {"\n .include;", "/etc/jail.conf:2: .include is no parameter"},
		"include of an empty name": {`.include "";`, "/etc/jail.conf:1:10: .include without a name"},
		"include of a variable": {
			`.include "/etc/$x";`, "/etc/jail.conf:1:10: variable in the name of an .include",
		},
		"include of what is not": {
			"\n.include 'x', 'y';",
			"/etc/jail.conf:2:10: include /etc/x: file does not exist; mend the name or the file",
		},
		"a malformed pattern": {
			`.include "x[";`, "/etc/jail.conf:1:10: include /etc/x[: syntax error in pattern",
		},
		"an include of itself": {
			`.include "jail.conf";`,
			"/etc/jail.conf:1:10: /etc/jail.conf includes itself; remove this .include",
		},
		"deep blocks": {
			strings.Repeat("a {", 33), "/etc/jail.conf:1:97: more than 32 blocks within each other",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := Load(confFiles{"/etc/jail.conf": c.conf}, "/etc/jail.conf")
			var ce *conffile.Error
			if !errors.As(err, &ce) || !strings.HasPrefix(err.Error(), c.want) || ce.Fix == "" {
				t.Errorf("\n got %v\nwant %s", err, c.want)
			}
		})
	}
}

// What makes jail(8) refuse one jail is that jail's problem: the others and its other parameters stay.
func TestJailConfProblems(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		conf, want string
		problems   []string
	}{
		"an unknown variable": {"db { }\nweb {\n persist;\n path = /j,\n\t/j/$root;\n}\n",
			"db:\nweb: persist=[]",
			[]string{"/etc/jail.conf:5 error: path of jail web: variable $root is not set"}},
		"a variable without a value": {"$root; web { path = $root; }", "web:",
			[]string{"/etc/jail.conf:1 error: path of jail web: variable $root is not set"}},
		"a variable of another jail": {"db { $root = /db; } web { path = $root; }", "db:\nweb:",
			[]string{"/etc/jail.conf:1 error: path of jail web: variable $root is not set"}},
		"a parameter under its old name": {"web { allow.mount = 1; allow.nomount = 2; a = ${allow.mount}; }",
			`web: allow.nomount="2"`,
			[]string{"/etc/jail.conf:1 error: a of jail web: variable $allow.mount is not set"}},
		"what uses a bad one is bad": {"$a = $b; web { path = $a; x = \"$a\"; }", "web:",
			[]string{"/etc/jail.conf:1 error: a of jail web: variable $b is not set"}},
		"a variable of itself": {"web {\n path = \"$path/x\";\n}", "web:",
			[]string{"/etc/jail.conf:2 error: path of jail web: variable $path refers to itself"}},
		"a loop": {"$a = $b;\n$b = $c;\n$c = $a;\nweb { path = /w; x = $a; }", `web: path="/w"`,
			[]string{"/etc/jail.conf:3 error: c of jail web: variable $a refers to itself"}},
		"a list in a word": {"$l = a, b;\nweb { x = \"$l c\"; y = c$l; z = $l$l; }", "web:",
			[]string{
				"/etc/jail.conf:2 error: x of jail web: $l is a list",
				"/etc/jail.conf:2 error: y of jail web: $l is a list",
				"/etc/jail.conf:2 error: z of jail web: $l is a list",
			}},
		"the name of a jail": {"web {\n name = www;\n path = /j/$name;\n}", `web: path="/j/web"`,
			[]string{"/etc/jail.conf:2 error: name of jail web cannot be set: it is that of the block"}},
		"the name of all": {"name = www; web { } db { }", "web:\ndb:",
			[]string{
				"/etc/jail.conf:1 error: name of jail web cannot",
				"/etc/jail.conf:1 error: name of jail db cannot",
			}},
		"an id twice": {
			"web { jid = 7; jid = 8; }", `web: jid="7"`,
			[]string{"/etc/jail.conf:1 error: jid of jail web cannot be set again"},
		},
		"a variable with a parameter's name": {"$path = /j;\nweb { path = /w; }", `web: path="/w"`,
			[]string{"/etc/jail.conf:1 error: variable $path of jail web has the name of a parameter"}},
		"a parameter with a variable's name": {"$x = 1; web { x = 2; }", "web:",
			[]string{"/etc/jail.conf:1 error: variable $x of jail web has the name of a parameter"}},
		"a jail in two blocks": {"web { path = /w; exec.start = a; }\nweb { path = /x; exec.start += b; }",
			`web: exec.start=["a" "b"] path="/x"`,
			[]string{"/etc/jail.conf:2 warning: jail web has a block at /etc/jail.conf:1 already, and " +
				"jail(8) takes only one of them"}},
		"a wildcard that needs quotes": {"web.* { persist; }\nweb.a { }", "web.a: persist=[]",
			[]string{"/etc/jail.conf:1 error: jail(8) reads a name such as web.* only in quotes"}},
		"late defaults of which the release decides": {"path = /a;\nweb { path = /w; }\npath = /b;\npersist;",
			`web: path="/b" persist=[]`,
			[]string{"/etc/jail.conf:3 warning: path is set here outside of blocks and at /etc/jail.conf:2 " +
				"in one: it depends on the release"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blocks, problems, err := Load(confFiles{"/etc/jail.conf": c.conf}, "/etc/jail.conf")
			if err != nil {
				t.Fatal(err)
			}
			conffiletest.WantProblems(t, problems, c.problems...)
			if got := printJails(blocks); got != c.want {
				t.Errorf("%s\n got %s\nwant %s", c.conf, got, c.want)
			}
		})
	}
}

func TestJailConfInclude(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files confFiles
		want  string // jails, or the beginning of the error
	}{
		"by its whole name": {
			confFiles{
				"/etc/jail.conf":     `path = /j; .include "/usr/local/etc/web";`,
				"/usr/local/etc/web": "web { }",
			}, `web: path="/j"`,
		},
		"beside the file": {confFiles{
			"/etc/jail.conf":     `.include "jail.conf.d/a";`,
			"/etc/jail.conf.d/a": `.include "b";`,
			"/etc/jail.conf.d/b": "b { }",
		},
			"b:"},
		"a pattern, by name": {confFiles{"/etc/jail.conf": `.include "jail.conf.d/*.conf";`,
			"/etc/jail.conf.d/b.conf": "b { }", "/etc/jail.conf.d/a.conf": "a { }",
			"/etc/jail.conf.d/c": "c { }"}, "a:\nb:"},
		"a pattern of none": {
			confFiles{"/etc/jail.conf": `.include "/etc/jail.*.conf"; web { }`}, "web:",
		},
		"a bracket that negates": {
			confFiles{"/etc/jail.conf": `.include "[!b]";`, "/etc/a": "a { }", "/etc/b": "b { }"}, "a:",
		},
		"several names": {
			confFiles{"/etc/jail.conf": `.include "b", a;`, "/etc/a": "a { }", "/etc/b": "b { }"}, "b:\na:",
		},
		"where it stands": {
			confFiles{
				"/etc/jail.conf": `web { path = /w; } .include "d"; db { path = /d; }`,
				"/etc/d":         "* { path = /j; }",
			}, `web: path="/j"` + "\n" + `db: path="/d"`,
		},
		"in a block": {
			confFiles{
				"/etc/jail.conf": `web { .include "d"; path = /w; db { } }`,
				"/etc/d":         "persist; child { }",
			}, `web: path="/w" persist=[]` + "\nweb.child:\nweb.db:",
		},
		"in several blocks": {
			confFiles{
				"/etc/jail.conf": `web { .include "d"; } db { .include "d"; }`,
				"/etc/d":         "path = /j/$name;",
			}, `web: path="/j/web"` + "\n" + `db: path="/j/db"`,
		},
		"twice": {
			confFiles{"/etc/jail.conf": ".include a;\n.include '/etc/./a';", "/etc/a": "a { }"},
			"/etc/jail.conf:2:10: /etc/./a is included a second time, first at /etc/jail.conf:1",
		},
		"twice by a pattern": {
			confFiles{"/etc/jail.conf": ".include a;\n.include '*a';", "/etc/a": "a { }"},
			"/etc/jail.conf:2:10: /etc/a is included a second time",
		},
		"in a loop": {
			confFiles{"/etc/jail.conf": ".include a;", "/etc/a": "\n .include b;", "/etc/b": ".include a;"},
			"/etc/b:1:10: /etc/a includes itself",
		},
		"in a loop of blocks": {
			confFiles{"/etc/jail.conf": "x { .include a; }", "/etc/a": "y { .include a; }"},
			"/etc/a:1:14: /etc/a includes itself",
		},
		"a brace of another file": {
			confFiles{"/etc/jail.conf": "x { .include a;", "/etc/a": "persist; }"},
			`/etc/a:1:10: unexpected "}"`,
		},
		"a block of another file": {
			confFiles{"/etc/jail.conf": ".include a; }", "/etc/a": "x { persist; "},
			"/etc/a:1:1: block x without an end",
		},
		"an error in another file": {
			confFiles{"/etc/jail.conf": ".include a;", "/etc/a": "x {\n persist }"},
			`/etc/a:2:9: missing ";"`,
		},
		"a file that is not there": {
			confFiles{"/etc/jail.conf": ".include a;"},
			"/etc/jail.conf:1:10: include /etc/a: file does not exist",
		},
		"more files than jail(8)'s": {chain(40), "/etc/32:1:10: more than 32 files that include each other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blocks, problems, err := Load(c.files, "/etc/jail.conf")
			got := printJails(blocks)
			if err != nil {
				got = err.Error()
			}
			conffiletest.WantProblems(t, problems)
			if got != c.want && (err == nil || !strings.HasPrefix(got, c.want)) {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// chain is a jail.conf that includes n files, each by the one before.
func chain(n int) confFiles {
	f := confFiles{"/etc/jail.conf": ".include 1;"}
	for i := 1; i <= n; i++ {
		f[fmt.Sprintf("/etc/%d", i)] = fmt.Sprintf(".include %d;", i+1)
	}
	return f
}

// Each value has its own line, so that a problem of one command of several points at it.
func TestJailConfOrigins(t *testing.T) {
	t.Parallel()
	blocks, _, err := Load(confFiles{"/etc/jail.conf": `exec.prestart =
	"one",
	"two";
web {
	exec.prestart +=
		"three";
	path = /w;
}
`}, "/etc/jail.conf")
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	for _, l := range blocks[0].Values("exec.prestart") {
		lines = append(lines, l.At.Line)
	}
	b := blocks[0]
	if !slices.Equal(lines, []int{2, 3, 6}) || b.Params["exec.prestart"].Origin.Line != 5 ||
		b.Params["path"].Origin.Line != 7 || b.Origin != (conffile.At("/etc/jail.conf", 4)) {
		t.Errorf("lines %v, %+v", lines, b)
	}
}

// A missing file is distinguished from a missing file of an .include.
func TestJailConfNotThere(t *testing.T) {
	t.Parallel()
	if _, _, err := Load(confFiles{}, "/etc/jail.conf"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// bombs are files of a few KiB for which a careless parser would take minutes or gigabytes.
func bombs() map[string]string {
	doubling := func(line string) string {
		var b strings.Builder
		for i := 1; i < 100; i++ {
			fmt.Fprintf(&b, line, i, i-1, i-1)
		}
		return b.String()
	}
	return map[string]string{
		"values that double":      "$a0 = xx;\n" + doubling("$a%d = $a%d$a%d;\n") + "web { path = $a99; }",
		"lists that double":       "$a0 = x;\n" + doubling("$a%d = $a%d, $a%d;\n") + "web { path = $a99; }",
		"empty lists that double": "$a0 = '';\n" + doubling("$a%d = $a%d, $a%d;\n") + "web { path = $a99; }",
		"a chain of variables": "$a0 = x;\n" + doubling("$a%d = $a%d;#%d\n") + "web { path = $a99; }" +
			strings.Repeat("\n", 1000),
		"a long chain": func() string {
			var b strings.Builder
			for i := range 50000 {
				fmt.Fprintf(&b, "$a%d = $a%d;\n", i, i+1)
			}
			return b.String() + "web { }"
		}(),
		"many jails and defaults":   strings.Repeat("a;b;c;d;", 10000) + strings.Repeat("w{}x{}y{}", 10000),
		"many jails and wildcards":  strings.Repeat("*{}w{}", 1000) + jailsOf(20000),
		"many jails":                jailsOf(100000),
		"long values in many jails": "$a = " + strings.Repeat("x", 60000) + ";\nb = $a;\n" + jailsOf(20000),
		"many bad values": "$a = " + strings.Repeat("x", 60000) + ";\n" +
			strings.Repeat("b += $a$a;\n", 5000) + jailsOf(2000),
		"many problems":     strings.Repeat("name = x; a = $x;", 1000) + jailsOf(200),
		"a long word":       "a = " + strings.Repeat(`\x41`, 300000) + ";",
		"many pieces":       "a = " + strings.Repeat(`"x"$b`, 200000) + "; w {}",
		"deep braces":       strings.Repeat("a{", 100000),
		"comments":          strings.Repeat("/**/", 500000),
		"unclosed comments": strings.Repeat("/*", 1000000),
		"quotes":            strings.Repeat(`"`, 1000001),
		"dollars":           "a = " + strings.Repeat("$", 1000000) + ";",
		"a long name":       strings.Repeat("a.", 1000000) + "{}",
		"dots against stars": `"` + strings.Repeat("*.", 100) + `*" {}` +
			strings.Repeat(strings.Repeat("a.", 100)+"a{}", 4000),
		"too large": strings.Repeat(" ", maxBytes+1),
	}
}

func jailsOf(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "j%d{}", i)
	}
	return b.String()
}

// None of them takes long, whatever the result. The limit is wide, for slow machines: bounded work takes
// tenths of a second.
func TestJailConfBounds(t *testing.T) {
	t.Parallel()
	for name, conf := range bombs() {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			blocks, problems, err := Load(confFiles{"/etc/jail.conf": conf}, "/etc/jail.conf")
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("took %s", d)
			}
			checkBounds(t, blocks, problems, err)
			t.Logf("%d jails, %d problems, %v", len(blocks), len(problems), err)
		})
	}
}

// Files that include each other again and again end too.
func TestJailConfIncludeBound(t *testing.T) {
	t.Parallel()
	files := confFiles{"/etc/jail.conf": "x { .include 0; }"}
	for i := range 20 {
		files[fmt.Sprintf("/etc/%d", i)] = fmt.Sprintf(".include %d, %d;", i+1, i+1)
	}
	files["/etc/20"] = ""
	if _, _, err := Load(files, "/etc/jail.conf"); err == nil ||
		!strings.Contains(err.Error(), "more than 4096 files") {
		t.Errorf("%v", err)
	}
}

// checkBounds checks what is true of every result.
func checkBounds(t testing.TB, blocks []Block, problems []conffile.Problem, err error) {
	t.Helper()
	if err != nil && (blocks != nil || problems != nil) {
		t.Error("an error, and jails too")
	}
	var ce *conffile.Error
	if err != nil && (!errors.As(err, &ce) || ce.File == "" || ce.Fix == "") {
		t.Errorf("error %v is no conffile.Error with what to do", err)
	}
	for _, b := range blocks {
		if b.Name == "" || len(b.Name) > maxName || b.Origin.Line < 1 {
			t.Errorf("jail %q at %s", b.Name, b.Origin)
		}
		for name, p := range b.Params {
			if len(name) > maxName || len(p.Values) > maxList || len(p.Origins) != len(p.Values) {
				t.Errorf("parameter %q of %d values and %d origins", name, len(p.Values), len(p.Origins))
			}
			for _, v := range p.Values {
				if len(v) > maxValue {
					t.Errorf("a value of %d bytes", len(v))
				}
			}
		}
	}
	for _, p := range problems {
		if p.File == "" || p.Line < 1 || p.Message == "" || p.Fix == "" {
			t.Errorf("problem %+v", p)
		}
	}
}

func FuzzJailConf(f *testing.F) {
	f.Add("path = \"/jail/$name\";\nexec.poststop = \"/usr/local/sbin/cfgd jail cleanup $name\";\nweb {\n"+
		"\tpersist;\n}\n", "")
	f.Add("* { path = \"/j/$name\"; }\nweb { .include \"b\"; exec.start += 'a\\'', \"${path}\\x41\"; db { "+
		"} }", "allow.nomount; $x = $y;")
	f.Add("# a\n// b\n/* c */ a.b { ip4.addr = 10.0.0.1, $l; persist }", "$l = 1, 2;")
	f.Add("$a = \"$b\"; $b = $a$a; 7 { path = $a; }\n.include '/etc/*';", "x {")
	f.Fuzz(func(t *testing.T, conf, other string) {
		files := confFiles{"/etc/jail.conf": conf, "/etc/b": other}
		start := time.Now()
		blocks, problems, err := Load(files, "/etc/jail.conf")
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("took %s for %d bytes", d, len(conf)+len(other))
		}
		checkBounds(t, blocks, problems, err)
		again, problemsAgain, errAgain := Load(files, "/etc/jail.conf")
		if printJails(again) != printJails(blocks) || !slices.Equal(problems, problemsAgain) ||
			fmt.Sprint(err) != fmt.Sprint(errAgain) {
			t.Error("read twice, and not the same")
		}
		if err == nil {
			reread(t, blocks)
		}
	})
}

// reread prints jails as a jail.conf and reads it back.
func reread(t testing.TB, blocks []Block) {
	t.Helper()
	var b strings.Builder
	for _, block := range blocks {
		if isWild(block.Name) {
			return
		}
		fmt.Fprintf(&b, "%s {\n", quoteJail(block.Name))
		for _, name := range slices.Sorted(maps.Keys(block.Params)) {
			if name == "jid" && isNumeric(block.Name) || name == "name" && !isNumeric(block.Name) {
				continue
			}
			b.WriteString("\t" + quoteJail(name))
			for i, v := range block.Params[name].Values {
				b.WriteString([]string{" = ", ", "}[min(i, 1)] + quoteJail(v))
			}
			b.WriteString(";\n")
		}
		b.WriteString("}\n")
	}
	if b.Len() > maxBytes {
		return
	}
	again, problems, err := Load(confFiles{"/etc/jail.conf": b.String()}, "/etc/jail.conf")
	if err != nil || len(problems) > 0 {
		t.Fatalf("read back: %v %v\n%s", err, problems, b.String())
	}
	if got, want := printJails(again), printJails(blocks); got != want {
		t.Errorf("read back\n got %s\nwant %s", got, want)
	}
}

// quoteJail quotes a string for jail.conf.
func quoteJail(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(s) + `"`
}

// What is written into a jail.conf by any of its ways of quoting is what is read.
func TestJailConfRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		value := rapid.StringOfN(rapid.RuneFrom([]rune("ab/$\\\"'{}#;, \n\tü*+=")), 0, 12, -1)
		want := map[string][]string{}
		var b strings.Builder
		b.WriteString("web {\n")
		for i := range rapid.IntRange(0, 6).Draw(rt, "parameters") {
			name := fmt.Sprintf("p%d.x", i)
			values := rapid.SliceOfN(value, 1, 4).Draw(rt, "values")
			writeList(rt, &b, name, values)
			want[name] = values
		}
		b.WriteString("}\n")
		blocks, problems, err := Load(confFiles{"/etc/jail.conf": b.String()}, "/etc/jail.conf")
		if err != nil || len(problems) > 0 || len(blocks) != 1 {
			rt.Fatalf("%v %v\n%s", err, problems, b.String())
		}
		for name, values := range want {
			if got := blocks[0].Params[name].Values; !slices.Equal(got, values) {
				rt.Errorf("%s is %q, want %q, in\n%s", name, got, values, b.String())
			}
		}
	})
}

// writeList writes an assignment, in one statement or several, each value quoted in one of the ways.
func writeList(rt *rapid.T, b *strings.Builder, name string, values []string) {
	quotes := []func(string) string{
		quoteJail,
		func(s string) string { return `'` + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + `'` },
		func(s string) string {
			var w strings.Builder
			for _, c := range []byte(s) {
				fmt.Fprintf(&w, `\x%02x`, c)
			}
			return w.String() + `""`
		},
		func(s string) string { return quoteJail(s[:len(s)/2]) + quoteJail(s[len(s)/2:]) },
	}
	joins := []string{", ", ",\n\t", ";\n" + name + " += ", "/* , */,# ;\n"}
	b.WriteString(name + " = ")
	for i, v := range values {
		if i > 0 {
			b.WriteString(rapid.SampledFrom(joins).Draw(rt, "join"))
		}
		b.WriteString(rapid.SampledFrom(quotes).Draw(rt, "quote")(v))
	}
	b.WriteString(";\n")
}
