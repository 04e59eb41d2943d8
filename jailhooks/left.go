package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"cfgd/config/fstab"
	"cfgd/internal/hostfile"
	"cfgd/internal/mount"
	"cfgd/internal/run"
)

// A start that fails runs no hook: jail(8) unmounts the jail's fstab backwards, and fails at the jail's
// root, because the memory of its /etc is still mounted below it. A stop with a busy /etc ends in the
// same way. After that no start succeeds until somebody unmounts the root, because nullfs(5) refuses to
// mount over itself, and jail(8) mounts before it runs exec.prestart. So a cleanup also unmounts what
// jail(8) could not.

// fstabMount is a mount of the jail's fstab, and what is mounted on its directory.
type fstabMount struct {
	fstab.Entry
	dir string // as the system's table of mounts has it
	on  []mount.Mount
}

// top reports whether the topmost mount on the directory is the one of the fstab.
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

// fstabMounts returns the mounts at and below the jail's root, in the fstab's order.
func (h *Hooks) fstabMounts() ([]fstabMount, error) {
	t := h.Target
	data, err := hostfile.ReadFile(t.Fstab)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := fstab.ParseJail(t.Fstab, data)
	if err != nil {
		return nil, err
	}
	root, err := filepath.EvalSymlinks(t.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []fstabMount
	for _, e := range entries {
		dir := path.Clean(e.Dir)
		rel, ok := below(t.Root, dir)
		if !ok {
			rel, ok = below(root, dir)
		}
		if !ok {
			continue
		}
		f := fstabMount{Entry: e, dir: filepath.Join(root, rel)}
		if f.on, err = h.Mounted(f.dir); err != nil {
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
func (h *Hooks) partlyUnmounted(all []fstabMount) bool {
	root := h.rootDir()
	own := []string{filepath.Join(root, "conf/base/etc")}
	if rel, ok := below(h.Target.Root, h.Target.Cfg); ok {
		own = append(own, filepath.Join(root, rel))
	}
	return slices.ContainsFunc(all, func(f fstabMount) bool {
		return slices.Contains(own, f.dir) && len(f.on) == 0
	})
}

// notMounted reports whether the jail's fstab is not mounted, as in exec.prepare.
func (h *Hooks) notMounted() bool {
	all, err := h.fstabMounts()
	return err == nil && h.partlyUnmounted(all)
}

// leftMounts returns the mounts of the fstab if jail(8) could not unmount all of them: the jail's root is
// still mounted, other mounts of the fstab are gone, and the jail does not run.
func (h *Hooks) leftMounts(ctx context.Context) ([]fstabMount, error) {
	if h.Embedded || h.Target.Fstab == "" {
		return nil, nil
	}
	all, err := h.fstabMounts()
	if err != nil {
		h.warn("what is left of the jail's mounts is not known: %v", err)
		return nil, nil
	}
	root := h.rootDir()
	stays := slices.ContainsFunc(all, func(f fstabMount) bool { return f.dir == root && f.top() })
	if !stays || !h.partlyUnmounted(all) {
		return nil, nil
	}
	if runs, err := h.runs(ctx); runs || err != nil {
		return nil, err
	}
	return all, nil
}

// unmountLeft unmounts what jail(8) left of the jail's fstab: only mounts of the fstab, backwards.
func (h *Hooks) unmountLeft(ctx context.Context, s *Stopped) error {
	all, err := h.leftMounts(ctx)
	if err != nil {
		return err
	}
	for _, f := range slices.Backward(all) {
		if err := h.unmountOne(ctx, &f, s); err != nil {
			return err
		}
	}
	return nil
}

// rootDir returns the jail's root as the table of mounts has it.
func (h *Hooks) rootDir() string {
	root, err := filepath.EvalSymlinks(h.Target.Root)
	if err != nil {
		return h.Target.Root
	}
	return root
}

// unmountOne unmounts what the fstab mounted on a directory, as often as it is mounted. A mount of
// something else over it is not touched.
func (h *Hooks) unmountOne(ctx context.Context, f *fstabMount, s *Stopped) error {
	for range len(f.on) {
		if !f.top() {
			break
		}
		if _, err := h.Run.Run(ctx, run.Command("umount", f.dir)); err != nil {
			return h.busyLeft(ctx, f.dir, err)
		}
		f.on = f.on[:len(f.on)-1]
		s.Unmounted = append(s.Unmounted, f.dir)
	}
	return nil
}

func (h *Hooks) busyLeft(ctx context.Context, dir string, err error) error {
	who := h.usersOf(dir) + " shows who uses it"
	if holders := h.holders(ctx, dir); holders != "" {
		who += ": " + holders
	}
	return fmt.Errorf("%s is still mounted, so the jail cannot be started: %w (%s);"+
		" end what uses it, then run umount %[1]s", dir, err, who)
}

// noJail matches jls(8)'s message about a jail that does not run, or whose last connections are closing.
var noJail = regexp.MustCompile(`not found|is dying`)

// Asks returns the jls(8) command that exits 0 if a jail runs.
func Asks(jail string) run.Cmd { return run.Command("jls", "-j", jail, "jid") }

// runs reports whether the jail runs. If jls(8) fails for another reason, it returns an error and not
// false.
func (h *Hooks) runs(ctx context.Context) (bool, error) {
	_, err := h.Run.Run(ctx, Asks(h.Target.Name))
	var failed *run.Error
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, exec.ErrNotFound): // a system without jails
		return false, nil
	case errors.As(err, &failed) && noJail.MatchString(failed.Stderr):
		return false, nil
	}
	return false, fmt.Errorf("whether the jail runs is not known: %w", err)
}
