package main

import (
	"context"
	"os"
	"path/filepath"

	"cfgd/overlay"
	"cfgd/overlay/tree"
)

// rescanner scans a live tree again and again, as the daemon does.
type rescanner struct {
	o     *overlay.Overlay
	saved *tree.Tree
	prev  *tree.Tree
	dirty map[string]bool
}

// newRescanner reads everything once. The live tree serves as the saved tree too.
func newRescanner(ctx context.Context, o *overlay.Overlay) (*rescanner, error) {
	k := &rescanner{o: o}
	if err := k.scan(ctx); err != nil {
		return nil, err
	}
	k.saved = k.prev
	return k, nil
}

func (k *rescanner) scan(ctx context.Context) error {
	d, err := k.o.OpenLive()
	if err != nil {
		return err
	}
	defer d.Close()
	k.prev, err = tree.Scan(ctx, d, tree.ScanOptions{
		Prev: k.prev, Dirty: k.dirty, Names: k.saved, MaxFile: k.o.Target.MaxFile,
	})
	return err
}

// changes scans, and returns what differs.
func (k *rescanner) changes(ctx context.Context) (int, error) {
	if err := k.scan(ctx); err != nil {
		return 0, err
	}
	return len(tree.Delta(k.saved, k.prev)), nil
}

// benchScan finds the one change in a live tree.
func benchScan(ctx context.Context, l *lab) ([]row, error) {
	o, copied, err := l.editedTarget(ctx)
	if err != nil {
		return nil, err
	}
	k, err := newRescanner(ctx, o)
	if err != nil {
		return nil, err
	}
	one := *k
	one.dirty = map[string]bool{"ssh": true}
	if _, err := o.Look(ctx, overlay.LookOptions{}); err != nil {
		return nil, err
	}
	live, stamp := o.Target.Live+"/", filepath.Join(copied, "rc.conf")
	cached := &contestant{name: "scan", run: func() error { _, err := k.changes(ctx); return err }}
	dirty := &contestant{name: "dirty", run: func() error { _, err := one.changes(ctx); return err }}
	whole := &contestant{
		name: "look", run: func() error { _, err := o.Look(ctx, overlay.LookOptions{}); return err },
	}
	cold := &contestant{name: "cold", run: func() error { return child(ctx, "scan", l.placesOf(o), 0, nil) }}
	rsync := program(ctx, "rsync -an", "rsync", "-an", "--delete", live, copied+"/")
	content := program(ctx, "rsync -acn", "rsync", "-acn", "--delete", live, copied+"/")
	find := program(ctx, "find -newer", "find", live, "-newer", stamp)
	if err := race(ctx, l.rounds, cached, rsync, find, dirty, whole, cold, content); err != nil {
		return nil, err
	}
	return []row{
		against("what changed, cached", cached, rsync, 1.0/8),
		against("what changed, cached", cached, find, 1),
		against("what changed, one directory dirty", dirty, find, 0),
		against("whole look: base, cfg, live, compared", whole, rsync, 0),
		against("all contents, nothing cached, as a process", cold, content, 0),
		against("all contents, nothing cached, as a process", cold, rsync, 0),
	}, nil
}

// editedTarget makes a target, populates it, edits a file, and keeps a copy of the live tree from before.
func (l *lab) editedTarget(ctx context.Context) (*overlay.Overlay, string, error) {
	o, err := l.populated(ctx)
	if err != nil {
		return nil, "", err
	}
	before, err := l.fresh()
	if err != nil {
		return nil, "", err
	}
	if err := writeTree(before, l.items); err != nil {
		return nil, "", err
	}
	err = os.WriteFile(filepath.Join(o.Target.Live, "ssh/sshd_config"), []byte("Port 2222\n"), 0o644)
	settled()
	return o, before, err
}

// childScan reads all contents of base and live, and compares them.
func childScan(ctx context.Context, p places, _ int) (any, error) {
	v, err := newOverlay(p).Look(ctx, overlay.LookOptions{})
	if err != nil {
		return nil, err
	}
	return len(v.Unsaved), v.NotPopulated
}
