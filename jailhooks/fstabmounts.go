package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"cfgd/config"
	"cfgd/config/fstab"
	"cfgd/internal/mount"
	"cfgd/internal/run"
)

// A start that fails runs no hook: jail(8) unmounts the jail's fstab backwards, and fails at the jail's
// root, because the memory of its /etc is still mounted below it. A stop with a busy /etc ends in the
// same way. After that no start succeeds until somebody unmounts the root, because nullfs(5) refuses to
// mount over itself, and jail(8) mounts before it runs exec.prestart. So a cleanup also unmounts what
// jail(8) could not.

// fstabMount is a mount of the jail's fstabs or mount parameters, and what is mounted on its directory.
type fstabMount struct {
	fstab.Entry
	dir string // as the system's table of mounts has it
	on  []mount.Mount
}

// top reports whether the topmost mount on the directory is the one of the fstab. A mount of something
// else over it is not touched.
func (f *fstabMount) top() bool {
	if len(f.on) == 0 {
		return false
	}
	top := f.on[len(f.on)-1]
	if top.Type != f.Type {
		return false
	}
	if top.Source == f.Source {
		return true
	}
	real, err := filepath.EvalSymlinks(f.Source) // mount_nullfs(8) resolves it
	return err == nil && top.Source == real
}

// fstabMounts returns the mounts at and below the jail's root, in the order in which jail(8) makes them.
func fstabMounts(t *config.Target, mounted func(dir string) ([]mount.Mount, error)) ([]fstabMount, error) {
	mounts := t.Mounts.Again()
	for _, e := range mounts.Unread {
		if !errors.Is(e, fs.ErrNotExist) {
			return nil, e
		}
	}
	root, err := filepath.EvalSymlinks(t.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []fstabMount
	for _, e := range mounts.All {
		dir := path.Clean(e.Dir)
		rel, ok := below(t.Root, dir)
		if !ok {
			rel, ok = below(root, dir)
		}
		if !ok {
			continue
		}
		f := fstabMount{Entry: e.Entry, dir: filepath.Join(root, rel)}
		if f.on, err = mounted(f.dir); err != nil {
			return nil, fmt.Errorf("mounts on %s: %w", f.dir, err)
		}
		all = append(all, f)
	}
	return all, nil
}

// below returns a path relative to a directory above it, or "." if they are the same.
func below(dir, p string) (rel string, ok bool) {
	if p == dir {
		return ".", true
	}
	return strings.CutPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// partlyUnmounted reports whether jail(8) has unmounted the jail's fstab as far as it could: cfg or base
// is no longer mounted. During exec.poststop both are still mounted, and jail(8) unmounts them itself.
func partlyUnmounted(t *config.Target, all []fstabMount) bool {
	root := rootDir(t)
	own := []string{filepath.Join(root, "conf/base/etc")}
	if rel, ok := below(t.Root, t.Cfg); ok {
		own = append(own, filepath.Join(root, rel))
	}
	return slices.ContainsFunc(all, func(f fstabMount) bool {
		return slices.Contains(own, f.dir) && len(f.on) == 0
	})
}

// notMounted reports whether the jail's fstab is not mounted, as in exec.prepare.
func (h *Hooks) notMounted() bool {
	all, err := fstabMounts(h.Target, h.Mounted)
	return err == nil && partlyUnmounted(h.Target, all)
}

// remainingMounts returns the mounts of the fstab if jail(8) could not unmount all of them: the jail's
// root is still mounted, other mounts of the fstab are gone, and the jail does not run.
func (h *Hooks) remainingMounts(ctx context.Context) ([]fstabMount, error) {
	if h.Embedded {
		return nil, nil
	}
	all, err := fstabMounts(h.Target, h.Mounted)
	if err != nil {
		h.warn("what is left of the jail's mounts is not known: %v", err)
		return nil, nil
	}
	root := rootDir(h.Target)
	stays := slices.ContainsFunc(all, func(f fstabMount) bool { return f.dir == root && f.top() })
	if !stays || !partlyUnmounted(h.Target, all) {
		return nil, nil
	}
	if runs, err := running(ctx, h.Run, h.Target.Name); runs || err != nil {
		return nil, err
	}
	return all, nil
}

// unmountFstab unmounts what jail(8) left of the jail's fstab: only mounts of the fstab, backwards. It
// returns the directories that it unmounted, also after an error.
func (h *Hooks) unmountFstab(ctx context.Context) (unmounted []string, err error) {
	all, err := h.remainingMounts(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range slices.Backward(all) {
		for f.top() {
			if _, err := h.Run.Run(ctx, run.Command("umount", f.dir)); err != nil {
				return unmounted, fmt.Errorf("%s is still mounted, so the jail cannot be started: %w (%s);"+
					" end what uses it, then run umount %[1]s", f.dir, err, h.usersOf(ctx, f.dir))
			}
			f.on = f.on[:len(f.on)-1]
			unmounted = append(unmounted, f.dir)
		}
	}
	return unmounted, nil
}

// rootDir returns the jail's root as the table of mounts has it.
func rootDir(t *config.Target) string {
	root, err := filepath.EvalSymlinks(t.Root)
	if err != nil {
		return t.Root
	}
	return root
}
