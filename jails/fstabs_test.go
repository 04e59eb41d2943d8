package jails

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cfgd/config"
)

// tabs are the texts of the two fstabs of a jail on these snapshots.
func tabs(root, base string) [2]string {
	return [2]string{"# root\n/jail/proto/.zfs/snapshot/" + root + " /jail/vhost1 nullfs ro 0 0\n",
		"/jail/proto/etc/.zfs/snapshot/" + base + " /jail/vhost1/conf/base/etc nullfs ro 0 0\n"}
}

// twoTabs gives the jail two fstabs. The second is named through a link in /etc that leads to another
// directory of /etc.
func (y *yard) twoTabs(text [2]string) {
	y.Write("etc/rc.conf", "jail_enable=YES\n")
	y.Write("etc/jail.conf", "vhost1 { path = /jail/vhost1; mount.fstab = /etc/root.tab, /etc/base.tab; }\n")
	y.Write("etc/root.tab", text[0])
	y.Write("etc/tabs/base", text[1])
	if err := os.Symlink("tabs/base", y.Path("etc/base.tab")); err != nil && !errors.Is(err, os.ErrExist) {
		y.Fatal(err)
	}
}

func (y *yard) has(text [2]string) bool {
	return [2]string{y.Read("etc/root.tab"), y.Read("etc/tabs/base")} == text
}

// A switch edits both fstabs, saves each file that it wrote, and leaves the link as it is. If a step fails,
// whichever, both are as they were.
func TestSwitchTwoFstabs(t *testing.T) {
	t.Parallel()
	saved := []string{"save root.tab", "save tabs/base"}
	y := newYard(t)
	y.twoTabs(tabs("1", "1"))
	y.Must(y.switcher().Do(t.Context(), y.plan("2", true)))
	want := slices.Concat([]string{"stop 1"}, saved, []string{"start 2", "up 2"})
	if to, err := os.Readlink(y.Path("etc/base.tab")); !y.has(tabs("2", "2")) || !slices.Equal(y.log, want) ||
		to != "tabs/base" || err != nil || len(y.journals()) > 0 {
		t.Errorf("%q, link %q, %v, %q", y.log, to, err, y.journals())
	}
	for _, fails := range []string{saved[0], saved[1], "start 2", "up 2"} {
		y := newYard(t)
		y.twoTabs(tabs("1", "1"))
		y.fail[fails] = errors.New("boom")
		err := y.switcher().Do(t.Context(), y.plan("2", true))
		if err == nil || !y.has(tabs("1", "1")) {
			t.Errorf("%s: %v", fails, err)
		}
	}
	half := newYard(t)
	half.twoTabs(tabs("2", "1"))
	if p := half.plan("2", false); p.Already() || !slices.Equal(p.From, []string{"2", "1"}) {
		t.Errorf("%+v", p)
	}
	half.Must(half.switcher().Do(t.Context(), half.plan("2", false)))
	if !half.has(tabs("2", "2")) || !half.plan("2", false).Already() {
		t.Error("only one is on 1")
	}
}

// Whatever of the fstabs changes between the plan and the lock, nothing is switched.
func TestSwitchTwoFstabsReplan(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, text string }{
		"the first":                     {"etc/root.tab", tabs("1", "1")[0] + "# edited\n"},
		"the second":                    {"etc/tabs/base", tabs("1", "1")[1] + "# edited\n"},
		"the first no longer names it":  {"etc/root.tab", "\n"},
		"the second no longer names it": {"etc/tabs/base", "\n"},
		"the second cannot be read":     {"etc/tabs/base", "x\n"},
		"the first names another one":   {"etc/root.tab", tabs("2", "1")[0]},
	} {
		y := newYard(t)
		y.twoTabs(tabs("1", "1"))
		w, s := y.plan("2", false), y.switcher()
		y.Write(c.file, c.text)
		other := "etc/root.tab"
		if c.file == other {
			other = "etc/tabs/base"
		}
		before := y.Read(other)
		if err := s.Do(t.Context(), w); err == nil || y.Read(c.file) != c.text || y.Read(other) != before ||
			len(y.journals()) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A switch that was killed between two fstabs is finished. One by hand in either is left alone.
func TestSwitchTwoFstabsInterrupted(t *testing.T) {
	t.Parallel()
	hand := [2]string{"# by hand\n", tabs("2", "2")[1]}
	for name, c := range map[string]struct {
		is, ends [2]string
		finished bool
		log      []string
	}{
		"before":            {tabs("1", "1"), tabs("1", "1"), false, []string{"start 1"}},
		"between":           {tabs("2", "1"), tabs("2", "2"), true, nil},
		"the other between": {tabs("1", "2"), tabs("2", "2"), true, nil},
		"after":             {tabs("2", "2"), tabs("2", "2"), true, nil},
		"one by hand":       {hand, hand, true, []string{}},
	} {
		if c.log == nil {
			c.log = []string{"save root.tab", "save tabs/base", "start 2"}
		}
		y := newYard(t)
		y.twoTabs(c.is)
		y.on = ""
		old, now := tabs("1", "1"), tabs("2", "2")
		b, err := json.Marshal(journal{"vhost1", "2", journalFile{"/etc/root.tab", []byte(old[0]),
			[]byte(now[0])},
			[]journalFile{{"/etc/base.tab", []byte(old[1]), []byte(now[1])}}, true, time.Now()})
		y.Must(err)
		y.Write("var/db/cfgd/switch/vhost1.json", string(b))
		all, err := y.switcher().Recover(t.Context())
		if err != nil || len(all) != 1 || !y.has(c.ends) || !slices.Equal(y.log, c.log) {
			t.Errorf("%s: %+v, %v, %q", name, all, err, y.log)
			continue
		}
		if byHand := len(c.log) == 0; (all[0].Err != nil) != byHand || !byHand &&
			all[0].Finished != c.finished ||
			(len(y.journals()) > 0) != byHand {
			t.Errorf("%s: %+v, %q", name, all, y.journals())
		}
	}
}

// A clone has all that the jail mounts, from whatever file, and in its one fstab no # that jail(8) would cut.
func TestCloneOfAllMounts(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	y.twoTabs(tabs("1", "1"))
	conf := func(param string) *config.Target {
		y.Write("etc/jail.conf", "vhost1 { path = /jail/vhost1; mount.fstab = /etc/root.tab, "+
			"/etc/base.tab;\n"+
			"mount = \""+param+"\"; }\n")
		m, err := y.Load()
		y.Must(err)
		return m.Target("vhost1")
	}
	c, err := y.creator(&zpool{}).CloneOf(y.clone(), conf("/data/c#1 /jail/vhost1/#x tmpfs rw"), time.Now())
	y.Must(err)
	want := "/data/c\\0431 /jail/test/\\043x tmpfs rw 0 0\n" +
		strings.ReplaceAll(strings.TrimPrefix(tabs("2", "2")[0], "# root\n")+tabs("2", "2")[1], "vhost1",
			"test")
	if c.Files[0].Text != want {
		t.Errorf("%s", c.Files[0].Text)
	}
	for param, words := range map[string]string{"/a /jail/vhost1/x tmpfs rw,a#b": "has # in its type or " +
		"options",
		"/a /jail/vhost1/x": "/etc/jail.conf:2: 2 of the 3 fields"} {
		from := conf(param)
		if from == nil { // a fault that was there when the configuration was read
			continue
		}
		if _, err := y.creator(&zpool{}).CloneOf(y.clone(), from, time.Now()); err == nil ||
			!strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", param, err)
		}
	}
	from := conf("/data /jail/vhost1/x nullfs")
	y.Write("etc/tabs/base", tabs("1", "1")[1]+"/a /b\n")
	if _, err := y.creator(&zpool{}).CloneOf(y.clone(), from, time.Now()); err == nil ||
		!strings.Contains(err.Error(), "/etc/base.tab:2: 2 of the 3 fields") {
		t.Error(err)
	}
	if _, err := DatasetsOf(&config.Model{}, from); err == nil {
		t.Error("a backup without a line that cannot be read")
	}
}

// destroy destroys nothing that another jail or the host mounts, and nothing while what others mount is not
// known.
func TestDestroyAsksAllMounts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		conf, tab, host string
		want            string
		forced          bool // --force destroys it all the same
	}{
		"a mount parameter": {conf: `mount = "zpool/web/home /jail/db/home zfs rw";`,
			want: "/etc/jail.conf:1 mounts zpool/web/home"},
		"an fstab": {tab: "\nzpool/web/home/sub /jail/db/x zfs rw\n",
			want: "/etc/two:2 mounts zpool/web/home/sub"},
		"the host": {host: "zpool/web/var /mnt zfs rw,noauto\n",
			want: "/etc/fstab:1 mounts zpool/web/var"},
		"an fstab that cannot be read": {tab: "x\n", want: "/etc/two:1: 1 of the 3", forced: true},
		"a neighbour":                  {tab: "zpool/web2/var /jail/db/x zfs rw\n"},
	} {
		y, z := newYard(t), &zpool{}
		y.Write("etc/two", c.tab)
		y.Write("etc/fstab", c.host)
		y.Write("etc/jail.conf", "db { path = /jail/db; mount.fstab = /etc/two; "+c.conf+" }\n")
		made, err := y.spec().Plan(time.Now())
		y.Must(err)
		_, err = y.creator(z).Create(t.Context(), made)
		y.Must(err)
		for _, force := range []bool{false, true} {
			err := y.creator(z).Destroy(t.Context(), made, force)
			refused := err != nil && strings.Contains(err.Error(), c.want)
			if want := c.want != "" && (!force || !c.forced); refused != want || err != nil && !want {
				t.Errorf("%s, force %v: %v", name, force, err)
			}
			if err == nil {
				break
			}
		}
	}
}
