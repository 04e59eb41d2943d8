package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"cfgd/overlay"
)

// edited are the files that are changed in turn.
var edited = []string{"rc.conf", "hosts", "ssh/sshd_config", "local/nginx/nginx.conf", "mail/aliases",
	"local/php.ini", "pf.conf", "crontab"}

// benchSave changes one small file and saves it, again and again.
func benchSave(ctx context.Context, l *lab) ([]row, error) {
	o, err := l.savedTarget(ctx)
	if err != nil {
		return nil, err
	}
	peerDir := filepath.Join(l.disk, "peer")
	if err := os.Mkdir(peerDir, 0o755); err != nil {
		return nil, err
	}
	if _, err := o.Save(ctx, overlay.SaveOptions{}); err != nil {
		return nil, err
	}
	n := 0
	ours := &contestant{
		name: "save", ready: func() error { n++; return edit(o.Target.Live, n) },
		run: func() error { return saveOne(ctx, o, n) },
	}
	peer := &contestant{
		name: "write, fsync, rename, fsync", run: func() error { return writeDurably(peerDir, n) },
	}
	if err := race(ctx, l.saves, ours, peer); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("edit to stable storage, %d times: ", l.saves)
	return []row{
		within(name+"median", ours.median(), 10*time.Millisecond),
		{name: name + "p99", ours: short(quantile(ours.took, 0.99)), peer: peer.name + " " +
			short(quantile(peer.took, 0.99))},
		within(name+"worst", quantile(ours.took, 1), 100*time.Millisecond),
		against(name+"median", ours, peer, 0),
	}, nil
}

// editOf returns the n-th edit: the file and its new content.
func editOf(n int) (string, []byte) {
	return edited[n%len(edited)], fmt.Appendf(nil, "edit = %d\n", n)
}

func edit(live string, n int) error {
	name, content := editOf(n)
	return os.WriteFile(filepath.Join(live, name), content, 0o644)
}

// saveOne saves what the event source reports, and fails unless exactly the edit was saved.
func saveOne(ctx context.Context, o *overlay.Overlay, n int) error {
	name, _ := editOf(n)
	dir := filepath.Dir(name)
	if dir == "." {
		dir = ""
	}
	r, err := o.Save(ctx, overlay.SaveOptions{Dirty: map[string]bool{dir: true}})
	if err != nil {
		return err
	}
	if len(r.Saved) == 0 {
		return fmt.Errorf("%s: not saved", name)
	}
	return nil
}

// writeDurably does the least that a program must do to replace a file safely.
func writeDurably(dir string, n int) error {
	_, content := editOf(n)
	tmp, err := os.CreateTemp(dir, "new-")
	if err != nil {
		return err
	}
	defer tmp.Close()
	if _, err := tmp.Write(content); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), filepath.Join(dir, "file")); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
