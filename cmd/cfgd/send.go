package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	sysrun "cfgd/internal/run"
	"cfgd/jails"
	"cfgd/prototype"
)

// This file has what cfgd proto send and cfgd jail send share, and the two commands.

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

func protoSendCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "send", ArgsUsage: "[NAME…] HOST[:DATASET]",
		Usage:       "send a prototype's snapshots to another machine",
		Description: sendDescription, Flags: sendFlags(), Action: s.action(runProtoSend),
	}
}

func jailSendCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "send", ArgsUsage: "NAME… HOST[:DATASET]",
		Usage:       "send a jail's snapshots to another machine",
		Description: "Sends the newest snapshot that cfgd jail snapshot took. " + sendDescription,
		Flags:       sendFlags(), Action: s.action(runJailSend),
	}
}

// receiver is the last argument of a send.
type receiver struct {
	*prototype.Sender
	dataset string // the name on the other side; "" is the same name
}

// sendArgs parses the arguments of a send: the names of what is sent, and the receiver.
func sendArgs(c *cli.Context) (names []string, to *receiver, err error) {
	last := c.NArg() - 1
	names = c.Args().Slice()[:last]
	host, dataset, err := prototype.SplitHost(c.Args().Get(last))
	if err != nil {
		return nil, nil, usageError{err}
	}
	if dataset != "" && len(names) > 1 {
		return nil, nil, usagef("one dataset there, %s, for %d: send them one by one", dataset, len(names))
	}
	return names, &receiver{&prototype.Sender{Run: sysrun.System{}, Host: host}, dataset}, nil
}

func runProtoSend(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	names, to, err := sendArgs(c)
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
		p, err := m.prototypeTree(name)
		if err != nil {
			return err
		}
		snaps, err := m.snapshots(p)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		z, ok := snaps.(prototype.ZFS)
		if !ok {
			return fmt.Errorf("%s: %w", name, jails.ErrNoZFS)
		}
		if err := sendDataset(s, c, to, name, z.Dataset, prototype.Newest); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func runJailSend(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	names, to, err := sendArgs(c)
	if err != nil {
		return err
	}
	targets, err := m.jails(names)
	if err != nil {
		return err
	}
	errs := make([]error, len(targets))
	for i, t := range targets {
		tops, err := jails.DatasetsOf(m.Model, t)
		if err == nil && to.dataset != "" && len(tops) > 1 {
			err = usagef("one dataset there, %s, for %s", to.dataset, strings.Join(tops, ", "))
		}
		for _, top := range tops {
			if err == nil {
				err = sendDataset(s, c, to, t.Name, top, jails.NewestBackup)
			}
		}
		errs[i] = err
	}
	return s.sum(targets, errs, nil)
}

// sendDataset sends a dataset. After a resumed transfer it sends what is left.
func sendDataset(
	s *session, c *cli.Context, to *receiver, name, dataset string, want func([]string) string,
) error {
	for {
		t, err := to.Plan(c.Context, dataset, to.dataset, want, c.Bool("incremental"), c.Bool("resume"))
		switch {
		case err != nil:
			return err
		case t.Done() && t.Resumes == "":
			return s.printf("%s %s:%s has @%s already\n", name, to.Host, t.To, t.Snapshot)
		case c.Bool("plan"):
			return s.printf("%s\n", t.Pipe)
		}
		moved, err := transferDataset(c.Context, s, to.Sender, name, t)
		if err != nil {
			return err
		}
		if err := s.printf("%s sent to %s:%s, %s: %s\n", name, to.Host, t.To, bytesText(uint64(moved)),
			transferText(t)); err != nil || t.Resumes == "" {
			return err
		}
	}
}

// transferDataset carries out one transfer, and shows how far it is. It returns the bytes.
func transferDataset(
	ctx context.Context, s *session, k *prototype.Sender, name string, t *prototype.Transfer,
) (moved int64, err error) {
	bar := newProgress(s.err, name, k.Size(ctx, t))
	err = k.Send(ctx, t, func(n int64) { moved = n; bar.at(n) })
	bar.end()
	return moved, err
}

func transferText(t *prototype.Transfer) string {
	switch {
	case t.Resumes != "":
		return "the rest of what was cut short of " + t.Resumes
	case t.Since != "":
		return "@" + t.Since + " to @" + t.Snapshot
	}
	return "all up to @" + t.Snapshot + ", which is not mounted there yet (zfs mount)"
}
