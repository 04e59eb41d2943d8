package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"cfgd/config"
	"cfgd/overlay"
)

// benchPopulate fills an empty directory in memory from base and a cfg that holds an override.
func benchPopulate(ctx context.Context, l *lab) ([]row, error) {
	o, err := l.savedTarget(ctx)
	if err != nil {
		return nil, err
	}
	p := l.placesOf(o)
	empty := func() error { return l.emptied(p.Live) }
	ours := &contestant{
		name: "populate", ready: empty, run: func() error { _, err := childPopulate(ctx, p, 0); return err },
	}
	process := &contestant{
		name: "populate", ready: empty, run: func() error { return child(ctx, "populate", p, 0, nil) },
	}
	peer := func(name string, tool string, script string) *contestant {
		c := program(ctx, name, "sh", "-c", script, "sh", p.Base, p.Live)
		c.tools, c.ready = []string{tool}, empty
		return c
	}
	tar := peer("tar | tar", "tar", `tar -C "$1" -cf - . | tar -C "$2" -xpf -`)
	cp := peer("cp -a", "cp", `exec cp -a "$1"/. "$2"/`)
	rsync := peer("rsync -a", "rsync", `exec rsync -a "$1"/ "$2"/`)
	if err := race(ctx, l.rounds, ours, tar, cp, process, rsync); err != nil {
		return nil, err
	}
	return []row{
		against("populate", ours, tar, 0.6),
		against("populate", ours, cp, 0.4),
		against("populate", ours, rsync, 0),
		against("populate, as a process", process, tar, 0),
		against("populate, as a process", process, cp, 0),
	}, nil
}

// savedTarget makes a target, populates it, and saves an edit.
func (l *lab) savedTarget(ctx context.Context) (*overlay.Overlay, error) {
	o, err := l.populated(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(o.Target.Live, "rc.conf"), []byte("hostname=\"bench\"\n"),
		0o644); err != nil {
		return nil, err
	}
	_, err = o.Save(ctx, overlay.SaveOptions{})
	return o, err
}

// emptied removes a directory and makes it again.
func (l *lab) emptied(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	time.Sleep(freeing)
	return os.Mkdir(dir, 0o755)
}

// freeing is how long the kernel may take to free a removed tree, on a core that no contestant uses.
const freeing = 100 * time.Millisecond

// childPopulate populates as a new process does, which knows nothing yet.
func childPopulate(ctx context.Context, p places, _ int) (any, error) {
	out, err := newOverlay(p).Populate(ctx, string(config.BackingTmpfs), "")
	if err != nil {
		return nil, err
	}
	return out.Entries, nil
}
