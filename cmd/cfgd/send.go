package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/config/fstab"
	"cfgd/internal/hostfile"
	sysrun "cfgd/internal/run"
	"cfgd/jails"
	"cfgd/overlay"
	"cfgd/prototype"
)

func sendFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{
			Name: "incremental", Usage: "refuse to send everything if the other side has nothing yet",
		},
		&cli.BoolFlag{Name: "resume", Usage: "go on with a transfer that was interrupted"},
		&cli.BoolFlag{Name: "plan", Usage: "print the commands, and run none"},
	}
}

const sendDescription = "" +
	"Uses zfs send, ssh and zfs receive, from the newest snapshot that both sides have. " +
	"Nothing on the other side is ever rolled back or destroyed: if that were needed, the " +
	"command refuses. What arrives is read-only. DATASET is the name on the other side, if it " +
	"differs."

func (s *session) protoSendCommand() *cli.Command {
	return &cli.Command{
		Name: "send", ArgsUsage: "[NAME…] HOST[:DATASET]",
		Usage:       "send a prototype's snapshots to another machine",
		Description: sendDescription, Flags: sendFlags(), Action: s.protoSend,
	}
}

func (s *session) jailSendCommand() *cli.Command {
	return &cli.Command{
		Name: "send", ArgsUsage: "NAME… HOST[:DATASET]",
		Usage:       "send a jail's snapshots to another machine",
		Description: "Sends the newest snapshot that cfgd jail snapshot took. " + sendDescription,
		Flags:       sendFlags(), Action: s.jailSend,
	}
}

func (s *session) jailSnapshotCommand() *cli.Command {
	return &cli.Command{
		Name: "snapshot", ArgsUsage: "NAME…|ALL", Usage: "take a snapshot of a jail's own filesystems",
		Description: "" +
			"For backups. The snapshot is recursive: of the filesystems that the jail's fstab mounts, " +
			"and of those beside them below the jail's name, never of the prototype's. What is " +
			"unsaved in the jail's /etc is saved first. The snapshot's name is cfgd- and the time, " +
			"because the prototypes' snapshots have numbers.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "comment", Usage: "keep this `TEXT` with the snapshot"},
			&cli.BoolFlag{Name: "plan", Usage: "print the commands, and run none"},
		},
		Action: s.jailSnapshot,
	}
}

// errNoZFS is the error for directories, which can't be sent and have no snapshots for backups.
var errNoZFS = errors.New("it is not on ZFS: rsync(1) or tar(1) copies directories")

// receiver parses the last argument.
func (s *session) receiver(c *cli.Context) (names []string, k *prototype.Sender, to string, err error) {
	args := c.Args().Slice()
	host, to, err := prototype.SplitHost(args[len(args)-1])
	if err != nil {
		return nil, nil, "", usageError{err}
	}
	names = args[:len(args)-1]
	if to != "" && len(names) > 1 {
		return nil, nil, "", usagef("one dataset there, %s, for %d: send them one by one", to, len(names))
	}
	return names, &prototype.Sender{Run: sysrun.System{}, Host: host}, to, nil
}

func (s *session) protoSend(c *cli.Context) error {
	if err := counted(c, 1, -1); err != nil {
		return err
	}
	m, err := s.model()
	if err != nil {
		return err
	}
	names, k, to, err := s.receiver(c)
	if err != nil {
		return err
	}
	if len(names) == 0 && len(m.Prototypes) == 1 {
		names = []string{m.Prototypes[0].Name}
	}
	if len(names) == 0 {
		return usagef("which prototype? cfgd proto list lists them")
	}
	for _, name := range names {
		p := s.prototypeNamed(name)
		if p == nil {
			return usagef("no prototype %q; cfgd proto list lists them", name)
		}
		snaps, err := s.snapshots(p)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		z, ok := snaps.(prototype.ZFS)
		if !ok {
			return fmt.Errorf("%s: %w", name, errNoZFS)
		}
		if err := s.sendOne(c, k, name, z.Dataset, to, newestNumbered); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func newestNumbered(names []string) string {
	for _, n := range slices.Backward(names) {
		if (prototype.Snapshot{Name: n}).Numbered() {
			return n
		}
	}
	return ""
}

func newestBackup(names []string) string {
	for _, n := range slices.Backward(names) {
		if jails.IsBackup(n) {
			return n
		}
	}
	return ""
}

// sendOne sends a dataset. After a resumed transfer it sends what is left.
func (s *session) sendOne(
	c *cli.Context, k *prototype.Sender, name, dataset, to string, want func([]string) string,
) error {
	resume := c.Bool("resume")
	for {
		t, err := k.Plan(c.Context, dataset, to, want, c.Bool("incremental"), resume)
		switch {
		case err != nil:
			return err
		case t.Done() && t.Resumes == "":
			_, err := fmt.Fprintf(s.out, "%s %s:%s has @%s already\n", name, k.Host, t.To, t.Snapshot)
			return err
		case c.Bool("plan"):
			_, err := fmt.Fprintln(s.out, t.Pipe)
			return err
		}
		if err := s.transfer(c.Context, k, name, t); err != nil {
			return err
		}
		if t.Resumes == "" {
			return nil
		}
	}
}

func (s *session) transfer(
	ctx context.Context, k *prototype.Sender, name string, t *prototype.Transfer,
) error {
	bar := s.newProgress(name, k.Size(ctx, t))
	moved := int64(0)
	err := k.Send(ctx, t, func(n int64) { moved = n; bar.at(n) })
	bar.end()
	if err != nil {
		return err
	}
	what := "all up to @" + t.Snapshot
	switch {
	case t.Resumes != "":
		what = "the rest of what was cut short of " + t.Resumes
	case t.Since != "":
		what = "@" + t.Since + " to @" + t.Snapshot
	}
	if t.Since == "" && t.Resumes == "" {
		what += ", which is not mounted there yet (zfs mount)"
	}
	_, err = fmt.Fprintf(s.out, "%s sent to %s:%s, %s: %s\n", name, k.Host, t.To, bytesText(uint64(moved)),
		what)
	return err
}

// tops returns the datasets that belong to a jail alone.
func (s *session) tops(t *config.Target) ([]string, error) {
	b, err := hostfile.ReadFile(s.loaded.Path(t.Fstab))
	if err != nil {
		return nil, err
	}
	entries, err := fstab.ParseJail(t.Fstab, b)
	if err != nil {
		return nil, err
	}
	tops, err := jails.Own(t, entries, s.loaded.Prototypes)
	if err == nil && (len(tops) == 0 || s.loaded.Root != "") {
		err = errNoZFS
	}
	return tops, err
}

func (s *session) jailSnapshot(c *cli.Context) error {
	if err := counted(c, 1, -1); err != nil {
		return err
	}
	targets, err := s.jailsNamed(c.Args().Slice())
	if err != nil {
		return err
	}
	name := jails.BackupName(time.Now())
	errs := make([]error, len(targets))
	for i, t := range targets {
		errs[i] = s.snapshotOne(c, t, name)
	}
	return s.sum(targets, errs, nil)
}

func (s *session) snapshotOne(c *cli.Context, t *config.Target, name string) error {
	tops, err := s.tops(t)
	if err != nil {
		return err
	}
	cmd := jails.Backup(tops, name, c.String("comment"))
	if c.Bool("plan") {
		_, err := fmt.Fprintln(s.out, cmd)
		return err
	}
	if _, err := s.saveTarget(c.Context, t, overlay.SaveOptions{}, false); err != nil {
		return fmt.Errorf("save before the snapshot: %w", err)
	}
	if _, err := (sysrun.System{}).Run(c.Context, cmd); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s snapshot %s taken of %s\n", t.Name, name, strings.Join(tops, ", "))
	return err
}

func (s *session) jailSend(c *cli.Context) error {
	if err := counted(c, 2, -1); err != nil {
		return err
	}
	if _, err := s.model(); err != nil {
		return err
	}
	names, k, to, err := s.receiver(c)
	if err != nil {
		return err
	}
	targets, err := s.jailsNamed(names)
	if err != nil {
		return err
	}
	errs := make([]error, len(targets))
	for i, t := range targets {
		tops, err := s.tops(t)
		if err == nil && to != "" && len(tops) > 1 {
			err = usagef("one dataset there, %s, for %s", to, strings.Join(tops, ", "))
		}
		for _, top := range tops {
			if err == nil {
				err = s.sendOne(c, k, t.Name, top, to, newestBackup)
			}
		}
		errs[i] = err
	}
	return s.sum(targets, errs, nil)
}
