package jailhooks

import (
	"context"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/internal/run"
	"cfgd/merge"
	"cfgd/merge/check"
	"cfgd/overlay"
)

// checkMerged runs the checkers that follow references in a file, once all of the jail's etc is in place,
// in a short-lived jail with the jail's own root. If a checker rejects a merged file and accepts the file
// saved before, the merge becomes a conflict. A file that it rejects in both forms is left as it is.
// Without jail(8) nothing is checked.
func (s *start) checkMerged(ctx context.Context, m *merge.Result) {
	if m == nil || s.Embedded || s.GOOS != "freebsd" {
		return
	}
	for _, path := range m.Merged() {
		c, ok := s.Target.Checkers.Of(path)
		if !ok || c.Where != config.WhereTarget || len(c.Command) == 0 || c.Stdin {
			continue
		}
		if err := s.checkInRoot(ctx, c, path); err != nil {
			s.warn("%s: merged, and not checked: %v", pathname.Quote(path), err)
		}
	}
}

func (s *start) checkInRoot(ctx context.Context, c config.Checker, path string) error {
	problem, _ := check.Hear(ctx, s.Run, inRoot(s.Target.Root, c, path), c)
	if problem == "" {
		return nil
	}
	problem = check.Discreet(c, s.Target.Classes.Secret(path), problem)
	merged, done, err := s.Overlay.Reject(ctx, path, "the merged text is rejected: "+problem)
	if err != nil {
		return err
	}
	if before, _ := check.Hear(ctx, s.Run, inRoot(s.Target.Root, c, path), c); before != "" {
		done, err := s.Overlay.Resolve(ctx, []string{path}, overlay.Choice{Content: merged})
		if done != nil {
			s.notices(done)
		}
		return err
	}
	s.notices(done)
	s.warn("%s: %s; a conflict: cfgd resolve %s %s", pathname.Quote(path), problem, s.Target.Name,
		pathname.Quote(path))
	return nil
}

// notices warns of what is made of a file and could not be made anew.
func (s *start) notices(done *overlay.Restored) {
	for _, n := range done.Notices {
		s.warn("%s", n)
	}
}

// inRoot returns a checker's command in a jail of its own, without a network, that ends with the command.
// chroot(8) would not be safe, not even as nobody: a file may name modules to load, and they may start a
// program of the jail that is setuid root, outside of any jail. The jail has no name, because with one
// jail(8) would not pass on the words unchanged.
func inRoot(root string, c config.Checker, path string) run.Cmd {
	words := c.Words("/etc/" + path)
	args := []string{"-c", "path=" + root, "ip4=disable", "ip6=disable", "command=" + words[0]}
	return run.Command("jail", append(args, words[1:]...)...)
}
