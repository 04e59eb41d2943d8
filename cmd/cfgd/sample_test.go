package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"cfgd/config"
)

// TestSample loads the sample on the demo's machine. As it is, it changes nothing. Without its comment signs
// it is valid.
func TestSample(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "m")
	if err := buildMachine(root); err != nil {
		t.Fatal(err)
	}
	load := func(text string) *config.Model {
		t.Helper()
		file := filepath.Join(root, "cfgd.toml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := config.Load(config.Options{Root: root, File: file, Euid: -1})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	without, with := load(""), load(sample)
	for i, a := range without.Targets {
		b := with.Targets[i].Settings
		if a.Host() {
			b.KeepBytes = a.KeepBytes
		}
		if !reflect.DeepEqual(a.Settings, b) {
			t.Errorf("%s: the sample changes %+v to %+v", a.Name, a.Settings, b)
		}
	}
	all := regexp.MustCompile(`(?m)^# (\[|[a-z_]+ +=)`).ReplaceAllString(sample, "$1")
	m := load(all)
	if got := m.Target("vhost1"); got == nil || got.Base != "/jail/proto/etc/.zfs/snapshot/1" ||
		!strings.HasPrefix(got.Health, "/usr/sbin/jexec") {
		t.Errorf("vhost1: %+v", got)
	}
	if c, _ := m.Classes.Of("local/ssl/private/x"); c != config.Secret {
		t.Errorf("class %s", c)
	}
	if c, _ := m.Target("vhost1").Checkers.Of("local/haproxy.conf"); strings.Join(c.Words("x"),
		" ") != "haproxy -c -f x" || c.Where != config.WhereTarget || c.Timeout != 5*time.Second {
		t.Errorf("checker %+v", c)
	}
}
