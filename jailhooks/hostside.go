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

// If a jail's /etc is busy at its stop, jail(8) goes on and unmounts what its fstab mounted. That leaves
// a live tree without its cfg. The fstab still tells where cfg is. So the last save goes there from the
// host's side: through the directory that a nullfs(5) shows, or through a mount of the dataset or device
// on a directory of the host.

// errNoOtherWay reports that cfg can be reached only at its own place.
var errNoOtherWay = errors.New("the fstab names nothing by which it could be reached")

// cfgGone reports whether a last save failed because cfg is not at its own place: nothing is mounted
// there, the path is no directory, or it is another store.
func (h *Hooks) cfgGone(why error) bool {
	d, err := h.Overlay.OpenCfg()
	if err == nil {
		d.Close()
	}
	return err != nil || errors.Is(why, overlay.ErrOtherStore)
}

// saveHostSide does the last save if cfg is not at its own place. It returns the error why, or one that
// also says what more was tried.
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

// hostCfg returns a directory of the host where cfg is, and a function that releases it.
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
	return h.mountScratch(ctx, "cfg", run.Command("mount", "-t", t.CfgType, t.CfgSource))
}

// mountScratch runs a command of mount(8) with a directory of the host added to its arguments. The
// directory is below /var/run/cfgd, and only root can enter it.
func (h *Hooks) mountScratch(ctx context.Context, what string,
	command run.Cmd) (dir string, done func() error, err error) {
	dir = h.scratchDir(what)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	if err := os.Chmod(filepath.Dir(dir), 0o700); err != nil {
		return "", nil, err
	}
	done = func() error { return h.unmountScratch(ctx, dir) }
	command.Args = append(command.Args, dir)
	if _, err := h.Run.Run(ctx, command); err != nil {
		return "", nil, errors.Join(err, done()) // it may be mounted all the same
	}
	return dir, done, nil
}

// scratchDirs names the directories on which hooks mount something for themselves.
var scratchDirs = []string{"cfg", "etc"}

func (h *Hooks) scratchDir(what string) string {
	return filepath.Join(h.Overlay.RunDir, "mnt", h.Target.Name+"."+what)
}

// unmountScratch unmounts what is there, even after ctx ended: a leftover mount would keep the next start
// of the jail from mounting its cfg.
func (h *Hooks) unmountScratch(ctx context.Context, dir string) error {
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

// sweepScratch unmounts what a killed hook left.
func (h *Hooks) sweepScratch(ctx context.Context) {
	for _, what := range scratchDirs {
		if err := h.unmountScratch(ctx, h.scratchDir(what)); err != nil {
			h.warn("an earlier hook left a mount on %s: %v; umount it before the jail is started",
				h.scratchDir(what), err)
		}
	}
}

// warnRootMounted warns of a root that stays mounted and is not what the jail's fstab mounts. The next
// start would mount the root again, which nullfs(5) and ZFS refuse.
func (h *Hooks) warnRootMounted() {
	root, err := filepath.EvalSymlinks(h.Target.Root)
	if err != nil {
		return
	}
	if on, err := h.Mounted(root); err == nil && len(on) > 0 {
		h.warn("the jail's root %s is still mounted: umount %[1]s before the jail is started again",
			h.Target.Root)
	}
}

// holders returns who has files open on a filesystem, as in "sleep (661), vi (702)"; "" if that is not
// known.
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

// maxHolders is how many processes a message names.
const maxHolders = 5

// fstatHolders parses the output of fstat(1): USER CMD PID FD and more. A process chooses its command
// name, which may contain spaces.
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
		if len(all) < maxHolders {
			all = append(all, fmt.Sprintf("%s (%s)", pathname.Plain(strings.Join(f[1:pid], " ")), f[pid]))
		}
	}
	if more := len(seen) - len(all); more > 0 {
		all = append(all, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, ", ")
}
