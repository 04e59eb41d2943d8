package config

import "testing"

func TestParseSnapshot(t *testing.T) {
	for source, want := range map[string][4]string{ // id, prototype, the same at 2, ""
		"/jail/proto/etc/.zfs/snapshot/1": {
			"proto/etc@1", "/jail/proto", "/jail/proto/etc/.zfs/snapshot/2",
		},
		"/jail/proto/etc/.zfs/snapshot/1/": {
			"proto/etc@1", "/jail/proto", "/jail/proto/etc/.zfs/snapshot/2",
		},
		"/jail/proto/.zfs/snapshot/1": {"jail/proto@1", "/jail/proto", "/jail/proto/.zfs/snapshot/2"},
		"/jail/proto/.zfs/snapshot/1/etc": {
			"proto/etc@1", "/jail/proto", "/jail/proto/.zfs/snapshot/2/etc",
		},
		"/jail/proto/.cfgd/snapshot/1/etc": {
			"proto/etc@1", "/jail/proto", "/jail/proto/.cfgd/snapshot/2/etc",
		},
		"/jail/proto/etc/.cfgd/snapshot/1": {
			"proto/etc@1", "/jail/proto", "/jail/proto/etc/.cfgd/snapshot/2",
		},
		"/p/etc/.zfs/snapshot/before-update": {"p/etc@before-update", "/p", "/p/etc/.zfs/snapshot/2"},
		"/etc/.zfs/snapshot/1":               {"etc@1", "/", "/etc/.zfs/snapshot/2"},
		"zpool/proto/etc@1":                  {"proto/etc@1", "zpool/proto", "zpool/proto/etc@2"},
	} {
		s, ok := ParseSnapshot(source)
		got := [4]string{s.ID(), s.Prototype(), s.At("2").String()}
		if !ok || got != want {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
	for _, source := range []string{
		"/jail/proto/etc", "/jail/.zfs/snapshot", "zpool/proto", "a@", "@1", "a@b/c", "", "/",
	} {
		if s, ok := ParseSnapshot(source); ok {
			t.Errorf("%q is %+v", source, s)
		}
		if baseID(source) != "" {
			t.Errorf("base id of %q", source)
		}
	}
}
