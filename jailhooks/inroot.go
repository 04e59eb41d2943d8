package jailhooks

import (
	"context"
	"strings"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// checkMerged asks the checkers that follow what a file refers to, now that all of the jail's etc is there: in the jail's own root, which the
// jail's programs are run in and never outside it, and as nobody. A merged file that one rejects while it passes what was saved before is a
// conflict after all; one that it does not pass either way is left as it is. chroot(8) is FreeBSD's here; elsewhere nothing is asked.
func (h *Hooks) checkMerged(ctx context.Context, m *overlay.Merge) {
	if m == nil || h.Embedded || h.GOOS != "freebsd" {
		return
	}
	for _, path := range m.Merged() {
		c, ok := h.Target.Checkers.Of(path)
		if !ok || c.Where != config.WhereTarget || len(c.Command) == 0 || c.Stdin {
			continue
		}
		if err := h.checkInRoot(ctx, c, path); err != nil {
			h.warn("%s: merged, and not checked: %v", pathname.Quote(path), err)
		}
	}
}

func (h *Hooks) checkInRoot(ctx context.Context, c config.Checker, path string) error {
	problem, _ := hear(ctx, h.Run, inRoot(h.Target.Root, c, path), c)
	if problem == "" {
		return nil
	}
	merged, err := h.Overlay.Reject(ctx, path, "the merged text is rejected: "+problem)
	if err != nil {
		return err
	}
	if before, _ := hear(ctx, h.Run, inRoot(h.Target.Root, c, path), c); before != "" {
		_, err := h.Overlay.Resolve(ctx, []string{path}, overlay.Choice{Content: merged})
		return err
	}
	h.warn("%s: %s; a conflict: cfgd resolve %s %s", pathname.Quote(path), problem, h.Target.Name, pathname.Quote(path))
	return nil
}

// inRoot is a checker's command in a jail's root, as nobody.
func inRoot(root string, c config.Checker, path string) run.Cmd {
	args := []string{"-u", "nobody", "-g", "nobody", root}
	for _, w := range c.Command {
		args = append(args, strings.ReplaceAll(w, "FILE", "/etc/"+path))
	}
	return run.Command("chroot", args...)
}
