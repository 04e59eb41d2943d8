package prototype

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/internal/machinetest"
	"cfgd/internal/mount"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// pruneYard is a machine with prototype proto, whose root is named through a link, and jail web on 1.
func pruneYard(t *testing.T) *machinetest.Dir {
	y := machinetest.New(t)
	for n := range 9 {
		y.Write(fmt.Sprintf("data/jail/proto/.cfgd/snapshot/%d/etc/x", n+1), "x")
	}
	y.Write("data/jail/web/cfg/x", "")
	y.Must(os.Symlink("data/jail", y.Path("jail")))
	y.Write("etc/rc.conf", "jail_enable=YES\n")
	y.Write("etc/fstab.web", "/jail/proto/.cfgd/snapshot/1/etc /jail/web/conf/base/etc nullfs ro\n")
	y.Write("etc/jail.conf", "web { path = /jail/web; mount.fstab = /etc/fstab.web, /etc/two;\n"+
		"mount = \"/jail/proto/.cfgd/snapshot/2 /jail/web nullfs\"; }\n")
	y.Write("etc/two", "/data/jail/proto/.cfgd/snapshot/3/usr /jail/web/usr nullfs\n"+
		"zp/proto@4 /jail/web/x zfs ro # /jail/proto/.cfgd/snapshot/5\n")
	return y
}

func plan(y *machinetest.Dir, snaps Snapshots) ([]Candidate, error) {
	m, err := y.Load()
	y.Must(err)
	p := &Pruner{Model: m, Prototype: m.Prototypes[0], Snapshots: snaps,
		Overlay: func(t *config.Target) *overlay.Overlay { return overlay.New(m, t) },
		Mounted: func() ([]mount.Mount, error) {
			return []mount.Mount{{Source: y.Root + "/data/jail/proto/.cfgd/snapshot/6/etc", Type: "nullfs"}},
				nil
		}}
	return p.Plan(y.Context(), 1)
}

// Every mount that names a snapshot keeps it, whatever the form in which it names it.
func TestPruneKeepsAllMounts(t *testing.T) {
	t.Parallel()
	y := pruneYard(t)
	list := func(_ context.Context, c run.Cmd) (string, error) {
		var b strings.Builder
		for n := range 9 {
			last := "\t-"
			if slices.Contains(c.Args, "name,clones,userrefs") {
				last = "-\t0"
			}
			fmt.Fprintf(&b, "zp/proto@%d\t%s\n", n+1, strings.Replace(last, "\t-", "1700000000\t-", 1))
		}
		return b.String(), nil
	}
	for name, c := range map[string]struct {
		snaps Snapshots
		free  string
	}{
		"copies": {Copies{Root: y.Path("jail/proto")}, "4 5 7 8"},
		"ZFS":    {ZFS{Run: machinetest.Runner(list), Dataset: "zp/proto"}, "5 7 8"},
	} {
		all, err := plan(y, c.snaps)
		var free []string
		for _, x := range all {
			if x.Keep == "" {
				free = append(free, x.Name)
			}
		}
		if err != nil || len(all) != 9 || strings.Join(free, " ") != c.free {
			t.Errorf("%s: %+v, %v", name, all, err)
		}
	}
}

// While something cannot be read, no snapshot is a candidate, and the error has the file and the line.
func TestPruneRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(y *machinetest.Dir)
		want string
	}{
		"a fstab that is gone": {func(y *machinetest.Dir) { y.Must(os.Remove(y.Path("etc/two"))) },
			"/etc/jail.conf:1: fstab /etc/two of jail web is not there"},
		"a malformed line": {func(y *machinetest.Dir) { y.Write("etc/two", "\nx y\n") }, "/etc/two:2: "},
		"another jail's": {func(y *machinetest.Dir) { y.Write("etc/jail.conf.d/db.conf", "db {") },
			"/etc/jail.conf.d/db"},
		"the host's": {func(y *machinetest.Dir) { y.Write("etc/fstab", "x y\n") }, "/etc/fstab:1: "},
	} {
		y := pruneYard(t)
		y.Write("etc/rc.conf", y.Read("etc/rc.conf")+"jail_list=web\n")
		c.do(y)
		m, err := y.Load()
		y.Must(err)
		p := &Pruner{Model: m, Prototype: &config.Prototype{Name: "proto", Root: "/jail/proto"},
			Snapshots: Copies{Root: y.Path("jail/proto")}, Mounted: mount.All,
			Overlay: func(t *config.Target) *overlay.Overlay { return overlay.New(m, t) }}
		if all, err := p.Plan(y.Context(), 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v", name, all, err)
		}
	}
}
