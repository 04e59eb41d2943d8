package jailhooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cfgd/internal/dirfd"
	"cfgd/internal/hostfile"
	"cfgd/internal/pathname"
	"cfgd/overlay"
)

// rescue writes an archive. The order: make the directory, and fsync its name if it is new; write a new file;
// fsync it; rename it to its name; fsync the directory. Only then may the tree be removed. An unfinished
// archive is overwritten, so that killed hooks leave no more than one.
//
// If a part of the tree could not be read, or had no room, the error is an overlay.MissedError: then the
// archive has its name all the same, because it may soon be the only copy, and the tree must stay. Another
// attempt that comes to the same archive keeps the first one.
func (h *Hooks) rescue(ctx context.Context, only []string) (name string, err error) {
	if err := hostfile.MkdirAll(h.RescueDir, 0o700); err != nil {
		return "", err
	}
	half := filepath.Join(h.RescueDir, ".new-"+h.Target.Name) // a target's hooks run one at a time
	if err := os.RemoveAll(half); err != nil {
		return "", err
	}
	f, err := os.OpenFile(half, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() {
		f.Close()
		if name == "" {
			_ = os.Remove(half)
		}
	}()
	room, err := h.rescueRoom()
	if err != nil {
		return "", err
	}
	n, err := h.Overlay.Rescue(ctx, f, overlay.RescueOptions{Only: only, Room: room})
	var missed *overlay.MissedError
	if err != nil && (!errors.As(err, &missed) || n == 0 && only != nil) {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	if old := h.sameArchive(f); old != "" {
		return old, errors.Join(err, os.Remove(half))
	}
	to := filepath.Join(h.RescueDir, h.Target.Name+"-"+h.Now().UTC().Format(archiveTime)+".tar")
	if err := os.Rename(half, to); err != nil {
		return "", err
	}
	name = to
	return name, errors.Join(err, hostfile.SyncDir(h.RescueDir))
}

// archiveReserve is what an archive leaves free on its filesystem, in bytes.
const archiveReserve = 64 << 10

// rescueRoom returns how many bytes an archive may take.
func (h *Hooks) rescueRoom() (int64, error) {
	d, err := dirfd.Open(h.RescueDir, nil)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	space, err := d.Space()
	if err != nil {
		return 0, err
	}
	return max(1, int64(min(space.Free, 1<<50))-archiveReserve), nil
}

// sameArchive returns the newest archive of the target if it has the content of a file; else "".
func (h *Hooks) sameArchive(f *os.File) string {
	all, err := Archives(h.RescueDir)
	if err != nil {
		return ""
	}
	newest := ""
	for _, a := range all {
		if a.Target == h.Target.Name {
			newest = filepath.Join(h.RescueDir, a.Name)
		}
	}
	if newest == "" || !sameContent(f, newest) {
		return ""
	}
	return newest
}

// sameContent reports whether a file of a name certainly has the content of an open one.
func sameContent(f *os.File, name string) bool {
	old, err := os.Open(name)
	if err != nil {
		return false
	}
	defer old.Close()
	a, errA := f.Stat()
	b, errB := old.Stat()
	if errA != nil || errB != nil || a.Size() != b.Size() {
		return false
	}
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); at < a.Size(); at += int64(len(x)) {
		n := min(int64(len(x)), a.Size()-at)
		_, errA := f.ReadAt(x[:n], at)
		_, errB := old.ReadAt(y[:n], at)
		if errA != nil || errB != nil || !bytes.Equal(x[:n], y[:n]) {
			return false
		}
	}
	return true
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
