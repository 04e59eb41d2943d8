package jailhooks

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"cfgd/internal/hostfile"
	"cfgd/internal/pathname"
)

// rescue writes the archive. The order: make the directory, and fsync its name if it is new; write a new
// file; fsync it; rename it to its name; fsync the directory. Only then may the tree be removed. An
// unfinished archive is overwritten, so that killed hooks leave no more than one.
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

// warnArchives warns of the archives of this target that still exist: their content is in no cfg. They
// are not restored automatically, because what was saved since may be newer.
func (h *Hooks) warnArchives() {
	all, err := Archives(h.RescueDir)
	if err != nil {
		h.warn("rescue archives: %v", err)
	}
	var mine []string
	for _, a := range all {
		if a.Target == h.Target.Name {
			mine = append(mine, a.Name)
		}
	}
	if len(mine) == 0 {
		return
	}
	newest := pathname.Quote(mine[len(mine)-1]) // the time in the names sorts them
	words := "what an earlier stop could not save is in the archive " + newest
	if more := len(mine) - 1; more > 0 {
		words = fmt.Sprintf("what earlier stops could not save is in %d archives, the newest %s", len(mine),
			newest)
	}
	h.warn("%s: cfgd rescue restore %s %s brings it back; remove the archive when all is well", words,
		h.Target.Name, newest)
}
