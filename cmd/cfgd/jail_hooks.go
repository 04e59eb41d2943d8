package main

import (
	"fmt"
	"log/syslog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/jailhooks"
	"cfgd/overlay"
)

func initCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "init", ArgsUsage: "NAME", Usage: "make a jail's /etc in memory, for exec.prestart",
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
		Action: hookAction(s, runInit),
	}
}

func cleanupCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "cleanup", ArgsUsage: "NAME", Usage: "save and remove a jail's /etc, for exec.poststop",
		Description: "" +
			"Makes the daemon let go of the jail, saves a last time, and unmounts the memory " +
			"filesystem, never by force. What can't be saved goes to an archive in " +
			"/var/db/cfgd/rescue first, and so do files that no save takes: those larger than " +
			"max_file, and those of class report. An archive takes up to 256 MiB. What has no room " +
			"there, or can't be read, keeps the filesystem mounted.\n\n" +
			"Do not run it from exec.prestop or exec.stop: if it failed there, the jail would " +
			"go on running.\n\n" +
			"If a process of the host is in the jail's etc, everything is saved, the etc " +
			"stays mounted, and jail(8) unmounts the rest. End the process and run the " +
			"cleanup again. It then saves to the dataset or directory that the fstab mounts " +
			"on the jail's cfg.\n\n" +
			"If a start fails, jail(8) runs no hook, and the filesystems of the jail's fstab stay " +
			"mounted. No start succeeds until they are unmounted. A cleanup unmounts them too. " +
			"Let exec.prepare of jail.conf run it, which comes before each start: if there is " +
			"nothing to do, it prints nothing and ends with 0. The daemon unmounts them as well, " +
			"once the jail's cfg has not been mounted for a while.\n\n" +
			"Warnings and errors of both hooks go to syslogd(8) too, because rc.d/jail shows " +
			"nothing of a stop.",
		Action: hookAction(s, runCleanup),
	}
}

// hookAction runs a hook of a jail, and sends its error to syslogd(8) too. rc.d/jail throws away what a
// stop prints when the jail is gone, and then nobody would learn that its etc is still mounted.
func hookAction(s *session, run func(*session, *cli.Context) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		err := run(s, c)
		if code := exitCode(err); err != nil && !c.Bool("plan") && code != exitUsage && s.root == "" {
			toSyslog(syslog.LOG_ERR, err.Error())
		}
		return err
	}
}

// hookWarn prints warnings of a hook, and sends them to syslogd(8).
func hookWarn(s *session, target string, warnings []string) {
	s.warn(target, warnings...)
	for _, words := range warnings {
		if s.root == "" {
			toSyslog(syslog.LOG_WARNING, target+": "+words)
		}
	}
}

// toSyslog sends a line to syslogd(8). If syslogd does not run, the line is lost.
func toSyslog(severity syslog.Priority, words string) {
	w, err := syslog.New(severity|syslog.LOG_DAEMON, "cfgd")
	if err != nil {
		return
	}
	defer w.Close()
	_, _ = w.Write([]byte(pathname.Plain(words)))
}

// hookTarget finds the target of a hook. jail.conf may define the hooks for all jails; for one that is no
// target they do nothing, and hookTarget returns nil.
func hookTarget(s *session, name string) (*config.Target, error) {
	m, err := s.machine()
	if err != nil {
		return nil, err
	}
	t, err := m.find(name)
	switch {
	case err == nil && t.Host():
		return nil, usagef("the host is no jail: rc.initdiskless populates its /etc")
	case err == nil, exitCode(err) != exitUsage,
		!slices.ContainsFunc(m.Jails, func(j *config.Jail) bool { return j.Name == name }):
		return t, err
	}
	s.warn(name, "is no target: its fstab mounts nothing on its conf/base/etc; nothing to do")
	for _, p := range m.Problems {
		if p.Target == name {
			s.warn(name, p.String())
		}
	}
	return nil, nil
}

func runInit(s *session, c *cli.Context) error {
	t, err := hookTarget(s, c.Args().First())
	if t == nil {
		return err
	}
	if c.Bool("plan") {
		o := s.loaded.planning(t)
		return planOn(s, c, o, o.Next())
	}
	done, err := s.loaded.hooks(t).Init(c.Context)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	hookWarn(s, t.Name, done.Warnings)
	return reportStarted(s, t, done)
}

// reportStarted prints what init did.
func reportStarted(s *session, t *config.Target, done *jailhooks.Started) error {
	p := done.Population
	switch {
	case done.AlreadyPopulated:
		return s.printf("%s %s is populated already: nothing touched\n", t.Name, t.Live)
	case p == nil:
		return s.printf("%s %s taken over as it is\n", t.Name, t.Live)
	}
	s.warn(t.Name, p.Notices...)
	if p.Merge != nil {
		if err := s.print(newMergePlan(t.Name, p.Merge), func(b *strings.Builder) {
			printMerge(b, t.Name, p.Merge, false)
		}); err != nil {
			return err
		}
	} else {
		s.warn(t.Name, hiddenDefaults(p)...)
	}
	return s.printf("%s %s populated from %s and generation %d: %d entries\n", t.Name, t.Live, p.BaseID,
		p.Generation, p.Entries)
}

// hiddenDefaults tells which defaults the overrides hide, because they were made against another base and
// not merged.
func hiddenDefaults(p *overlay.Population) []string {
	var out []string
	if p.Unmerged != nil {
		out = append(out, fmt.Sprintf("the overrides could not be merged with %s, and hide what changed in "+
			"it: %v", p.BaseID, p.Unmerged))
	}
	for _, path := range p.Hiding {
		out = append(out, fmt.Sprintf("override %s hides a default that changed from %s to %s",
			pathname.Quote(path), p.OldBaseID, p.BaseID))
	}
	return out
}

func runCleanup(s *session, c *cli.Context) error {
	t, err := hookTarget(s, c.Args().First())
	if t == nil {
		return err
	}
	done, err := s.loaded.hooks(t).Cleanup(c.Context)
	if done != nil {
		hookWarn(s, t.Name, done.Warnings)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	return s.printf("%s", stoppedText(t, done))
}

// stoppedText tells what cleanup did.
func stoppedText(t *config.Target, done *jailhooks.Stopped) string {
	var b strings.Builder
	switch {
	case done.AlreadyClean: // exec.prepare runs it before every start
	case done.Rescue != "":
		fmt.Fprintf(&b, "%s %s not saved but archived in %s, and taken away\n", t.Name, t.Live,
			filepath.Base(done.Rescue))
	case done.Hidden:
		fmt.Fprintf(&b, "%s %s is hidden below the jail's root, and was left as it is\n", t.Name, t.Live)
	case done.Result == nil:
		fmt.Fprintf(&b, "%s %s taken away: it was not whole\n", t.Name, t.Live)
	case done.Extra != "":
		fmt.Fprintf(&b, "%s %s saved as generation %d, and taken away; what no save takes is archived "+
			"in %s\n", t.Name, t.Live, done.Result.Generation, filepath.Base(done.Extra))
	default:
		fmt.Fprintf(&b, "%s %s saved as generation %d, and taken away\n", t.Name, t.Live,
			done.Result.Generation)
	}
	for _, dir := range done.Unmounted {
		fmt.Fprintf(&b, "%s %s unmounted: jail(8) had left it\n", t.Name, dir)
	}
	return b.String()
}
