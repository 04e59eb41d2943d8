package prototype

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/internal/mount"
	"cfgd/internal/run"
)

// table is a table of mounts, below a directory of the test's. It answers as statfs(2) does.
type table struct {
	dir    string
	mounts [][3]string // type, source, mountpoint
}

func (x table) holding(dir string) (mount.Mount, error) {
	found := mount.Mount{Type: "ufs", Source: "/dev/ada0p2", Dir: "/"}
	long := 0
	for _, m := range x.mounts {
		on := filepath.Join(x.dir, m[2])
		if dir != on && !strings.HasPrefix(dir, on+"/") || len(on) < long {
			continue
		}
		found, long = mount.Mount{Type: m[0], Source: m[1], Dir: on}, len(on)
		if m[0] == "nullfs" {
			found.Source = filepath.Join(x.dir, m[1])
		}
		if m[2] == "part" {
			found.Dir = ""
		}
	}
	if found.Type == "broken" {
		return mount.Mount{}, errors.New("input/output error")
	}
	return found, nil
}

// The filesystem of a prototype's root decides, whatever is installed.
func TestDatasetOf(t *testing.T) {
	t.Parallel()
	zfs := [3]string{"zfs", "zpool/jail/proto", "jail/proto"}
	for name, c := range map[string]struct {
		mounts [][3]string
		path   string
		want   string
		err    string
	}{
		"UFS":                        {nil, "jail/proto", "", ""},
		"a dataset":                  {[][3]string{zfs}, "jail/proto", "zpool/jail/proto", ""},
		"a directory in a dataset":   {[][3]string{{"zfs", "zroot/ROOT/default", ""}}, "jail/proto", "", ""},
		"a directory in a dataset 2": {[][3]string{zfs}, "jail/proto/etc/local", "", ""},
		"a dataset on a dataset": {
			[][3]string{{"zfs", "zpool/jail", "jail"}, zfs}, "jail/proto", "zpool/jail/proto", "",
		},
		"UFS over a dataset": {
			[][3]string{zfs, {"ufs", "/dev/md3", "jail/proto"}}, "jail/proto", "", "",
		},
		"memory": {[][3]string{{"tmpfs", "tmpfs", "jail"}}, "jail/proto", "", ""},
		"nullfs of a dataset": {
			[][3]string{{"zfs", "zpool/x", "data/x"}, {"nullfs", "data/x", "jail/proto"}}, "jail/proto",
			"zpool/x", "",
		},
		"nullfs of UFS": {[][3]string{{"nullfs", "data/x", "jail/proto"}}, "jail/proto", "", ""},
		"nullfs of a part": {
			[][3]string{{"zfs", "zpool/data", "data"}, {"nullfs", "data/x", "jail/proto"}}, "jail/proto", "",
			"",
		},
		"below a nullfs": {
			[][3]string{{"zfs", "zpool/p", "data/x/proto"}, {"nullfs", "data/x", "jail"}}, "jail/proto",
			"zpool/p", "",
		},
		"nullfs of nullfs": {
			[][3]string{
				{"zfs", "zpool/x", "data/x"}, {"nullfs", "data/x", "data/y"},
				{"nullfs", "data/y", "jail/proto"},
			}, "jail/proto", "zpool/x", "",
		},
		"nullfs of itself": {
			[][3]string{{"nullfs", "jail/proto", "jail/proto"}}, "jail/proto", "", "more than 16 nullfs",
		},
		"a snapshot of a dataset": {
			[][3]string{{"zfs", "zpool/jail/proto@1", "jail/proto"}}, "jail/proto", "", "",
		},
		"a part of a dataset":     {[][3]string{{"zfs", "zpool/jail/proto", "part"}}, "part", "", ""},
		"not there, UFS":          {nil, "jail/new/one", "", ""},
		"not there, in a dataset": {[][3]string{{"zfs", "zpool/jail", "jail"}}, "jail/new/one", "", ""},
		"not there, at a dataset": {[][3]string{zfs}, "jail/proto/new", "", ""},
		"a link to a dataset":     {[][3]string{{"zfs", "zpool/x", "data/x"}}, "jail/link", "zpool/x", ""},
		"no answer": {
			[][3]string{{"broken", "", "jail/proto"}}, "jail/proto", "", "input/output error",
		},
	} {
		dir, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{"jail/proto/etc/local", "data/x/proto", "data/y", "part"} {
			err = errors.Join(err, os.MkdirAll(filepath.Join(dir, d), 0o755))
		}
		if err = errors.Join(err, os.Symlink("../data/x", filepath.Join(dir, "jail/link"))); err != nil {
			t.Fatal(err)
		}
		got, err := DatasetOf(filepath.Join(dir, c.path), table{dir, c.mounts}.holding)
		if got != c.want || (err != nil) != (c.err != "") ||
			err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v; want %q, %q", name, got, err, c.want, c.err)
		}
	}
}

// The system's own answer, for a place that is no ZFS dataset's root anywhere.
func TestHolding(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if dataset, err := DatasetOf(filepath.Join(dir, "not/there"), mount.Holding); dataset != "" ||
		err != nil {
		t.Errorf("%q, %v", dataset, err)
	}
	if _, err := mount.Holding(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// noCommand fails the test when a command is run.
type noCommand struct{ *testing.T }

func (r noCommand) Run(_ context.Context, c run.Cmd) (string, error) {
	r.Errorf("%s is run", c)
	return "", errors.ErrUnsupported
}

// The kind of snapshots that a prototype has. Without ZFS no command runs: zfs(8) would load zfs.ko.
func TestOpen(t *testing.T) {
	t.Parallel()
	ref := func(mark string) []config.Reference {
		return []config.Reference{{
			Snapshot: config.Snapshot{Tree: "/jail/proto", Mark: mark, Name: "1"},
			Jail:     "v1",
			At:       conffile.Origin{File: "/etc/fstab.v1", Line: 3},
		}}
	}
	zfs := [][3]string{{"zfs", "zpool/jail/proto", "jail/proto"}}
	for name, c := range map[string]struct {
		mounts   [][3]string
		copies   bool
		embedded bool
		dataset  string
		refs     []config.Reference
		want     string // the dataset; "" is copies
		err      string
	}{
		"UFS":                  {},
		"UFS, jails on copies": {refs: ref(config.CopyMark)},
		"UFS, jails on ZFS's snapshots": {
			refs: ref(config.ZFSMark),
			err:  "/etc/fstab.v1:3 names a snapshot of ZFS, but",
		},
		"ZFS":                       {mounts: zfs, want: "zpool/jail/proto"},
		"ZFS, and copies are there": {mounts: zfs, copies: true},
		"ZFS, with --root":          {mounts: zfs, embedded: true},
		"the administrator says so": {dataset: "tank/p", want: "tank/p"},
		"the administrator, --root": {dataset: "tank/p", embedded: true},
		"no answer": {
			mounts: [][3]string{{"broken", "", "jail"}},
			err:    "give its dataset in [prototype.proto] of cfgd.toml",
		},
	} {
		y := newProto(t)
		if c.copies {
			y.Write("jail/proto/.cfgd/snapshot/1/etc/rc.conf", "x\n")
		}
		k := Opener{Prototype: &config.Prototype{Name: "proto", Root: "/jail/proto", Dataset: c.dataset},
			Root: y.Path("jail/proto"), Embedded: c.embedded,
			Run: noCommand{t}, Holding: table{y.Root, c.mounts}.holding,
			References: func() ([]config.Reference, config.Unread) { return c.refs, nil }}
		snaps, err := k.Open()
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		if err != nil {
			continue
		}
		if z, ok := snaps.(ZFS); ok || c.want != "" {
			if z.Dataset != c.want {
				t.Errorf("%s: %+v, want %s", name, snaps, c.want)
			}
			continue
		}
		_, err = snaps.List(t.Context())
		_, err2 := snaps.InUse(t.Context())
		if err := errors.Join(err, err2, snaps.Take(t.Context(), "7", ""),
			snaps.Destroy(t.Context(), "7")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
