package jails

import (
	"strings"
	"testing"
	"time"

	"cfgd/config"
	"cfgd/internal/machinetest"
)

func TestOwnDatasets(t *testing.T) {
	t.Parallel()
	protos := []*config.Prototype{{Name: "proto", Dataset: "zpool/proto"}}
	for text, want := range map[string]string{
		"zpool/v/cfg /jail/v/cfg zfs rw\nzpool/v/var /jail/v/var zfs rw\n": "zpool/v",
		"zpool/v/cfg /jail/v/cfg zfs rw\ntank/data /jail/v/data zfs rw\n":  "tank/data zpool/v",
		"/jail/proto/.zfs/snapshot/1 /jail/v nullfs ro\n":                  "",
		"zpool/proto/etc /jail/v/x zfs rw\n":                               "!the prototype's",
		"zpool/v/$(x) /jail/v/x zfs rw\n":                                  "!no dataset",
		"-r/x /jail/v/x zfs rw\n":                                          "!no dataset",
	} {
		d := machinetest.New(t)
		d.Write("etc/fstab.v", text)
		mounts, err := config.FstabMounts(d.Root, "v", "/etc/fstab.v")
		d.Must(err)
		tops, err := OwnDatasets("v", mounts.All, protos)
		if words, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), words) ||
				!strings.Contains(err.Error(), "/etc/fstab.v:1") {
				t.Errorf("%s: %v, %v", text, tops, err)
			}
			continue
		}
		if err != nil || strings.Join(tops, " ") != want {
			t.Errorf("%s: %v, %v", text, tops, err)
		}
	}
	name := BackupName(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if name != "cfgd-20260102T030405Z" || !IsBackup(name) || IsBackup("3") || IsBackup("cfgd-x") ||
		IsBackup("20260102T030405Z") {
		t.Error(name)
	}
	if got := Backup([]string{"zpool/v", "tank/data"}, name, "before").
		String(); got != "zfs snapshot -r -o cfgd:comment=before zpool/v@"+name+" tank/data@"+name {
		t.Error(got)
	}
}
