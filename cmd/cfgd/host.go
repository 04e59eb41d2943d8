package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/mount"
	"cfgd/internal/pathname"
	sysrun "cfgd/internal/run"
	"cfgd/nano"
	"cfgd/overlay"
)

func (s *session) hostCommand() *cli.Command {
	return &cli.Command{
		Name: "host", Usage: "the host's /etc at boot, and on a new image",
		Subcommands: []*cli.Command{
			{
				Name: "early", Usage: "finish /etc at boot, for rc.d/cfgd_early",
				Description: "" +
					"Does what rc.initdiskless does not know of: applies removals to the /etc that " +
					"was just made, merges overrides that were made against another image, and " +
					"removes the copy of the store from /etc. May be run again. If the store is " +
					"damaged, it changes nothing. Ends with 0 if the machine can go on.",
				Action: s.hostEarly,
			},
			{
				Name: "prepare", ArgsUsage: "IMAGE|DIR",
				Usage: "show the merge that another image will need",
				Description: "" +
					"IMAGE is a file that cfgd nano install takes, and is read without being mounted. " +
					"DIR is where an image is mounted, or its /conf/base/etc. Prints what cfgd plan " +
					"prints. The merge itself is done at the first start of the image. Exit status 1 " +
					"if there are conflicts.\n\n" +
					"Writes nothing but a copy of the image's defaults, for as long as it runs: below " +
					"TMPDIR, /tmp or /var/tmp, whichever has room, else in memory. A compressed image " +
					"is read two or three times, so it can't be a pipe.",
				Flags:  []cli.Flag{allFlag()},
				Action: s.hostPrepare,
			},
		},
	}
}

// hostTarget returns the host as a target.
func (s *session) hostTarget() (*config.Target, error) {
	t, err := s.target(config.HostName)
	if exitCode(err) == exitUsage {
		return nil, usagef("the host's /etc is no target: there is no /conf/base/etc")
	}
	return t, err
}

func (s *session) hostEarly(c *cli.Context) error {
	if err := counted(c, 0, 0); err != nil {
		return err
	}
	t, err := s.hostTarget()
	if err != nil {
		return err
	}
	s.tellFailed(c.Context)
	taken, err := s.overlay(t).AdoptLive(c.Context)
	if err != nil {
		s.warn(t.Name, fmt.Sprintf("nothing was changed: %v", err))
		return nil
	}
	return s.printTaken(t, taken)
}

// tellFailed records the slice that the loader could not start, before rc.d/gptboot clears its attribute.
func (s *session) tellFailed(ctx context.Context) {
	m, err := s.nano(ctx)
	if err != nil {
		return // nano status reports it
	}
	names, err := m.NoteFailed(ctx)
	for _, name := range names {
		s.warn("", fmt.Sprintf("the system on %s did not boot: %s runs", name, m.Name(m.Running)))
	}
	if err != nil && len(names) > 0 {
		s.warn("", fmt.Sprintf("that could not be noted: %v", err))
	}
}

func (s *session) printTaken(t *config.Target, taken *overlay.Taken) error {
	if taken.Already {
		_, err := fmt.Fprintf(s.out, "%s %s was taken over already: nothing touched\n", t.Name, t.Live)
		return err
	}
	for _, d := range taken.Damaged {
		s.warn(t.Name, d)
	}
	if len(taken.Damaged) > 0 {
		s.warn(t.Name, "the store is damaged: nothing of "+t.Live+" was changed; cfgd log "+t.Name+
			" shows what is left")
		return nil
	}
	if taken.Unmerged != nil {
		s.warn(t.Name, fmt.Sprintf("the overrides could not be merged with this image's defaults, and "+
			"hide what changed in them: %v", taken.Unmerged))
	}
	if taken.Merge != nil {
		if err := s.printMerge(t.Name, taken.Merge, false); err != nil {
			return err
		}
	}
	for _, ch := range taken.Changes {
		if _, err := fmt.Fprintf(s.out, "%s %s %s\n", t.Name, ch.What.Letter(),
			pathname.Quote(ch.Path)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(s.out, "%s %s taken over: %d paths changed\n", t.Name, t.Live, len(taken.Changes))
	return err
}

func (s *session) hostPrepare(c *cli.Context) error {
	if err := counted(c, 1, 1); err != nil {
		return err
	}
	t, err := s.hostTarget()
	if err != nil {
		return err
	}
	name := c.Args().First()
	if !path.IsAbs(name) {
		return usagef("%s: give the whole path", name)
	}
	st, err := os.Stat(s.loaded.Path(name))
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return s.prepareImage(c, t, s.loaded.Path(name))
	}
	base := path.Join(name, "conf/base/etc")
	if _, err := os.Stat(s.loaded.Path(base)); errors.Is(err, fs.ErrNotExist) {
		base = path.Clean(name)
	}
	return s.planOn(c, t, overlay.BaseRef{Path: base})
}

// prepareImage reads the defaults out of an image file.
func (s *session) prepareImage(c *cli.Context, t *config.Target, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	base, err := nano.OpenBase(c.Context, f)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	dir, done, err := s.room(c.Context, t, base.Bytes)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer done()
	etc, err := base.Extract(c.Context, dir)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return s.planOn(c, t, overlay.BaseRef{Path: strings.TrimPrefix(etc, s.loaded.Root)})
}

// room makes a directory with room for so many bytes, in the first of the usual places that has enough, else
// on a filesystem in memory. It tells which place it took, unless it is the first one.
func (s *session) room(ctx context.Context, t *config.Target, need int64) (string, func(), error) {
	places := []string{os.TempDir(), "/var/tmp", "/tmp"}
	if s.loaded.Root != "" { // the name of a base is below it
		places = []string{s.loaded.Path("/tmp")}
		if err := os.MkdirAll(places[0], 0o1777); err != nil {
			return "", nil, err
		}
	}
	need += need/8 + 64<<10
	size := bytesText(uint64(need))
	var why []string
	for i, place := range places {
		dir, err := makeRoom(place, need)
		if err != nil {
			why = append(why, err.Error())
			continue
		}
		if i > 0 {
			s.warn(t.Name, fmt.Sprintf("the image's defaults are unpacked in %s: %s", dir, why[0]))
		}
		return dir, func() { os.RemoveAll(dir) }, nil
	}
	short := fmt.Errorf("no room for the image's defaults: they take %s; %s; TMPDIR names another directory",
		size, strings.Join(why, "; "))
	if s.loaded.Root != "" || os.Geteuid() != 0 {
		return "", nil, short
	}
	dir, done, err := s.roomInMemory(ctx, need)
	if err != nil {
		return "", nil, errors.Join(short, err)
	}
	s.warn(t.Name, fmt.Sprintf("the image's defaults are unpacked in memory, on %s: %s", dir, why[0]))
	return dir, done, nil
}

// makeRoom makes a directory in a place that has enough room. The error tells what is wrong with the place.
func makeRoom(place string, need int64) (string, error) {
	free, err := freeBytes(place)
	if err == nil && free < need {
		err = fmt.Errorf("%s has no room for %s", place, bytesText(uint64(need)))
	}
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(place, "cfgd-image-")
}

// roomInMemory makes a directory and mounts a tmpfs of that size on it.
func (s *session) roomInMemory(ctx context.Context, size int64) (string, func(), error) {
	dir, err := os.MkdirTemp(s.loaded.Path("/var/run"), "cfgd-image-")
	if err != nil {
		return "", nil, err
	}
	m := mount.Memdisk{Backing: mount.Tmpfs, Size: size, Dir: dir, GOOS: runtime.GOOS}
	if _, err := m.Make(ctx, sysrun.System{}); err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	return dir, func() {
		for _, c := range m.UnmakePlan() {
			if _, err := (sysrun.System{}).Run(context.WithoutCancel(ctx), c); err != nil {
				s.warn("host", err.Error())
				return
			}
		}
		if err := os.Remove(dir); err != nil {
			s.warn("host", err.Error())
		}
	}, nil
}

// freeBytes returns how many bytes may still be written to the filesystem of a directory.
func freeBytes(name string) (int64, error) {
	dir, err := dirfd.Open(name, nil)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	space, err := dir.Space()
	if err != nil {
		return 0, err
	}
	if space.ReadOnly {
		return 0, fmt.Errorf("%s is read-only", name)
	}
	return int64(min(space.Free, 1<<62)), nil
}
