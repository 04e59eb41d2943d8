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
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/internal/run"
	"cfgd/overlay"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Stopped is the result of Cleanup.
type Stopped struct {
	AlreadyClean bool            // there was nothing to clean up
	Result       *overlay.Result // of the last save; nil if there was none
	Rescue       string          // the archive of what could not be saved, "" if none was needed
	Extra        string          // the archive of files that are never saved, "" for none
	HostSide     bool            // cfg was no longer mounted, and was saved to from the host's side
	Hidden       bool            // live stays mounted, hidden by the jail's root
	// Unmounted lists the mounts of the jail's fstab that jail(8) had left and that were unmounted.
	Unmounted []string
	Warnings  []string
}

// stop is a cleanup at work.
type stop struct {
	*Hooks
	done  *Stopped
	extra []string // files that no save takes, and that the last save left
}

// lastSave saves everything in live to cfg, and what cannot be saved to a rescue archive.
func (s *stop) lastSave(ctx context.Context) error {
	why := s.save(ctx)
	if why != nil {
		why = s.saveHostSide(ctx, why)
	}
	if why == nil {
		return s.archiveExtra(ctx)
	}
	var err error
	if s.done.Rescue, err = s.rescue(ctx, nil); err != nil {
		return fmt.Errorf("%s: not saved: %w; and %w; %s stays as it is: mend the cause "+
			"and run cfgd jail cleanup %s again",
			s.Target.Name, why, s.noArchive(s.done.Rescue, err), s.Target.Live, s.Target.Name)
	}
	s.warn("not saved: %v; what differs from the defaults is in %s", why, s.done.Rescue)
	return nil
}

// noArchive says what came of an archive that does not hold everything.
func (s *stop) noArchive(name string, err error) error {
	if name == "" {
		return fmt.Errorf("no rescue archive: %w", err)
	}
	return fmt.Errorf("the rescue archive %s is not whole: %w", name, err)
}

// archiveExtra puts the files into an archive that no save takes: those larger than max_file, and those of
// class report. They are nowhere else.
func (s *stop) archiveExtra(ctx context.Context) (err error) {
	if len(s.extra) == 0 {
		return nil
	}
	if s.done.Extra, err = s.rescue(ctx, s.extra); err != nil {
		return fmt.Errorf("%s: all that is saved is in cfg, but what no save takes is nowhere else, and "+
			"%w; %s stays as it is: make room, or move it elsewhere, and run cfgd jail cleanup %s again",
			s.Target.Name, s.noArchive(s.done.Extra, err), s.Target.Live, s.Target.Name)
	}
	s.warn("%s: no save takes it; it is in %s", pathname.QuoteFew(s.extra, 5), s.done.Extra)
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
	s.extra = nil
	for _, k := range r.Kept {
		switch {
		case onlyInLive(r.View, k):
			s.extra = append(s.extra, k.Path)
			continue
		case k.Class == config.Report:
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

// onlyInLive reports whether a path is a file or a link that no save takes, so that its content goes with
// live. What else no save takes is a device, a socket, or an attribute.
func onlyInLive(v *overlay.View, k store.Kept) bool {
	e, ok := v.Live.Get(k.Path)
	return ok && (e.Kind == dirfd.KindFile || e.Kind == dirfd.KindSymlink) &&
		(k.Reason == tree.TooLarge || k.Reason == tree.ByClass)
}

// removeTree unmounts and destroys the filesystem of the saved tree.
func (s *stop) removeTree(ctx context.Context, p *place) error {
	if p.backing == config.BackingDir {
		return s.Overlay.Clear(ctx)
	}
	done := "all is saved"
	if s.done.Extra != "" {
		done = "all is saved, and what no save takes is in " + s.done.Extra
	}
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
