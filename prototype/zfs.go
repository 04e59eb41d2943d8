package prototype

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/run"
)

// ZFS takes snapshots with zfs(8): recursive ones, so that those of a prototype and its etc are of the
// same moment.
type ZFS struct {
	Run     run.Runner
	Dataset string
}

// CommentProperty is the user property that keeps a comment.
const CommentProperty = "cfgd:comment"

// Mark returns config.ZFSMark.
func (ZFS) Mark() string { return config.ZFSMark }

// List parses the output of zfs list -Hp: name, seconds since 1970 and the property, separated by tabs.
func (z ZFS) List(ctx context.Context) ([]Snapshot, error) {
	out, err := z.Run.Run(ctx, run.Command("zfs", "list", "-Hp", "-t", "snapshot", "-d", "1", "-s",
		"creation", "-o", "name,creation,"+CommentProperty, z.Dataset))
	if err != nil {
		return nil, err
	}
	var all []Snapshot
	for line := range strings.SplitSeq(strings.TrimSuffix(out, "\n"), "\n") {
		if line == "" {
			continue
		}
		f := strings.SplitN(line, "\t", 3)
		_, name, ok := strings.Cut(f[0], "@")
		if len(f) != 3 || !ok {
			return nil, fmt.Errorf("zfs list: line %q: not NAME, CREATION and %s", line, CommentProperty)
		}
		sec, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("zfs list: line %q: %w", line, err)
		}
		s := Snapshot{Name: name, Time: time.Unix(sec, 0).UTC()}
		if f[2] != "-" {
			s.Comment = f[2]
		}
		all = append(all, s)
	}
	return all, nil
}

// InUse reads the clones and holds of all snapshots of the prototype's datasets.
func (z ZFS) InUse(ctx context.Context) (map[string]string, error) {
	out, err := z.Run.Run(
		ctx, run.Command("zfs", "list", "-Hpr", "-t", "snapshot", "-o", "name,clones,userrefs", z.Dataset),
	)
	if err != nil {
		return nil, err
	}
	why := map[string]string{}
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		_, name, ok := strings.Cut(f[0], "@")
		if len(f) != 3 || !ok {
			return nil, fmt.Errorf("zfs list: line %q: not NAME, CLONES and USERREFS", line)
		}
		switch {
		case f[1] != "" && f[1] != "-":
			why[name] = f[1] + " is a clone of it"
		case f[2] != "0" && f[2] != "-":
			why[name] = "it is held: zfs holds " + f[0]
		}
	}
	return why, nil
}

func (z ZFS) take(name, comment string) run.Cmd {
	args := []string{"snapshot", "-r"}
	if comment != "" {
		args = append(args, "-o", CommentProperty+"="+comment)
	}
	return run.Command("zfs", append(args, z.Dataset+"@"+name)...)
}

func (z ZFS) destroy(name string) run.Cmd {
	return run.Command("zfs", "destroy", "-r", z.Dataset+"@"+name)
}

// Take takes a recursive snapshot.
func (z ZFS) Take(ctx context.Context, name, comment string) error {
	_, err := z.Run.Run(ctx, z.take(name, comment))
	return err
}

// Destroy destroys a recursive snapshot. zfs(8) refuses one that is held or cloned.
func (z ZFS) Destroy(ctx context.Context, name string) error {
	_, err := z.Run.Run(ctx, z.destroy(name))
	return err
}

// TakePlan returns the command that Take runs.
func (z ZFS) TakePlan(name, comment string) []string { return []string{z.take(name, comment).String()} }

// DestroyPlan returns the command that Destroy runs.
func (z ZFS) DestroyPlan(name string) []string { return []string{z.destroy(name).String()} }

// DatasetName matches the names of ZFS datasets, POOL/NAME. ZFS also allows a space, which is not
// accepted because it would need quoting wherever it is typed.
var DatasetName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.:-]*(/[A-Za-z0-9_.:-]+)+$`)
