package main

import (
	"context"
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

func hostCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "host", Usage: "finish the host's /etc at boot; plan its merge with a new image",
		Subcommands: []*cli.Command{
			{
				Name: "early", Usage: "finish /etc at boot, for rc.d/cfgd_early",
				Description: "" +
					"Does what rc.initdiskless does not know of: applies removals to the /etc that " +
					"was just made, merges overrides that were made against another image, and " +
					"removes the copy of the store from /etc. May be run again. If the store is " +
					"damaged, it changes nothing. Ends with 0 if the machine can go on.",
				Action: s.action(runHostEarly),
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
				Action: s.action(runHostPrepare),
			},
		},
	}
}

// hostOverlay returns the trees of the host.
func hostOverlay(s *session) (*overlay.Overlay, error) {
	o, err := s.overlay(config.HostName)
	if exitCode(err) == exitUsage {
		return nil, usagef("the host's /etc is no target: there is no /conf/base/etc")
	}
	return o, err
}

func runHostEarly(s *session, c *cli.Context) error {
	o, err := hostOverlay(s)
	if err != nil {
		return err
	}
	noteFailed(c.Context, s)
	taken, err := o.AdoptLive(c.Context)
	if err != nil {
		s.warn(o.Target.Name, fmt.Sprintf("nothing was changed: %v", err))
		return nil
	}
	return reportTaken(s, o.Target, taken)
}

// noteFailed records the slice that the loader could not start, before rc.d/gptboot clears its attribute.
func noteFailed(ctx context.Context, s *session) {
	d, err := s.loaded.disk(ctx, s.warnMachine)
	if err != nil {
		return // nano status reports it
	}
	names, err := d.NoteFailed(ctx)
	for _, name := range names {
		s.warn("", fmt.Sprintf("the system on %s did not boot: %s runs", name, d.Name(d.Running)))
	}
	if err != nil && len(names) > 0 {
		s.warn("", fmt.Sprintf("that could not be noted: %v", err))
	}
}

// reportTaken prints what was done with the tree that rc.initdiskless made.
func reportTaken(s *session, t *config.Target, taken *overlay.Adoption) error {
	if taken.Already {
		return s.printf("%s %s was taken over already: nothing touched\n", t.Name, t.Live)
	}
	s.warn(t.Name, taken.Damaged...)
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
		if err := s.print(newMergePlan(t.Name, taken.Merge), func(b *strings.Builder) {
			printMerge(b, t.Name, taken.Merge, false)
		}); err != nil {
			return err
		}
	}
	for _, ch := range taken.Changes {
		if err := s.printf("%s %s %s\n", t.Name, ch.Kind.Letter(), pathname.Quote(ch.Path)); err != nil {
			return err
		}
	}
	return s.printf("%s %s taken over: %d paths changed\n", t.Name, t.Live, len(taken.Changes))
}

func runHostPrepare(s *session, c *cli.Context) error {
	o, err := hostOverlay(s)
	if err != nil {
		return err
	}
	m, name := s.loaded, c.Args().First()
	if !path.IsAbs(name) {
		return usagef("%s: give the whole path", name)
	}
	o = m.planning(o.Target)
	st, err := os.Stat(m.Path(name))
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return prepareImage(s, c, o, m.Path(name))
	}
	base := path.Join(name, "conf/base/etc")
	if _, err := os.Stat(m.Path(base)); errors.Is(err, fs.ErrNotExist) {
		base = path.Clean(name)
	}
	return planOn(s, c, o, overlay.BaseRef{Path: base})
}

// prepareImage reads the defaults out of an image file.
func prepareImage(s *session, c *cli.Context, o *overlay.Overlay, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	base, err := nano.OpenBase(c.Context, f)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	x, err := newScratch(c.Context, s.loaded, base.Bytes)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer func() {
		if err := x.remove(); err != nil {
			s.warn(o.Target.Name, err.Error())
		}
	}()
	if x.note != "" {
		s.warn(o.Target.Name, x.note)
	}
	etc, err := base.Extract(c.Context, x.dir)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return planOn(s, c, o, overlay.BaseRef{Path: strings.TrimPrefix(etc, s.loaded.Root)})
}
