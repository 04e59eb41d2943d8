package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cfgd/config/conffile"
	"cfgd/config/conffile/conffiletest"
)

// mountsMachine is a machine with jail web, by jail.conf, and links.
func mountsMachine(t *testing.T, conf string, files, links map[string]string) *Model {
	t.Helper()
	all := map[string]string{"/etc/rc.conf": "jail_enable=YES\n", "/etc/jail.conf": conf,
		"/jail/proto/etc/": "",
		"/etc/fstab.web":   "/jail/proto/.zfs/snapshot/1/etc /jail/web/conf/base/etc nullfs ro\n"}
	for name, text := range files {
		all[name] = text
	}
	root := conffiletest.Machine(t, all)
	for _, name := range sorted(links) {
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(links[name], full); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Load(Options{Root: root, Euid: -1})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const webConf = `web { path = "/jail/web"; mount.fstab = "/etc/fstab.web"; }` + "\n"

// Whatever jail(8) and mount(8) mount is a reference, with file and line.
func TestReferences(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		conf         string
		files, links map[string]string
		want         string // beside that of fstab.web
	}{
		"a list of fstabs": {`web { path = "/jail/web"; mount.fstab = "/etc/fstab.web", "/etc/two"; }`,
			map[string]string{"/etc/two": "\n/jail/proto/.cfgd/snapshot/2 /jail/web nullfs ro\n"}, nil,
			"web 2 /etc/two:2"},
		"an fstab added to a default": {
			"mount.fstab = \"/etc/two\";\nweb { path = \"/jail/web\"; mount.fstab += \"/etc/fstab.web\"; }",
			map[string]string{"/etc/two": "/jail/proto/.zfs/snapshot/2 /jail/web nullfs\n"}, nil,
			"web 2 /etc/two:1"},
		"mount parameters": {"mount = \"/jail/proto/.zfs/snapshot/2 /jail/web nullfs ro\";\nweb {\npath = " +
			"\"/jail/web\"; mount.fstab = \"/etc/fstab.web\";\nmount += \"/jail/proto/.zfs/snapshot/3 /x " +
			"nullfs\";}",
			nil, nil, "web 2 /etc/jail.conf:1; web 3 /etc/jail.conf:4"},
		"a jail that is no target": {webConf + `db { path = "/jail/db"; mount.fstab = "/etc/two"; }`,
			map[string]string{"/etc/two": "/jail/proto/.zfs/snapshot/2 /jail/db nullfs ro\n"}, nil,
			"db 2 /etc/two:1"},
		"a jail without a root": {webConf + `db { mount = "/jail/proto/.zfs/snapshot/2 /x nullfs"; }`, nil,
			nil,
			"db 2 /etc/jail.conf:2"},
		"a comment within the line": {webConf, map[string]string{
			"/etc/fstab.web": "/jail/proto/.zfs/snapshot/1/etc /jail/web/conf/base/etc nullfs #ro\n" +
				"/jail/proto/.zfs/snapshot/2 /jail/web nullfs # /jail/proto/.zfs/snapshot/3\n"}, nil,
			"web 2 /etc/fstab.web:2"},
		"escapes": {webConf, map[string]string{
			"/etc/fstab.web": "/jail/proto/.zfs/snapshot/1/etc /jail/web/conf/base/etc nullfs ro\n" +
				`\x2fjail\s\157/\.zfs/snapshot\0572\043 /jail/web nullfs` + "\n"}, nil,
			"web 2# /etc/fstab.web:2"},
		"the host's fstab, by a line that is off": {webConf, map[string]string{
			"/etc/fstab": "/jail/proto/.zfs/snapshot/2 /mnt nullfs xx\n/jail/proto@3 /mnt zfs noauto\n" +
				"zp/proto@4 /mnt zfs ro\n"}, nil, "host 2 /etc/fstab:1; host 4 /etc/fstab:3"},
		"an fstab behind links": {`web { path = "/jail/web"; mount.fstab = "/etc/fstab.web", "/etc/l/two"; }`,
			map[string]string{"/data/tabs/x": "/jail/proto/.zfs/snapshot/2 /jail/web nullfs ro\n"},
			map[string]string{"/etc/l": "/data/tabs", "/data/tabs/two": "x"}, "web 2 /etc/l/two:1"},
		"a source behind a link": {webConf, map[string]string{
			"/etc/fstab.web": "/jail/proto/.zfs/snapshot/1/etc /jail/web/conf/base/etc nullfs ro\n" +
				"/jail/now/usr /jail/web/usr nullfs\n/j/proto/.zfs/snapshot/3 /jail/web/x nullfs\n"},
			map[string]string{"/jail/now": "proto/.zfs/snapshot/2", "/j": "/jail"},
			"web 2 /etc/fstab.web:2; web 3 /etc/fstab.web:3; web 3 /etc/fstab.web:3"},
		"a jail that rc.conf hides": {webConf + `db { mount = "/jail/proto/.zfs/snapshot/2 /x nullfs"; }`,
			map[string]string{"/etc/rc.conf": "jail_list='db " +
				"web'\njail_db_rootdir=/jail/db\njail_db_hostname=d\n"},
			nil, "db 2 /etc/jail.conf:2"},
		"rc.conf's jail without a hostname": {webConf + `db { path = "/jail/db"; }`, map[string]string{
			"/etc/rc.conf":  "jail_list='db web'\njail_db_rootdir=/jail/db\n",
			"/etc/fstab.db": "/jail/proto/.zfs/snapshot/2 /jail/db nullfs\n"}, nil, "db 2 /etc/fstab.db:1"},
		"a jail of two files": {webConf + `db { path = "/jail/db"; }`, map[string]string{
			"/etc/jail.conf.d/db.conf": `db { path = "/jail/db"; }`,
			"/etc/jail.db.conf":        `db { mount = "/jail/proto/.zfs/snapshot/2 /x nullfs"; }`}, nil,
			"db 2 /etc/jail.db.conf:1"},
		"a base of cfgd.toml": {webConf + `db { path = "/jail/db"; }`,
			map[string]string{DefaultFile: "[jail.db]\n" +
				"base = \"/jail/proto/.zfs/snapshot/2/etc\"\n"}, nil, "db 2 " + DefaultFile + ":2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := mountsMachine(t, c.conf, c.files, c.links)
			refs, unread := m.References()
			var got []string
			for _, r := range refs {
				if line := fmt.Sprintf("%s %s %s", r.Jail, r.Snapshot.Name,
					r.At); line != "web 1 /etc/fstab.web:1" {
					got = append(got, line)
				}
			}
			slices.Sort(got)
			if strings.Join(got, "; ") != c.want || len(unread) > 0 {
				t.Errorf("%q, %v, want %q", got, unread, c.want)
			}
		})
	}
}

// What cannot be read is named, with its file and line.
func TestReferencesUnread(t *testing.T) {
	t.Parallel()
	both := `web { path = "/jail/web"; mount.fstab = "/etc/fstab.web", "/etc/two"; }`
	rc := func(lines string) map[string]string {
		return map[string]string{"/etc/rc.conf": "jail_enable=YES\njail_list=db\njail_db_rootdir=/jail/db\n" +
			"jail_db_hostname=db\n" + lines}
	}
	for name, c := range map[string]struct {
		conf         string
		files, links map[string]string
		want         string
	}{
		"nothing": {webConf, nil, nil, ""},
		"nothing in " +
			"rc.conf": {webConf, rc("jail_db_fstab=\njail_db_parameters=persist\njail_db_exec_start=$(x)\n"),
			nil, ""},
		"nothing at the default fstab": {webConf, rc(""), nil, ""},
		"an fstab that is not there": {both, nil, nil, "/etc/jail.conf:1: fstab /etc/two of jail web is " +
			"not there"},
		"an fstab that is a directory": {both, map[string]string{"/etc/two/": ""}, nil,
			"/etc/two: is a directory"},
		"a link into nothing": {both, nil, map[string]string{"/etc/two": "/cfg/tab"},
			"/etc/jail.conf:1: fstab /etc/two of jail web is not there"},
		"a link to itself": {both, nil, map[string]string{"/etc/two": "two"}, "/etc/two: "},
		"a malformed line": {both, map[string]string{"/etc/two": "\n/a /b\n/c /d nullfs\n"}, nil,
			"/etc/two:2: 2 of the 3 fields"},
		"an escape that is none": {both, map[string]string{"/etc/two": "/a\\\x01 /b nullfs\n"}, nil,
			"/etc/two:1: a backslash"},
		"a malformed mount parameter": {webConf + `db { mount = "/a /b"; }`, nil, nil,
			"/etc/jail.conf:2: 2 of the 3"},
		"a mount with an unknown variable": {webConf + `db { mount = "$x /b nullfs"; }`, nil, nil,
			"/etc/jail.conf:2: "},
		"a relative fstab": {webConf + `db { mount.fstab = "tab"; }`, nil, nil,
			"tab: not an absolute path"},
		"a broken jail.conf": {webConf, map[string]string{"/etc/jail.conf.d/db.conf": "db {\n x"}, nil,
			"/etc/jail.conf.d/"},
		"a jail.conf that is not there": {webConf, rc("jail_db_conf=/cfg/db.conf\n"), nil,
			"/etc/rc.conf:5: /cfg/db.conf is not there"},
		"a jail.conf behind a " +
			"link": {webConf, nil, map[string]string{"/etc/jail.conf.d/db.conf": "/cfg/db.conf"},
			"/etc/jail.conf.d/db.conf: "},
		"an fstab that only a shell knows": {webConf, rc("jail_db_fstab=`x`\n"), nil,
			"/etc/rc.conf:5: the value of jail_db_fstab is not known"},
		"one for all jails": {webConf, rc("jail_fstab=`x`\n"), nil,
			"/etc/rc.conf:5: the value of jail_fstab is not known"},
		"a jail.conf that only a shell knows": {webConf, rc("jail_db_conf=`x`\n"), nil,
			"/etc/rc.conf:5: the value of jail_db_conf is not known"},
		"a root that only a shell knows": {webConf, rc("jail_x_rootdir=`x`\n"), nil,
			"/etc/rc.conf:5: the value of jail_x_rootdir is not known"},
		"parameters": {webConf, rc("jail_db_parameters=mount.fstab+=/etc/two\n"), nil,
			"/etc/rc.conf:5: jail_db_parameters sets mount.fstab of jail db"},
		"parameters of all": {webConf, rc("jail_parameters='persist mount.fstab=/etc/two'\n"), nil,
			"/etc/rc.conf:5: jail_parameters sets mount.fstab of jail db"},
		"a default fstab behind a link": {webConf, rc(""), map[string]string{"/etc/fstab.db": "/cfg/tab"},
			"/etc/fstab.db: fstab /etc/fstab.db of jail db is not there"},
		"the host's fstab": {webConf, map[string]string{"/etc/fstab": "/a /b nullfs\n"}, nil,
			"/etc/fstab:1: 3 of the 4"},
		"a host's fstab behind a link": {webConf, nil, map[string]string{"/etc/fstab": "/cfg/tab"},
			"/etc/fstab: /etc/fstab is not there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, unread := mountsMachine(t, c.conf, c.files, c.links).References()
			if c.want == "" && len(unread) > 0 {
				t.Errorf("%v", unread)
			}
			if c.want != "" && (len(unread) != 1 || !strings.HasPrefix(unread[0].Error(), c.want)) {
				t.Errorf("%v, want %s", unread, c.want)
			}
			if (unread.Err() != nil) != (c.want != "") {
				t.Error(unread.Err())
			}
		})
	}
}

// A switch edits each fstab that names the snapshot, or none and says where the reference is that it cannot
// edit.
func TestSwitchTo(t *testing.T) {
	t.Parallel()
	const two = "/jail/proto/.zfs/snapshot/1 /jail/web nullfs ro\n"
	base := "/jail/proto/.zfs/snapshot/1/etc /jail/web/conf/base/etc nullfs ro\n"
	both := `web { path = "/jail/web"; mount.fstab = "/etc/two", "/etc/fstab.web", "/etc/again"; }` + "\n"
	for name, c := range map[string]struct {
		conf         string
		files, links map[string]string
		want         string // the files that are edited, or what is refused
	}{
		"both": {both, map[string]string{"/etc/two": two, "/etc/again": "/x /jail/web/x nullfs\n"}, nil,
			"/etc/two /etc/fstab.web"},
		"one, named twice": {both, map[string]string{"/etc/two": two}, map[string]string{"/etc/again": "two"},
			"/etc/two /etc/fstab.web"},
		"by its dataset too": {both, map[string]string{"/etc/two": "zp/proto@1 /jail/web zfs\n",
			"/etc/again": "",
			DefaultFile:  "[prototype.proto]\nroot = \"/jail/proto\"\ndataset = \"zp/proto\"\n"}, nil,
			"/etc/two /etc/fstab.web"},
		"by another name of its directory": {both, map[string]string{
			"/etc/two": "/j/proto/.zfs/snapshot/1 /jail/web nullfs ro\n", "/etc/again": ""},
			map[string]string{"/j": "/jail"}, "/etc/two /etc/fstab.web"},
		"a mount parameter": {"web { path = \"/jail/web\"; mount.fstab = \"/etc/fstab.web\";\nmount = \"" +
			strings.TrimSpace(two) + "\"; }", nil, nil, "!/etc/jail.conf:2: it names snapshot 1"},
		"a mount parameter that is there already": {"web { path = \"/jail/web\"; mount.fstab = " +
			"\"/etc/fstab.web\";" +
			"\nmount = \"/jail/proto/.zfs/snapshot/2 /jail/web nullfs\"; }", nil, nil, "/etc/fstab.web"},
		"a mount parameter of another prototype": {"web { path = \"/jail/web\"; mount.fstab = " +
			"\"/etc/fstab.web\";" +
			"\nmount = \"/jail/other/.zfs/snapshot/1 /jail/web/x nullfs\"; }", nil, nil, "/etc/fstab.web"},
		"a link to the snapshot": {both, map[string]string{"/etc/two": "/jail/now /jail/web nullfs\n",
			"/etc/again": ""}, map[string]string{"/jail/now": "proto/.zfs/snapshot/1"},
			"!/etc/two:1: it names snapshot 1"},
		"an fstab of two jails": {both + `db { path = "/jail/db"; mount.fstab = "/etc/alias"; }`,
			map[string]string{"/etc/two": two, "/etc/again": ""}, map[string]string{"/etc/alias": "two"},
			"!/etc/two:1: it names snapshot 1"},
		"an fstab of two jails, by a link of this one": {both +
			`db { path = "/jail/db"; mount.fstab = "/etc/tab"; }`,
			map[string]string{"/etc/tab": two, "/etc/again": ""}, map[string]string{"/etc/two": "tab"},
			"!/etc/two:1: it names snapshot 1"},
		"an fstab of the host too": {strings.Replace(webConf, "fstab.web", "fstab", 1),
			map[string]string{"/etc/fstab": base}, nil, "!/etc/fstab:1: it names snapshot 1"},
		"a line of the host": {webConf, map[string]string{"/etc/fstab": "\n" + two}, nil,
			"!/etc/fstab:2: it names snapshot 1"},
		"a base of cfgd.toml": {webConf, map[string]string{DefaultFile: "[jail.web]\n" +
			"base = \"/jail/proto/.zfs/snapshot/1/etc\"\n"}, nil, "!" + DefaultFile +
			":2: it names snapshot 1"},
		"an fstab that is not there": {both, map[string]string{"/etc/two": two}, nil,
			"!/etc/jail.conf:1: fstab /etc/again of jail web is not there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := mountsMachine(t, c.conf, c.files, c.links)
			s, err := m.SwitchTo(m.Target("web"), "2")
			if words, refused := strings.CutPrefix(c.want, "!"); refused {
				if err == nil || !strings.HasPrefix(err.Error(), words) {
					t.Errorf("%+v, %v, want %s", s, err, words)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, e := range s.Edits {
				names = append(names, e.File)
				if string(e.New) != strings.NewReplacer("shot/1", "shot/2", "@1",
					"@2").Replace(string(e.Old)) {
					t.Errorf("%s: %s", e.File, e.New)
				}
			}
			if strings.Join(names, " ") != c.want || !slices.Equal(s.From, []string{"1"}) {
				t.Errorf("%q, %q", names, s.From)
			}
		})
	}
	// What is read is the file as it is now, and what was added to it since counts.
	m := mountsMachine(t, webConf, nil, nil)
	name := filepath.Join(m.Root, "etc/fstab.web")
	if err := os.WriteFile(name, []byte(base+two), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := m.SwitchTo(m.Target("web"), "2"); err != nil || len(s.Edits[0].Lines) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := os.WriteFile(filepath.Join(m.Root, "etc/fstab"), []byte("zp/x@1 /x zfs ro\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	if refs, _ := m.References(); len(refs) != 3 {
		t.Errorf("%v", refs)
	}
	if err := os.WriteFile(filepath.Join(m.Root, "etc/fstab"), []byte(two), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := m.SwitchTo(m.Target("web"), "2")
	if err == nil || !strings.HasPrefix(err.Error(), "/etc/fstab:1: ") {
		t.Errorf("a line that the host has now: %+v, %v", s, err)
	}
}

// A line of /etc/fstab that mount(8) passes over is named, and leaves the others as they are. If it is cfg's,
// the directory without it is still not taken for cfg.
func TestHostFstabLines(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"/dev/ada0s3 /cfg ufs noauto 2 2\n": {"/etc/fstab:1 error: neither rw nor " +
			"ro is among its options"},
		"/dev/ada0s3 /cfg ufs xx 2 2\n": {"/etc/fstab:1 error: xx among its " +
			"options turns it off"},
		"/dev/ada0s3 /cfg\n": {"/etc/fstab:1 error: 2 of the 4 " +
			"fields"},
		"/dev/ada0s3\\\x01 /cfg ufs rw 0 0\n": {"/etc/fstab:1 error: a backslash " +
			"begins nothing"},
		"x\n/dev/ada0s3 /cfg ufs rw,noauto 2 2\n": {"/etc/fstab:1 warning: 1 of the 4 " +
			"fields"},
		"/x /y ufs noauto\n/dev/ada0s3 /cfg ufs ro\n": {"/etc/fstab:1 warning: neither rw " +
			"nor ro"},
		"/x /y ufs noauto,xx\n/dev/ada0s3 /cfg ufs ro\n":            {},
		"/x /y ufs noauto,sw\n/dev/ada0s3 /cfg ufs ro#,rw,noauto\n": {},
	} {
		m := mustLoad(t, map[string]string{"/conf/base/etc/": "", "/etc/fstab": text, "/etc/rc.conf": ""})
		conffiletest.WantProblems(t, slices.DeleteFunc(m.Problems, func(p conffile.Problem) bool {
			return p.Kind != conffile.UnusedLine
		}), want...)
		usable := len(want) == 0 || strings.Contains(want[0], "warning")
		if h := m.Target(HostName); h == nil || !h.CfgMount || (h.CfgNoauto || h.CfgReadOnly) != usable {
			t.Errorf("%q: %+v", text, h)
		}
	}
}
