package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/mount"
	"cfgd/internal/pathname"
	sysrun "cfgd/internal/run"
	"cfgd/jails"
	"cfgd/overlay"
	"cfgd/overlay/tree"
	"cfgd/prototype"
)

func (s *session) protoCommand() *cli.Command {
	return &cli.Command{
		Name: "proto", Usage: "prototypes and their snapshots",
		Subcommands: []*cli.Command{
			{
				Name: "list", ArgsUsage: "[NAME]",
				Usage:  "list snapshots, their jails, and what each changed in etc",
				Action: s.protoList,
			},
			{
				Name: "create", ArgsUsage: "NAME", Usage: "make an empty prototype: filesystems, fstab, jail",
				Description: "" +
					"Makes the prototype's filesystems, its fstab, and the lines that define its " +
					"jail. With --dataset it makes the two ZFS filesystems that snapshots are taken " +
					"of, and beside them those that other jails do not see. Without --dataset it " +
					"makes directories. Then install a system below it, and take the first snapshot. " +
					"To undo it, run cfgd jail destroy.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "dataset", Usage: "the ZFS `DATASET` to make, POOL/NAME"},
					&cli.StringFlag{
						Name: "hostname", Usage: "the prototype's `HOST` name (NAME if left out)",
					},
					&cli.StringFlag{Name: "ip", Usage: "the prototype's `ADDRESS`"},
					&cli.StringFlag{Name: "interface", Usage: "the network `INTERFACE` of the address"},
					&cli.BoolFlag{Name: "plan", Usage: "show what would be made, and make nothing"},
				},
				Action: s.protoCreate,
			},
			{
				Name: "snapshot", ArgsUsage: "[NAME]", Usage: "take a snapshot with the next number",
				Description: "" +
					"If the prototype's root is a ZFS dataset, takes a recursive snapshot, so that " +
					"the system and its etc are of the same moment. Otherwise copies the tree into " +
					"the prototype's .cfgd/snapshot, whether zfs(8) is installed or not. Refuses " +
					"while packages are being installed. NAME may be left out if there is one " +
					"prototype.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "comment", Usage: "keep this `TEXT` with the snapshot"},
					&cli.BoolFlag{Name: "plan", Usage: "print the commands, and run none"},
				},
				Action: s.protoSnapshot,
			},
			s.protoSendCommand(),
			{
				Name: "prune", ArgsUsage: "[NAME]", Usage: "destroy snapshots that nothing needs",
				Description: "" +
					"Keeps each snapshot that an fstab names, that is mounted, cloned or held, that a " +
					"jail's cfg may have to go back to, or that is one of the newest. Keeps snapshots " +
					"whose names are no numbers.",
				Flags: []cli.Flag{
					&cli.IntFlag{Name: "keep", Usage: "keep the newest `N` in any case", Value: 5},
					&cli.BoolFlag{
						Name: "dry-run", Aliases: []string{"n"},
						Usage: "print what would be destroyed, and destroy nothing",
					},
				},
				Action: s.protoPrune,
			},
		},
	}
}

func (s *session) protoCreate(c *cli.Context) error {
	if err := counted(c, 1, 1); err != nil {
		return err
	}
	m, err := s.model()
	if err != nil {
		return err
	}
	name := c.Args().First()
	spec := &jails.Spec{
		Name: name, Hostname: cmp.Or(c.String("hostname"), strings.ReplaceAll(name, "_", "-")),
		IP: c.String("ip"), Interface: c.String("interface"), Dataset: c.String("dataset"),
		Form: m.JailForm(), Listed: len(m.JailList) > 0,
	}
	file := config.DefaultFile
	if s.config != "" {
		return usagef("--config %s: a prototype is made known in %s", s.config, config.DefaultFile)
	}
	made, err := spec.PlanPrototype(file, time.Now())
	if err != nil {
		return usageError{err}
	}
	if s.loaded.Root != "" {
		made.Datasets = nil // with --root no command runs; its directories are enough
	}
	return s.make(c, s.creator(), made,
		name+" made; install a system below "+made.Root+", then: cfgd proto snapshot "+name)
}

// prototypes returns the prototypes that the command line names, or all.
func (s *session) prototypes(c *cli.Context) ([]*config.Prototype, error) {
	if err := counted(c, 0, 1); err != nil {
		return nil, err
	}
	m, err := s.model()
	if err != nil {
		return nil, err
	}
	if c.NArg() == 0 {
		if len(m.Prototypes) == 0 {
			return nil, usagef("no prototypes: no jail's fstab names a snapshot; cfgd check shows what " +
				"was found")
		}
		return m.Prototypes, nil
	}
	for _, p := range m.Prototypes {
		if p.Name == c.Args().First() {
			return []*config.Prototype{p}, nil
		}
	}
	return nil, usagef("no prototype %q; cfgd proto list lists them", c.Args().First())
}

// prototype returns the prototype that the command line names, or the only one.
func (s *session) prototype(c *cli.Context) (*config.Prototype, error) {
	all, err := s.prototypes(c)
	if err == nil && len(all) > 1 {
		return nil, usagef("which prototype? cfgd proto list lists them")
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// snapshots returns the snapshots of a prototype: of ZFS if its root is a dataset, else copies.
func (s *session) snapshots(p *config.Prototype) (prototype.Snapshots, error) {
	return prototype.Opener{
		Prototype: p, Root: s.loaded.Path(p.Root), Embedded: s.loaded.Root != "", Run: sysrun.System{},
		Holding: mount.Holding, References: s.loaded.References,
	}.Open()
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

func (s *session) protoList(c *cli.Context) error {
	protos, err := s.prototypes(c)
	if err != nil {
		return err
	}
	refs, err := s.loaded.References()
	if err != nil {
		return err
	}
	list := []listedSnapshot{}
	for _, p := range protos {
		of, err := s.listed(c.Context, p, refs)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		list = append(list, of...)
	}
	return s.printSnapshots(list)
}

func (s *session) listed(
	ctx context.Context, p *config.Prototype, refs []config.Reference,
) ([]listedSnapshot, error) {
	snaps, err := s.snapshots(p)
	if err != nil {
		return nil, err
	}
	all, err := snaps.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []listedSnapshot
	before := ""
	for _, x := range all {
		l := listedSnapshot{
			Prototype: p.Name, Name: x.Name, Time: x.Time, Comment: x.Comment,
			UsedBy: usedBy(refs, p, x.Name),
		}
		etc := s.loaded.Path(p.Etc(snaps.Mark(), x.Name))
		if before != "" {
			if l.Changes, err = overlay.CompareTrees(ctx, before, etc); err != nil &&
				!errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
		before = etc
		out = append(out, l)
	}
	return out, nil
}

// usedBy returns the jails whose fstabs name a snapshot of a prototype.
func usedBy(refs []config.Reference, p *config.Prototype, name string) []string {
	jails := []string{}
	for _, r := range refs {
		if r.Snapshot.Name == name && p.Has(r.Snapshot) && !slices.Contains(jails, r.Jail) {
			jails = append(jails, r.Jail)
		}
	}
	return jails
}

func (s *session) printSnapshots(list []listedSnapshot) error {
	if s.json {
		return s.print(struct {
			Version   int              `json:"version"`
			Snapshots []listedSnapshot `json:"snapshots"`
		}{1, list})
	}
	w := newTable()
	w.row("PROTOTYPE", "SNAPSHOT", "TAKEN", "JAILS", "ETC", "COMMENT")
	for _, l := range list {
		w.row(l.Prototype, l.Name, l.Time.Local().Format(time.DateTime), dash(strings.Join(l.UsedBy, " ")),
			dash(changeCounts(l.Changes)), pathname.Plain(l.Comment))
	}
	return w.print(s.out)
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

func (s *session) protoSnapshot(c *cli.Context) error {
	p, err := s.prototype(c)
	if err != nil {
		return err
	}
	snaps, err := s.snapshots(p)
	if err != nil {
		return err
	}
	if c.Bool("plan") {
		all, err := snaps.List(c.Context)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		_, err = fmt.Fprintln(s.out,
			strings.Join(snaps.TakePlan(prototype.Next(all), c.String("comment")), "\n"))
		return err
	}
	name, err := prototype.TakeNext(c.Context, s.loaded, p, snaps, c.String("comment"))
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	_, err = fmt.Fprintf(s.out,
		"%s snapshot %s taken; cfgd jail switch --plan ALL %s shows what it would do\n", p.Name, name, name)
	return err
}

func (s *session) protoPrune(c *cli.Context) error {
	p, err := s.prototype(c)
	if err != nil {
		return err
	}
	if c.Int("keep") < 1 {
		return usagef("--keep %d: at least the newest stays", c.Int("keep"))
	}
	if !c.Bool("dry-run") {
		unlock, err := prototype.Lock(c.Context, s.loaded, p.Name)
		if err != nil {
			return err
		}
		defer unlock()
		s.loaded = nil // a jail may have been created meanwhile
		if p, err = s.prototype(c); err != nil {
			return err
		}
	}
	snaps, err := s.snapshots(p)
	if err != nil {
		return err
	}
	all, err := snaps.List(c.Context)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	inUse, err := snaps.InUse(c.Context)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	why, err := s.needed(c.Context, p)
	if err != nil {
		return fmt.Errorf("%s: %w; nothing was destroyed", p.Name, err)
	}
	// cfgd made no others
	all = slices.DeleteFunc(all, func(x prototype.Snapshot) bool { return !x.Numbered() })
	reason := func(i int) string {
		if i >= len(all)-c.Int("keep") {
			return fmt.Sprintf("among the newest %d", c.Int("keep"))
		}
		return cmp.Or(why(all[i].Name), inUse[all[i].Name])
	}
	one := func(i int) error { return s.pruneOne(c, p, snaps, all[i].Name, reason(i)) }
	return s.pruneEach(all, one, p.Name)
}

// pruneEach goes through all snapshots, even if one fails. The exit status is 2 if all failed, and 3 if some
// did.
func (s *session) pruneEach(all []prototype.Snapshot, prune func(i int) error, proto string) error {
	failed := 0
	for i := range all {
		if err := prune(i); err != nil {
			failed++
			s.complain(proto+"@"+all[i].Name, err)
		}
	}
	switch {
	case failed == 0:
		return nil
	case failed < len(all):
		return errSome
	}
	return fmt.Errorf("%s: no snapshot could be pruned", proto)
}

func (s *session) pruneOne(
	c *cli.Context, p *config.Prototype, snaps prototype.Snapshots, name, reason string,
) error {
	words := "kept: " + reason
	switch {
	case reason != "":
	case c.Bool("dry-run"):
		words = "would be destroyed: " + strings.Join(snaps.DestroyPlan(name), "; ")
	default:
		if err := snaps.Destroy(c.Context, name); err != nil {
			return err
		}
		words = "destroyed"
	}
	_, err := fmt.Fprintf(s.out, "%s@%s %s\n", p.Name, name, words)
	return err
}

// needed tells why a snapshot must stay; "" if nothing needs it.
func (s *session) needed(ctx context.Context, p *config.Prototype) (func(name string) string, error) {
	refs, err := s.loaded.References()
	if err != nil {
		return nil, err
	}
	reach := map[string]string{}
	for _, t := range s.loaded.Targets {
		ids, err := s.overlay(t).Reach(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		for _, id := range ids {
			reach[id] = t.Name
		}
	}
	mounted, err := mount.All()
	if err != nil {
		return nil, err
	}
	return func(name string) string {
		for _, r := range refs {
			if r.Snapshot.Name == name && p.Has(r.Snapshot) {
				return fmt.Sprintf("%s names it", r.At)
			}
		}
		for _, m := range mounted {
			if snap, ok := config.ParseSnapshot(strings.TrimPrefix(m.Source, s.loaded.Root)); ok &&
				snap.Name == name && p.Has(snap) {
				return "it is mounted"
			}
		}
		for id, target := range reach {
			if tree, at, ok := strings.Cut(id, "@"); ok && at == name &&
				strings.HasPrefix(tree, filepath.Base(p.Root)+"/") {
				return fmt.Sprintf("%s may go back to it", target)
			}
		}
		return ""
	}, nil
}
