package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/mount"
	"cfgd/internal/pathname"
	sysrun "cfgd/internal/run"
	"cfgd/jailhooks"
	"cfgd/overlay"
	"cfgd/watcher/control"
)

func (s *session) jailCommand() *cli.Command {
	return &cli.Command{
		Name: "jail", Usage: "jails: hooks of their start and stop, switches, clones",
		Subcommands: []*cli.Command{
			{
				Name: "init", ArgsUsage: "NAME", Usage: "make and fill a jail's /etc, for exec.prestart",
				Description: "" +
					"Mounts the memory filesystem on the jail's etc, fills it from base and cfg, and " +
					"tells the daemon. If that is done already, it succeeds and changes nothing. " +
					"Overrides that were made against another base are merged with this one first. " +
					"What an earlier stop left hidden below the jail's root is saved or kept, and " +
					"rescue archives of the jail are named.\n\n" +
					"Ends with 0 if the jail can run, because jail(8) stops at anything else. With " +
					"--plan, ends with 1 if there would be conflicts.",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "plan", Usage: "show the merge that the start would do; do nothing"},
					allFlag(),
				},
				Action: s.hook(s.jailInit),
			},
			{
				Name: "cleanup", ArgsUsage: "NAME", Usage: "save and remove a jail's /etc, for exec.poststop",
				Description: "" +
					"Makes the daemon let go of the jail, saves a last time, and unmounts the memory " +
					"filesystem, never by force. What can't be saved goes to an archive in " +
					"/var/db/cfgd/rescue first.\n\n" +
					"Do not run it from exec.prestop or exec.stop: if it failed there, the jail would " +
					"go on running.\n\n" +
					"If a process of the host is in the jail's etc, everything is saved, the etc " +
					"stays mounted, and jail(8) unmounts the rest. End the process and run the " +
					"cleanup again. It then saves to the dataset or directory that the fstab mounts " +
					"on the jail's cfg.\n\n" +
					"If a start fails, jail(8) runs no hook, and the jail's root stays mounted below " +
					"its etc. No start succeeds until the root is unmounted. A cleanup does that too, " +
					"and unmounts what else is left of the jail's fstab. In exec.prepare of jail.conf " +
					"it does so before each start; if there is nothing to do, it prints nothing and " +
					"ends with 0. The daemon does the same when cfg has been away for a while.\n\n" +
					"Warnings and errors of both hooks go to syslogd(8) too, because rc.d/jail shows " +
					"nothing of a stop.",
				Action: s.hook(s.jailCleanup),
			},
			s.switchCommand(), s.jailRollbackCommand(), s.createCommand(), s.cloneCommand(),
			s.destroyCommand(), s.jailSnapshotCommand(), s.jailSendCommand(),
			{Name: "list", Usage: "list all jails, and which of them are targets", Action: s.jailList},
		},
	}
}

// hooks returns the hooks of one target.
func (s *session) hooks(t *config.Target) *jailhooks.Hooks {
	return &jailhooks.Hooks{
		Target: t, Overlay: s.overlay(t), Run: sysrun.System{}, Daemon: daemonOf{s.client()},
		Mounted: mount.On, GOOS: runtime.GOOS,
		Embedded: s.loaded.Root != "", RescueDir: s.loaded.Path("/var/db/cfgd/rescue"), Now: time.Now,
	}
}

// daemonOf is the daemon for the hooks. If no daemon runs, its methods do nothing.
type daemonOf struct{ *control.Client }

func (d daemonOf) Attach(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return quietly(d.Client.Attach(ctx, target))
}

func (d daemonOf) Detach(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return quietly(d.Client.Detach(ctx, target))
}

func quietly(err error) error {
	if control.Absent(err) {
		return nil
	}
	return err
}

// hookTarget finds the target of a hook. jail.conf may define the hooks for all jails; for one that is no
// target they do nothing.
func (s *session) hookTarget(c *cli.Context) (*config.Target, error) {
	if err := counted(c, 1, 1); err != nil {
		return nil, err
	}
	name := c.Args().First()
	t, err := s.target(name)
	if err == nil && t.Host() {
		return nil, usagef("the host is no jail: rc.initdiskless populates its /etc")
	}
	if s.loaded != nil && t == nil && exitCode(err) == exitUsage {
		if slices.ContainsFunc(s.loaded.Jails, func(j *config.Jail) bool { return j.Name == name }) {
			s.warn(name, "is no target: its fstab mounts nothing on its conf/base/etc; nothing to do")
			for _, p := range s.loaded.Problems {
				if p.Target == name {
					s.warn(name, p.String())
				}
			}
			return nil, nil
		}
	}
	return t, err
}

func (s *session) jailInit(c *cli.Context) error {
	t, err := s.hookTarget(c)
	if t == nil {
		return err
	}
	if c.Bool("plan") {
		return s.planOn(c, t, s.overlay(t).Next())
	}
	done, err := s.hooks(t).Init(c.Context)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	for _, w := range done.Warnings {
		s.hookWarn(t.Name, w)
	}
	return s.started(t, done)
}

// started prints what init did.
func (s *session) started(t *config.Target, done *jailhooks.Started) error {
	p := done.Population
	var err error
	switch {
	case done.AlreadyPopulated:
		_, err = fmt.Fprintf(s.out, "%s %s is populated already: nothing touched\n", t.Name, t.Live)
	case p == nil:
		_, err = fmt.Fprintf(s.out, "%s %s taken over as it is\n", t.Name, t.Live)
	default:
		s.notices(t.Name, p.Notices)
		if err = s.merged(t.Name, p); err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.out, "%s %s populated from %s and generation %d: %d entries\n", t.Name, t.Live,
			p.BaseID, p.Generation, p.Entries)
	}
	return err
}

// merged prints what a start made of overrides that were made against another base.
func (s *session) merged(target string, p *overlay.Population) error {
	if p.Merge != nil {
		return s.printMerge(target, p.Merge, false)
	}
	if p.Unmerged != nil {
		s.warn(target, fmt.Sprintf("the overrides could not be merged with %s, and hide what changed in "+
			"it: %v", p.BaseID, p.Unmerged))
	}
	for _, path := range p.Hiding {
		s.warn(target, fmt.Sprintf("override %s hides a default that changed from %s to %s",
			pathname.Quote(path), p.OldBaseID, p.BaseID))
	}
	return nil
}

func (s *session) jailCleanup(c *cli.Context) error {
	t, err := s.hookTarget(c)
	if t == nil {
		return err
	}
	done, err := s.hooks(t).Cleanup(c.Context)
	if done != nil {
		for _, w := range done.Warnings {
			s.hookWarn(t.Name, w)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	if err := s.cleanedUp(t, done); err != nil {
		return err
	}
	for _, dir := range done.Unmounted {
		if _, err := fmt.Fprintf(s.out, "%s %s unmounted: jail(8) had left it\n", t.Name, dir); err != nil {
			return err
		}
	}
	return nil
}

// cleanedUp prints what cleanup did with live.
func (s *session) cleanedUp(t *config.Target, done *jailhooks.Stopped) (err error) {
	switch {
	case done.AlreadyClean: // exec.prepare runs it before every start
	case done.Rescue != "":
		_, err = fmt.Fprintf(s.out, "%s %s not saved but archived in %s, and taken away\n", t.Name, t.Live,
			filepath.Base(done.Rescue))
	case done.Hidden:
		_, err = fmt.Fprintf(s.out, "%s %s is hidden below the jail's root, and was left as it is\n", t.Name,
			t.Live)
	case done.Result == nil:
		_, err = fmt.Fprintf(s.out, "%s %s taken away: it was not whole\n", t.Name, t.Live)
	default:
		_, err = fmt.Fprintf(s.out, "%s %s saved as generation %d, and taken away\n", t.Name, t.Live,
			done.Result.Generation)
	}
	return err
}

// listedJail is the JSON of a jail.
type listedJail struct {
	Name   string `json:"name"`
	Root   string `json:"root"`
	Target bool   `json:"target"`
	Base   string `json:"base,omitempty"`
	State  string `json:"state"` // populated, down, or "" if it is no target
}

func (s *session) jailList(c *cli.Context) error {
	if err := counted(c, 0, 0); err != nil {
		return err
	}
	m, err := s.model()
	if err != nil {
		return err
	}
	list := []listedJail{}
	var failed error
	for _, t := range m.Targets {
		if t.Host() {
			continue
		}
		state, err := s.state(t)
		failed = errors.Join(failed, err)
		list = append(list, listedJail{t.Name, t.Root, true, cmp.Or(t.BaseID, t.Base), state})
	}
	for _, j := range m.Jails {
		list = append(list, listedJail{Name: j.Name, Root: j.Root})
	}
	slices.SortFunc(list, func(a, b listedJail) int { return pathname.Compare(a.Name, b.Name) })
	if err := s.printJails(list); err != nil {
		return err
	}
	return failed
}

func (s *session) state(t *config.Target) (string, error) {
	st, err := s.overlay(t).State()
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", t.Name, err)
	case st.Populated:
		return "populated", nil
	}
	return "down", nil
}

func (s *session) printJails(list []listedJail) error {
	if s.json {
		return s.print(struct {
			Version int          `json:"version"`
			Jails   []listedJail `json:"jails"`
		}{1, list})
	}
	w := newTable()
	w.row("JAIL", "STATE", "BASE", "ROOT")
	for _, j := range list {
		state := j.State
		if !j.Target {
			state = "no target"
		}
		w.row(j.Name, state, dash(j.Base), dash(j.Root))
	}
	return w.print(s.out)
}
