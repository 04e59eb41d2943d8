package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
	"cfgd/prototype"
)

func protoListCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "list", ArgsUsage: "[NAME]",
		Usage: "list snapshots, their jails, and what each changed in etc",
		Description: "" +
			"Prints one line for each snapshot of the prototype NAME, or of all prototypes. JAILS are the " +
			"jails whose mounts name it; one that was just switched runs on it from its next start. " +
			"ETC counts what it changed in the defaults since the snapshot before.",
		Action: s.action(runProtoList),
	}
}

// listedSnapshot is the JSON of a snapshot.
type listedSnapshot struct {
	Prototype string         `json:"prototype"`
	Name      string         `json:"name"`
	Time      time.Time      `json:"time"`
	Comment   string         `json:"comment,omitempty"`
	UsedBy    []string       `json:"usedBy"`
	Changes   map[string]int `json:"changes,omitempty"` // changes of etc since the snapshot before, by kind
}

func runProtoList(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	protos, err := m.prototypes(c.Args().Slice())
	if err != nil {
		return err
	}
	references, unread := m.References()
	for _, e := range unread {
		s.warn("", fmt.Sprintf("%v: its snapshots are not among those listed as used", e))
	}
	list := []listedSnapshot{}
	for _, p := range protos {
		snaps, err := m.snapshots(p)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		all, err := prototype.ListUses(c.Context, m.Model, p, snaps, references)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		for _, x := range all {
			list = append(list, listedSnapshot{p.Name, x.Name, x.Time, x.Comment, x.UsedBy, x.Changes})
		}
	}
	return s.print(struct {
		Version   int              `json:"version"`
		Snapshots []listedSnapshot `json:"snapshots"`
	}{1, list}, func(b *strings.Builder) { printSnapshots(b, list) })
}

func printSnapshots(b *strings.Builder, list []listedSnapshot) {
	w := newTable()
	w.row("PROTOTYPE", "SNAPSHOT", "TAKEN", "JAILS", "ETC", "COMMENT")
	for _, l := range list {
		w.row(l.Prototype, l.Name, l.Time.Local().Format(time.DateTime), dash(strings.Join(l.UsedBy, " ")),
			dash(changeCounts(l.Changes)), pathname.Plain(l.Comment))
	}
	w.print(b)
}

// changeCounts tells how many paths were added, modified and so on.
func changeCounts(n map[string]int) string {
	var words []string
	for _, what := range []tree.ChangeKind{tree.Added, tree.Modified, tree.Deleted, tree.Type, tree.Mode} {
		if n[what.String()] > 0 {
			words = append(words, fmt.Sprintf("%s%d", what.Letter(), n[what.String()]))
		}
	}
	return strings.Join(words, " ")
}
