package config

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The samples of contrib, laid out as on a machine, make the paper's jail a target without a problem.
func TestContribSamples(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ sample, to string }{
		{"rc.conf.sample", "etc/rc.conf"}, {"jail.conf.sample", "etc/jail.conf"},
	} {
		root := t.TempDir()
		put := func(to string, content []byte) {
			full := filepath.Join(root, to)
			if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(full, content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		read := func(name string) []byte {
			b, err := os.ReadFile("../contrib/" + name)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		put(c.to, read(c.sample))
		put("etc/fstab.vhost1", read("fstab.sample"))
		if c.to == "etc/jail.conf" {
			put("etc/rc.conf", []byte("jail_enable=\"YES\"\njail_list=\"vhost1\"\n"))
		}
		put("jail/proto/etc/.zfs/snapshot/1/rc.conf", nil)
		put("jail/proto/.zfs/snapshot/1/x", nil)
		put("jail/vhost1/cfg/x", nil)
		m, err := Load(Options{Root: root, Euid: -1})
		if err != nil {
			t.Fatal(err)
		}
		v := m.Target("vhost1")
		if v == nil || len(m.Problems) > 0 {
			t.Fatalf("%s: %+v, %v", c.sample, v, m.Problems)
		}
		if !slices.Equal(v.Prestart, []string{"/usr/local/sbin/cfgd jail init vhost1"}) ||
			!slices.Equal(v.Poststop, []string{"/usr/local/sbin/cfgd jail cleanup vhost1"}) ||
			v.BaseID != "proto/etc@1" || v.Cfg != "/jail/vhost1/cfg" {
			t.Errorf("%s: %+v", c.sample, v)
		}
	}
}
