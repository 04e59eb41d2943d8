package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// Stopped is the result of Cleanup.
type Stopped struct {
	AlreadyClean bool            // there was nothing to clean up
	Result       *overlay.Result // of the last save; nil if there was none
	Rescue       string          // the archive, "" if none was needed
	HostSide     bool            // cfg was no longer mounted, and was saved to from the host's side
	Hidden       bool            // live stays mounted, hidden by the jail's root
	// Unmounted lists the mounts of the jail's fstab that jail(8) had left and that were unmounted.
	Unmounted []string
	Warnings  []string
}

// stop is a cleanup at work.
type stop struct {
	*Hooks
	done *Stopped
}

// lastSave saves everything in live to cfg, and what cannot be saved to a rescue archive.
func (s *stop) lastSave(ctx context.Context) error {
	why := s.save(ctx)
	if why != nil {
		why = s.saveHostSide(ctx, why)
	}
	if why == nil {
		return nil
	}
	var err error
	if s.done.Rescue, err = s.rescue(ctx); err != nil {
		return fmt.Errorf("%s: not saved: %w; and no rescue archive: %w; %s stays as it is: mend the cause "+
			"and run cfgd jail cleanup %s again",
			s.Target.Name, why, err, s.Target.Live, s.Target.Name)
	}
	s.warn("not saved: %v; what differs from the defaults is in %s", why, s.done.Rescue)
	return nil
}

// save does the last save. Its error says why not everything is in cfg that belongs there.
func (s *stop) save(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, saveWithin)
	defer cancel()
	r, err := s.Overlay.Save(ctx, overlay.SaveOptions{Times: true})
	s.done.Result = r
	if err != nil {
		return err
	}
	var unread []string
	for _, k := range r.Kept {
		if k.Class == config.Report {
			s.warn("%s is not saved, and goes: %s", pathname.Quote(k.Path), k.Reason)
			continue
		}
		unread = append(unread, pathname.Quote(k.Path)+": "+string(k.Reason))
	}
	if len(unread) > 0 {
		return fmt.Errorf("not wholly: %s", strings.Join(unread, "; "))
	}
	var unsaved []string
	for _, path := range slices.Concat(r.Conflicts, r.Unsettled) {
		unsaved = append(unsaved, pathname.Quote(path))
	}
	if len(unsaved) > 0 {
		return fmt.Errorf("changed in cfg by hand as well, or while it was saved: %s",
			strings.Join(unsaved, ", "))
	}
	return nil
}

// removeTree unmounts and destroys the filesystem of the saved tree.
func (s *stop) removeTree(ctx context.Context, p *place) error {
	if p.backing == config.BackingDir {
		return s.Overlay.Clear(ctx)
	}
	done := "all is saved"
	if s.done.Rescue != "" {
		done = "what was not saved is in " + s.done.Rescue
	}
	m, err := s.memdisk(p)
	if err != nil {
		return err
	}
	if top := p.top(); top == nil || !inMemory(top) {
		return fmt.Errorf("%s, but no memory filesystem is mounted on %s that could be taken away: %w", done,
			s.Target.Live, ErrInTheWay)
	}
	if _, err := s.Run.Run(ctx, m.UnmakePlan()[0]); err != nil {
		return s.busy(ctx, done, err)
	}
	if err := m.Destroy(ctx, s.Run); err != nil {
		return fmt.Errorf("%s, and %s is unmounted, but %s still takes its memory: %w; cfgd jail cleanup "+
			"%s tries again", done, s.Target.Live, m.Device, err, s.Target.Name)
	}
	return s.forget()
}

// busy returns the error for a live tree that is in use, and names who uses it. It is not unmounted by
// force, because then its users would lose what they write next without knowing it.
func (s *stop) busy(ctx context.Context, done string, err error) error {
	return fmt.Errorf("%s, but %s is still mounted: %w (%s); end what uses it, then run cfgd jail cleanup "+
		"%s again",
		done, s.Target.Live, err, s.usersOf(ctx, s.Target.Live), s.Target.Name)
}

// If a jail's /etc is busy at its stop, jail(8) goes on and unmounts what its fstab mounted. That leaves
// a live tree without its cfg. The fstab still tells where cfg is. So the last save goes there from the
// host's side: through the directory that a nullfs(5) shows, or through a mount of the dataset or device
// on a directory of the host.

// errNoOtherWay reports that cfg can be reached only at its own place.
var errNoOtherWay = errors.New("the fstab names nothing by which it could be reached")

// cfgGone reports whether a last save failed because cfg is not at its own place: nothing is mounted
// there, the path is no directory, or it is another store.
func (s *stop) cfgGone(why error) bool {
	d, err := s.Overlay.OpenCfg()
	if err == nil {
		d.Close()
	}
	return err != nil || errors.Is(why, overlay.ErrOtherStore)
}

// saveHostSide does the last save if cfg is not at its own place. It returns the error why, or one that
// also says what more was tried.
func (s *stop) saveHostSide(ctx context.Context, why error) error {
	if s.Embedded || !s.cfgGone(why) {
		return why
	}
	dir, done, err := s.hostCfg(ctx)
	if err != nil {
		return fmt.Errorf("%w; from the host's side: %w", why, err)
	}
	s.Overlay.CfgAt = dir
	err = s.save(ctx)
	s.Overlay.CfgAt = ""
	if err2 := done(); err2 != nil {
		s.warn("%s is still mounted on %s: %v; umount it before the jail is started",
			s.Target.CfgSource, dir, err2)
	}
	if err != nil {
		return fmt.Errorf("%w; from the host's side, by %s: %w", why, s.Target.CfgSource, err)
	}
	s.done.HostSide = true
	is := fmt.Sprintf("nothing was mounted on cfg %s any more", s.Target.Cfg)
	if !errors.Is(why, overlay.ErrNotMounted) && !errors.Is(why, fs.ErrNotExist) {
		is = fmt.Sprintf("what is on cfg %s is not what the fstab mounts (%v)", s.Target.Cfg, why)
	}
	s.warn("%s: the last save went to %s, which the fstab mounts there", is, s.Target.CfgSource)
	return nil
}

// hostCfg returns a directory of the host where cfg is, and a function that releases it.
func (s *stop) hostCfg(ctx context.Context) (dir string, done func() error, err error) {
	t := s.Target
	switch {
	case t.CfgSource == "":
		return "", nil, errNoOtherWay
	case t.CfgType == "nullfs" && filepath.IsAbs(t.CfgSource):
		return t.CfgSource, func() error { return nil }, nil
	case t.CfgType == "nullfs":
		return "", nil, errNoOtherWay
	}
	return s.mountScratch(ctx, "cfg", run.Command("mount", "-t", t.CfgType, t.CfgSource))
}
