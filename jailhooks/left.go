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

	"cfgd/config"
	"cfgd/internal/hostfile"
	"cfgd/internal/memory"
	"cfgd/internal/run"
)

// A start that fails runs no hook: jail(8) unmounts the jail's fstab backwards, and fails at the jail's
// root, where the memory of its /etc is still mounted. A stop with a busy /etc ends in the same way. No
// start succeeds then until somebody unmounts the root, for nullfs(5) refuses to mount a directory where
// it is mounted already, and jail(8) mounts before it runs exec.prestart. So a cleanup also unmounts what
// jail(8) could not.

// fstabMount is a mount that the jail's fstab asks for, and what is on its directory.
type fstabMount struct {
	config.FstabEntry
	dir string // as the system's table of mounts has it
	on  []memory.Mount
}

// top reports whether what is seen on the directory is what the fstab mounts there.
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

// fstabMounts are the mounts at and below the jail's root, in the fstab's order.
func (h *Hooks) fstabMounts() ([]fstabMount, error) {
	t := h.Target
	data, err := hostfile.ReadFile(t.Fstab)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := config.ParseJailFstab(t.Fstab, data)
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
		f := fstabMount{FstabEntry: e, dir: filepath.Join(root, rel)}
		if f.on, err = h.Mounted(f.dir); err != nil {
			return nil, fmt.Errorf("mounts on %s: %w", f.dir, err)
		}
		all = append(all, f)
	}
	return all, nil
}

// below is a path as seen from a directory above it, or that is the same.
func below(dir, p string) (rel string, ok bool) {
	if p == dir {
		return ".", true
	}
	return strings.CutPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// undone reports whether jail(8) has unmounted the jail's fstab as far as it could: cfg or base is not
// mounted any more. While a stop runs exec.poststop both are, and jail(8) unmounts them by itself.
func (h *Hooks) undone(all []fstabMount) bool {
	root := h.rootDir()
	own := []string{filepath.Join(root, "conf/base/etc")}
	if rel, ok := below(h.Target.Root, h.Target.Cfg); ok {
		own = append(own, filepath.Join(root, rel))
	}
	return slices.ContainsFunc(all, func(f fstabMount) bool {
		return slices.Contains(own, f.dir) && len(f.on) == 0
	})
}

// notMounted reports whether the jail's fstab is not mounted, as in exec.prepare, which comes before.
func (h *Hooks) notMounted() bool {
	all, err := h.fstabMounts()
	return err == nil && h.undone(all)
}

// left are the mounts of the fstab where jail(8) could not unmount all of them: the jail's root is still
// mounted, and other mounts of the fstab are gone, and the jail does not run.
func (h *Hooks) left(ctx context.Context) ([]fstabMount, error) {
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
	if !stays || !h.undone(all) {
		return nil, nil
	}
	if runs, err := h.runs(ctx); runs || err != nil {
		return nil, err
	}
	return all, nil
}

// unmountLeft unmounts what jail(8) left of the jail's fstab: exactly what the fstab names, backwards.
func (h *Hooks) unmountLeft(ctx context.Context, s *Stopped) error {
	all, err := h.left(ctx)
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

// rootDir is the jail's root as the table of mounts has it.
func (h *Hooks) rootDir() string {
	root, err := filepath.EvalSymlinks(h.Target.Root)
	if err != nil {
		return h.Target.Root
	}
	return root
}

// unmountOne unmounts what the fstab mounted on a directory, as often as it is there. What is mounted over
// it is somebody else's.
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

// noJail is what the kernel says of a jail that does not run, or whose last connections are closing.
var noJail = regexp.MustCompile(`not found|is dying`)

// Asks is the command that ends with 0 where a jail runs: jls(8).
func Asks(jail string) run.Cmd { return run.Command("jls", "-j", jail, "jid") }

// runs reports whether the jail runs. Unlike a look that only informs, it does not take a jls(8) that
// failed for a no.
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
