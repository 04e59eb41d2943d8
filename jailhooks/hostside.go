package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cfgd/internal/pathname"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// When a jail's /etc is busy at its stop, jail(8) goes on and unmounts what its fstab mounted. What is left
// is a live tree without its cfg. The fstab still knows what cfg is. So the last save goes there from the
// host's side: by the directory that a nullfs(5) shows, or by a mount of the dataset or device on a directory
// of the host's own.

// errNoOtherWay says that cfg can be reached at its own place alone.
var errNoOtherWay = errors.New("the fstab names nothing by which it could be reached")

// cfgGone reports whether a last save failed with this error because cfg is not at its own place: nothing is
// mounted there, what stands there is no directory, or it is another store.
func (h *Hooks) cfgGone(why error) bool {
	d, err := h.Overlay.OpenCfg()
	if err == nil {
		d.Close()
	}
	return err != nil || errors.Is(why, overlay.ErrOtherStore)
}

// saveHostSide is the last save where cfg is not at its own place. Its error is why, or says what more was
// tried.
func (h *Hooks) saveHostSide(ctx context.Context, s *Stopped, why error) error {
	if h.Embedded || !h.cfgGone(why) {
		return why
	}
	dir, done, err := h.hostCfg(ctx)
	if err != nil {
		return fmt.Errorf("%w; from the host's side: %w", why, err)
	}
	h.Overlay.CfgAt = dir
	err = h.save(ctx, s)
	h.Overlay.CfgAt = ""
	if err2 := done(); err2 != nil {
		h.warn("%s is still mounted on %s: %v; umount it before the jail is started",
			h.Target.CfgSource, dir, err2)
	}
	if err != nil {
		return fmt.Errorf("%w; from the host's side, by %s: %w", why, h.Target.CfgSource, err)
	}
	s.HostSide = true
	is := fmt.Sprintf("nothing was mounted on cfg %s any more", h.Target.Cfg)
	if !errors.Is(why, overlay.ErrNotMounted) && !errors.Is(why, fs.ErrNotExist) {
		is = fmt.Sprintf("what is on cfg %s is not what the fstab mounts (%v)", h.Target.Cfg, why)
	}
	h.warn("%s: the last save went to %s, which the fstab mounts there", is, h.Target.CfgSource)
	return nil
}

// hostCfg is a directory where cfg is, and what to do when it is no longer needed.
func (h *Hooks) hostCfg(ctx context.Context) (dir string, done func() error, err error) {
	t := h.Target
	switch {
	case t.CfgSource == "":
		return "", nil, errNoOtherWay
	case t.CfgType == "nullfs" && filepath.IsAbs(t.CfgSource):
		return t.CfgSource, func() error { return nil }, nil
	case t.CfgType == "nullfs":
		return "", nil, errNoOtherWay
	}
	return h.mountAside(ctx, "cfg", run.Command("mount", "-t", t.CfgType, t.CfgSource))
}

// mountAside runs a command of mount(8), with a directory of the host's own added to its words: one below
// /var/run/cfgd that root alone can enter.
func (h *Hooks) mountAside(ctx context.Context, what string,
	mount run.Cmd) (dir string, done func() error, err error) {
	dir = h.aside(what)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	if err := os.Chmod(filepath.Dir(dir), 0o700); err != nil {
		return "", nil, err
	}
	done = func() error { return h.unmountAside(ctx, dir) }
	mount.Args = append(mount.Args, dir)
	if _, err := h.Run.Run(ctx, mount); err != nil {
		return "", nil, errors.Join(err, done()) // it may be there all the same
	}
	return dir, done, nil
}

// The directories that hooks mount something on for themselves.
var asides = []string{"cfg", "etc"}

func (h *Hooks) aside(what string) string {
	return filepath.Join(h.Overlay.RunDir, "mnt", h.Target.Name+"."+what)
}

// unmountAside unmounts what is there, also if whoever waits for it has gone: the next start of the jail
// could not mount its cfg.
func (h *Hooks) unmountAside(ctx context.Context, dir string) error {
	listed, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	mounts, err := h.Mounted(listed)
	if err != nil {
		return fmt.Errorf("mounts on %s: %w", listed, err)
	}
	for range mounts {
		if _, err := h.Run.Run(context.WithoutCancel(ctx), run.Command("umount", listed)); err != nil {
			return err
		}
	}
	return os.Remove(dir)
}

// sweepAside unmounts what a hook left that was killed.
func (h *Hooks) sweepAside(ctx context.Context) {
	for _, what := range asides {
		if err := h.unmountAside(ctx, h.aside(what)); err != nil {
			h.warn("an earlier hook left a mount on %s: %v; umount it before the jail is started",
				h.aside(what), err)
		}
	}
}

// rootStays warns of a root that stays mounted, and is not what the jail's fstab mounts: the next start would
// mount the root once more, which nullfs(5) and ZFS refuse.
func (h *Hooks) rootStays() {
	root, err := filepath.EvalSymlinks(h.Target.Root)
	if err != nil {
		return
	}
	if on, err := h.Mounted(root); err == nil && len(on) > 0 {
		h.warn("the jail's root %s is still mounted: umount %[1]s before the jail is started again",
			h.Target.Root)
	}
}

// holders names who has files open on a filesystem, for people: "sleep (661), vi (702)"; "" where that is
// not known.
func (h *Hooks) holders(ctx context.Context, dir string) string {
	if h.GOOS != "freebsd" {
		return ""
	}
	out, err := h.Run.Run(ctx, run.Command("fstat", "-f", dir))
	if err != nil {
		return ""
	}
	return fstatHolders(out)
}

// mostHolders is how many a message names.
const mostHolders = 5

// fstatHolders reads what fstat(1) prints: USER CMD PID FD and more. A command's name may have blanks in it,
// and is the process's own word.
func fstatHolders(out string) string {
	var all []string
	seen := map[string]bool{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		pid := 2
		for pid < len(f) && strings.Trim(f[pid], "0123456789") != "" {
			pid++
		}
		if pid >= len(f) || seen[f[pid]] {
			continue
		}
		seen[f[pid]] = true
		if len(all) < mostHolders {
			all = append(all, fmt.Sprintf("%s (%s)", pathname.Plain(strings.Join(f[1:pid], " ")), f[pid]))
		}
	}
	if more := len(seen) - len(all); more > 0 {
		all = append(all, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, ", ")
}
