package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"cfgd/config"
	"cfgd/overlay"
)

// lab is the place of all measurements: a tree in memory, and a directory on disk.
type lab struct {
	*options
	dir   string // the trees; in memory if a tmpfs can be mounted
	disk  string // cfg
	items []item
	inRAM bool

	made int // number of directories made so far
}

// newLab makes the directories and the tree.
func newLab(ctx context.Context, o *options) (l *lab, err error) {
	l = &lab{options: o, items: plan(o.seed, o.scale)}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.dir, err = os.MkdirTemp("", "cfgd-bench-tree-"); err != nil {
		return l, err
	}
	if l.disk, err = os.MkdirTemp(o.cfg, "cfgd-bench-cfg-"); err != nil {
		return l, err
	}
	if os.Geteuid() == 0 {
		if err := command(ctx, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", l.tmpfsSize()), "tmpfs",
			l.dir); err != nil {
			return l, fmt.Errorf("mount tmpfs: %w", err)
		}
		l.inRAM = true
	}
	return l, writeTree(l.base(), l.items)
}

// tmpfsSize returns the size of the tmpfs in bytes.
func (l *lab) tmpfsSize() int {
	_, size := measure(l.items)
	const slack = 1 << 30
	return (l.targets+20)*size + slack
}

// close unmounts and removes everything.
func (l *lab) close() error {
	var err error
	if l.inRAM {
		if err = command(context.Background(), "umount", l.dir); err != nil {
			return err // what is below must not be removed
		}
	}
	for _, dir := range []string{l.dir, l.disk} {
		if dir != "" {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// base returns the directory of the read-only defaults of all targets.
func (l *lab) base() string { return filepath.Join(l.dir, "base") }

// fresh makes a new empty directory beside base.
func (l *lab) fresh() (string, error) {
	l.made++
	dir := filepath.Join(l.dir, fmt.Sprintf("d%d", l.made))
	return dir, os.Mkdir(dir, 0o755)
}

// newTarget makes a target on base with an empty live tree in memory and an empty cfg on disk.
func (l *lab) newTarget() (*overlay.Overlay, error) {
	live, err := l.fresh()
	if err != nil {
		return nil, err
	}
	name := filepath.Base(live)
	cfg := filepath.Join(l.disk, name)
	if err := os.Mkdir(cfg, 0o755); err != nil {
		return nil, err
	}
	return newOverlay(places{Name: name, Base: l.base(), Live: live, Cfg: cfg,
		Run: filepath.Join(l.dir, "run")}), nil
}

// places are the directories of a target.
type places struct{ Name, Base, Live, Cfg, Run string }

func newOverlay(p places) *overlay.Overlay {
	t := &config.Target{
		Name: p.Name, Root: p.Live, Base: p.Base, BaseID: "proto/etc@1", Cfg: p.Cfg, Live: p.Live,
		Classes: &config.Classes{},
	}
	t.Settings = config.Settings{
		Rescan: time.Minute, Memory: config.BackingTmpfs, MaxFile: 16 << 20, KeepGenerations: 100,
		KeepBytes: 16 << 20,
	}
	o := overlay.New(&config.Model{Targets: []*config.Target{t}}, t)
	o.RunDir = p.Run
	return o
}

// placesOf returns what a child needs to open the same target.
func (l *lab) placesOf(o *overlay.Overlay) places {
	return places{
		Name: o.Target.Name, Base: o.Target.Base, Live: o.Target.Live, Cfg: o.Target.Cfg, Run: o.RunDir,
	}
}

// populated makes a target and fills its live tree.
func (l *lab) populated(ctx context.Context) (*overlay.Overlay, error) {
	o, err := l.newTarget()
	if err != nil {
		return nil, err
	}
	_, err = o.Populate(ctx, string(config.BackingTmpfs), "")
	return o, err
}

// settled waits until the change times of new files are old enough for scans to trust them.
func settled() { time.Sleep(1200 * time.Millisecond) }

// describe returns a line about the machine and the tree.
func (l *lab) describe() string {
	entries, size := measure(l.items)
	where := "a temporary directory (not root: no tmpfs)"
	if l.inRAM {
		where = "tmpfs"
	}
	return fmt.Sprintf("%d entries, %.1f MB on %s; %s/%s, %d cores, %s; medians of %d rounds", entries,
		float64(size)/1e6, where,
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), l.rounds) +
		"\nours is timed in the process, as the daemon does it, unless the row says otherwise; peers are " +
		"whole processes, nothing taken off"
}
