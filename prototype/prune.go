package prototype

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"cfgd/config"
	"cfgd/internal/mount"
	"cfgd/overlay"
)

// Pruner finds the snapshots of a prototype that nothing needs.
type Pruner struct {
	Model     *config.Model
	Prototype *config.Prototype
	Snapshots Snapshots
	// Overlay opens a target's trees.
	Overlay func(t *config.Target) *overlay.Overlay
	// Mounted is mount.All.
	Mounted func() ([]mount.Mount, error)
}

// Candidate is a snapshot that may be pruned.
type Candidate struct {
	Name string
	Keep string // why it must stay; "" if nothing needs it
}

// Plan returns the candidates, oldest first. A snapshot stays if it is one of the newest keep, if a mount or
// a base of the configuration names it, if it is mounted, if the cfg of a jail may have to go back to it, or
// if a clone or a hold is on it. Snapshots whose names are no numbers are no candidates, because cfgd did not
// make them. What cannot be read of the configuration is an error: it may name any snapshot. Plan changes
// nothing.
func (p *Pruner) Plan(ctx context.Context, keep int) ([]Candidate, error) {
	all, err := p.Snapshots.List(ctx)
	if err != nil {
		return nil, err
	}
	inUse, err := p.Snapshots.InUse(ctx)
	if err != nil {
		return nil, err
	}
	n, err := p.needs(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(x Snapshot) bool { return !x.Numbered() })
	var out []Candidate
	for i, x := range all {
		why := fmt.Sprintf("among the newest %d", keep)
		if i < len(all)-keep {
			why = cmp.Or(n.why(x.Name), inUse[x.Name])
		}
		out = append(out, Candidate{x.Name, why})
	}
	return out, nil
}

// needs is what may need a snapshot of one prototype.
type needs struct {
	prototype  *config.Prototype
	references []config.Reference
	mounted    []mount.Mount
	reach      map[string]string // by base id: the target whose cfg may have to go back to it
	embedded   string            // what stands before the path of a mounted snapshot: --root's directory
}

func (p *Pruner) needs(ctx context.Context) (n needs, err error) {
	proto := *p.Prototype
	if z, ok := p.Snapshots.(ZFS); ok { // fstabs may name it by its dataset
		proto.Dataset = z.Dataset
	}
	n = needs{prototype: &proto, reach: map[string]string{}, embedded: p.Model.Root}
	references, unread := p.Model.References()
	if err := unread.Err(); err != nil {
		return n, err
	}
	n.references = references
	for _, t := range p.Model.Targets {
		ids, err := p.Overlay(t).History().Reach(ctx)
		if err != nil {
			return n, fmt.Errorf("%s: %w", t.Name, err)
		}
		for _, id := range ids {
			n.reach[id] = t.Name
		}
	}
	n.mounted, err = p.Mounted()
	return n, err
}

// why says what needs a snapshot; "" if nothing does.
func (n needs) why(name string) string {
	for _, r := range n.references {
		if r.Snapshot.Name == name && n.prototype.Has(r.Snapshot) {
			return fmt.Sprintf("%s names it", r.At)
		}
	}
	for _, m := range n.mounted {
		snap, ok := config.ParseSnapshot(strings.TrimPrefix(m.Source, n.embedded))
		if ok && snap.Name == name && n.prototype.Has(snap) {
			return "it is mounted"
		}
	}
	for id, target := range n.reach {
		tree, at, ok := strings.Cut(id, "@")
		if ok && at == name && strings.HasPrefix(tree, filepath.Base(n.prototype.Root)+"/") {
			return fmt.Sprintf("%s may go back to it", target)
		}
	}
	return ""
}
