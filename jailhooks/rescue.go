package jailhooks

import (
	"context"
	"os"
	"path/filepath"

	"cfgd/internal/hostfile"
)

// rescue writes the archive: its directory, whose name is fsynced if it is new; a new file, fsynced; a rename to its
// name; the directory fsynced. Only then may the tree go. One that was begun and not finished is written anew, so that
// kills leave no heap of halves.
func (h *Hooks) rescue(ctx context.Context) (name string, err error) {
	if err := hostfile.MkdirAll(h.RescueDir, 0o700); err != nil {
		return "", err
	}
	half := filepath.Join(h.RescueDir, ".new-"+h.Target.Name) // a target's hooks run one at a time
	if err := os.RemoveAll(half); err != nil {
		return "", err
	}
	f, err := os.OpenFile(half, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() {
		f.Close()
		if err != nil {
			_ = os.Remove(half)
		}
	}()
	if _, err := h.Overlay.Rescue(ctx, f); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	name = filepath.Join(h.RescueDir, h.Target.Name+"-"+h.Now().UTC().Format("20060102T150405.000Z")+".tar")
	if err := os.Rename(half, name); err != nil {
		return "", err
	}
	return name, hostfile.SyncDir(h.RescueDir)
}
