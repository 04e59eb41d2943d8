package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/mount"
	"cfgd/internal/run"
	"cfgd/jailhooks"
	"cfgd/jails"
	"cfgd/overlay"
	"cfgd/overlay/tree"
)

// benchJails plans a switch of many jails, including the reading of the configuration, and starts one jail.
func benchJails(ctx context.Context, l *lab) ([]row, error) {
	root, err := l.machine(ctx)
	if err != nil {
		return nil, err
	}
	planned := &contestant{name: "plan", run: func() error { return planSwitches(ctx, root, l.targets) }}
	one := filepath.Join(root, "jail/j001/cfg") + "/"
	snapshots := filepath.Join(root, "jail/proto/.cfgd/snapshot")
	diff := &contestant{name: "diff -r", tools: []string{"diff"}, run: func() error {
		// the exit status is 1, because they differ
		_ = command(ctx, "diff", "-r", snapshots+"/1/etc", snapshots+"/2/etc")
		_ = command(ctx, "diff", "-r", snapshots+"/1/etc", one)
		return ctx.Err()
	}}
	if err := race(ctx, l.rounds, planned, diff); err != nil {
		return nil, err
	}
	each := planned.median() / time.Duration(l.targets)
	rows := []row{within(fmt.Sprintf("plan of a switch of %d jails, each with %d overrides", l.targets,
		overrides), planned.median(), 2*time.Second)}
	if tool := diff.missing(); tool != "" {
		rows = append(rows, skipped("the same, a jail", each, tool))
	} else {
		rows = append(rows, versus("the same, a jail", each, diff.name, diff.median(), 0.1))
	}
	init, err := l.benchInit(ctx)
	return append(rows, init...), err
}

// machine makes a directory with as many jails as there are targets, all on the first of two snapshots.
func (l *lab) machine(ctx context.Context) (string, error) {
	root, err := l.fresh()
	if err != nil {
		return "", err
	}
	first, err := l.overridden(ctx)
	if err != nil {
		return "", err
	}
	snapshots := filepath.Join(root, "jail/proto/.cfgd/snapshot")
	for _, n := range []string{"1", "2"} {
		if err := os.MkdirAll(filepath.Join(snapshots, n), 0o755); err != nil {
			return "", err
		}
	}
	if err := writeTree(filepath.Join(snapshots, "1/etc"), l.items); err != nil {
		return "", err
	}
	if err := l.release(filepath.Join(snapshots, "2/etc")); err != nil {
		return "", err
	}
	var rc strings.Builder
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		return "", err
	}
	for i := 1; i <= l.targets; i++ {
		name := fmt.Sprintf("j%03d", i)
		cfg := filepath.Join(root, "jail", name, "cfg")
		if err := os.MkdirAll(cfg, 0o755); err != nil {
			return "", err
		}
		if err := tree.CopyStore(ctx, first.Target.Cfg, cfg); err != nil {
			return "", err
		}
		fmt.Fprintf(&rc, "jail_list=\"$jail_list %s\"\n"+
			"jail_%[1]s_rootdir=/jail/%[1]s\njail_%[1]s_hostname=%[1]s\n"+
			"jail_%[1]s_fstab=/etc/fstab.%[1]s\n", name)
		fstab := fmt.Sprintf("/jail/proto/.cfgd/snapshot/1 /jail/%s nullfs ro 0 "+
			"0\n/jail/proto/.cfgd/snapshot/1/etc /jail/%[1]s/conf/base/etc nullfs ro 0 0\n", name)
		if err := os.WriteFile(filepath.Join(root, "etc/fstab."+name), []byte(fstab), 0o644); err != nil {
			return "", err
		}
	}
	return root, os.WriteFile(filepath.Join(root, "etc/rc.conf"), []byte(rc.String()), 0o644)
}

// planSwitches plans the switch of all jails of a machine.
func planSwitches(ctx context.Context, root string, n int) error {
	load := func() (*config.Model, error) { return config.Load(config.Options{Root: root, Euid: -1}) }
	m, err := load()
	if err != nil {
		return err
	}
	if len(m.Targets) != n {
		return fmt.Errorf("%d targets: %v", len(m.Targets), m.Problems)
	}
	bases := overlay.NewBases()
	s := &jails.Switcher{Model: m, Reload: load, Jails: jails.Embedded{}, Now: time.Now,
		Overlay: func(m *config.Model, t *config.Target) *overlay.Overlay {
			o := overlay.New(m, t)
			o.Bases = bases
			return o
		}}
	for _, t := range m.Targets {
		w, err := s.Plan(ctx, t, "2", false)
		if err != nil {
			return err
		}
		if len(w.Merge.Outcomes) < overrides/2 {
			return fmt.Errorf("%s: only %d outcomes", t.Name, len(w.Merge.Outcomes))
		}
	}
	return nil
}

// benchInit starts a jail on a tmpfs of its own, and populates an empty directory beside it.
func (l *lab) benchInit(ctx context.Context) ([]row, error) {
	name := "init of a jail, its tmpfs mounted"
	if !l.inRAM {
		return []row{{name: name, peer: "skipped: to mount takes root"}}, nil
	}
	o, err := l.savedTarget(ctx)
	if err != nil {
		return nil, err
	}
	p := l.placesOf(o)
	plain := &contestant{
		name: "populate alone", ready: func() error { return l.emptied(p.Live) },
		run: func() error { _, err := childPopulate(ctx, p, 0); return err },
	}
	q := p
	q.Name, q.Live = "started", filepath.Join(l.dir, "started/etc")
	q.Cfg = p.Cfg + "-started"
	if err := errors.Join(os.MkdirAll(q.Live, 0o755), os.MkdirAll(q.Cfg, 0o755)); err != nil {
		return nil, err
	}
	if err := tree.CopyStore(ctx, p.Cfg, q.Cfg); err != nil {
		return nil, err
	}
	hooks := func() *jailhooks.Hooks {
		k := newOverlay(q)
		k.Target.MemorySize = 64 << 20
		return &jailhooks.Hooks{Target: k.Target, Overlay: k, Run: run.System{}, Daemon: nobody{},
			Mounted: mount.On, GOOS: "linux",
			RescueDir: filepath.Join(l.disk, "rescue"), Now: time.Now}
	}
	stop := func() error { _, err := hooks().Cleanup(ctx); return err }
	started := &contestant{name: "init",
		ready: func() error { err := stop(); time.Sleep(freeing); return err },
		run:   func() error { _, err := hooks().Init(ctx); return err }}
	if err := race(ctx, l.rounds, started, plain); err != nil {
		return nil, errors.Join(err, stop())
	}
	return []row{against(name, started, plain, 1.3)}, stop()
}

// nobody stands for the daemon on a machine where none runs.
type nobody struct{}

func (nobody) Attach(context.Context, string) error { return nil }
func (nobody) Detach(context.Context, string) error { return nil }
