package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cfgd/internal/run"
)

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
