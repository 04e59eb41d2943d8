package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/nano"
	"cfgd/overlay"
)

func (s *session) hostCommand() *cli.Command {
	return &cli.Command{
		Name: "host", Usage: "the host's own /etc at boot, and on another image",
		Subcommands: []*cli.Command{
			{
				Name: "early", Usage: "make up for what rc.initdiskless does not know: for rc.d/cfgd_early",
				Description: "Applies removals to the /etc that was just made, merges overrides that were made against another image, and drops the copy of the\n" +
					"store in /etc. Repeatable. With a damaged store it changes nothing. Ends 0 whenever the machine can go on.",
				Action: s.hostEarly,
			},
			{
				Name: "prepare", ArgsUsage: "IMAGE|DIR",
				Usage: "show how the host's overrides merge with the defaults of another image",
				Description: "IMAGE is a file as cfgd nano install takes it, and is read without mounting it; DIR is where one is mounted, or its /conf/base/etc. Shows\n" +
					"what cfgd plan shows; the merge itself is done at the first start on the image. Nothing is written. Exit status 1 where there are conflicts.",
				Flags:  []cli.Flag{allFlag()},
				Action: s.hostPrepare,
			},
		},
	}
}

// hostTarget is the host as a target.
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
	taken, err := s.overlay(t).AdoptLive(c.Context)
	if err != nil {
		s.warn(t.Name, fmt.Sprintf("nothing was changed: %v", err))
		return nil
	}
	return s.printTaken(t, taken)
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
		s.warn(t.Name, "the store is damaged: nothing of "+t.Live+" was changed; cfgd log "+t.Name+" shows what is left")
		return nil
	}
	if taken.Unmerged != nil {
		s.warn(t.Name, fmt.Sprintf("the overrides could not be merged with this image's defaults, and hide what changed in them: %v", taken.Unmerged))
	}
	if taken.Merge != nil {
		if err := s.printMerge(t.Name, taken.Merge, false); err != nil {
			return err
		}
	}
	for _, ch := range taken.Changes {
		if _, err := fmt.Fprintf(s.out, "%s %s %s\n", t.Name, ch.What.Letter(), pathname.Quote(ch.Path)); err != nil {
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
	tmp := os.TempDir()
	if s.loaded.Root != "" { // a base is named below it
		tmp = s.loaded.Path("/tmp")
		if err := os.MkdirAll(tmp, 0o1777); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(tmp, "cfgd-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	etc, err := nano.ExtractImage(c.Context, f, dir)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return s.planOn(c, t, overlay.BaseRef{Path: strings.TrimPrefix(etc, s.loaded.Root)})
}
