package config

import (
	"testing"

	"cfgd/config/conffile"
	"cfgd/config/rcconf"
)

// Names of jails become variables and names as rc.d/jail makes them.
func TestRcJailNames(t *testing.T) {
	m := mustLoad(t, map[string]string{
		"/etc/rc.conf": `jail_list="www.example.org my-jail"
jail_www_example_org_rootdir=/jail/www jail_www_example_org_hostname=www
jail_my_jail_rootdir=/jail/my jail_my_jail_hostname=my
jail_exec_prestart0="cfgd jail init x"
`,
		"/etc/fstab.www_example_org": "/jail/proto/etc/.zfs/snapshot/7 /jail/www/conf/base/etc nullfs ro 0 " +
			"0\n",
		"/etc/fstab.my-jail": "/jail/proto/etc/.zfs/snapshot/7 /jail/my/conf/base/etc/ nullfs ro 0 0\n",
	})
	if len(m.Targets) != 2 || m.Targets[0].Name != "my-jail" || m.Targets[1].Name != "www_example_org" {
		t.Fatalf("targets %+v", m.Targets)
	}
	if got := m.Targets[0]; got.Fstab != "/etc/fstab.my-jail" || got.Prestart[0] != "cfgd jail init x" {
		t.Errorf("target %+v", got)
	}
}

// rcText is the text of an rc.conf, and a reader that has no other file.
type rcText string

func (text rcText) ReadFile(string) ([]byte, error) { return []byte(text), nil }
func (rcText) Glob(string) ([]string, error)        { return nil, nil }

// FuzzRcJails: any rc.conf that sh(1) can read ends in jails and problems with their lines.
func FuzzRcJails(f *testing.F) {
	f.Add(paperRcConf)
	f.Add("jail_list=\"a b\"\njail_a_rootdir=/a\njail_a_exec_prestart0=x\njail_a_exec_prestart0=y\n" +
		"jail_c_rootdir=/c\n")
	none, err := conffile.Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rc, err := rcconf.LoadFile(rcText(text), "/etc/rc.conf")
		if err != nil {
			return
		}
		jails := &rcJails{rc: rc, read: none}
		find := &jailFinder{rc: rc}
		for _, d := range jails.find() {
			find.checkDuplicates(d, rc.Doubled())
		}
		for _, p := range append(jails.Problems, find.Problems...) {
			if p.Fix == "" || p.Message == "" || p.Line < 1 {
				t.Errorf("problem %+v", p)
			}
		}
	})
}
