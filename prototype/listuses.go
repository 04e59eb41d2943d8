package prototype

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"cfgd/config"
	"cfgd/overlay"
)

// Listed is a snapshot with what is known about its use.
type Listed struct {
	Snapshot
	UsedBy  []string       // the jails whose fstabs name it
	Changes map[string]int // changes of etc since the snapshot before, by kind
}

// ListUses lists the snapshots of a prototype, oldest first. references are those of all fstabs.
func ListUses(
	ctx context.Context, m *config.Model, p *config.Prototype, snaps Snapshots, references []config.Reference,
) ([]Listed, error) {
	all, err := snaps.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []Listed
	before := ""
	for _, x := range all {
		l := Listed{Snapshot: x, UsedBy: usedBy(references, p, x.Name)}
		etc := m.Path(p.Etc(snaps.Mark(), x.Name))
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

func usedBy(references []config.Reference, p *config.Prototype, name string) []string {
	jails := []string{}
	for _, r := range references {
		if r.Snapshot.Name == name && p.Has(r.Snapshot) && !slices.Contains(jails, r.Jail) {
			jails = append(jails, r.Jail)
		}
	}
	return jails
}

// Newest returns the last of the names, oldest first, that is a number; "" if none is.
func Newest(names []string) string {
	for _, n := range slices.Backward(names) {
		if (Snapshot{Name: n}).Numbered() {
			return n
		}
	}
	return ""
}

// Newer reports whether a numbered snapshot is newer than another one.
func Newer(name, than string) bool {
	return (Snapshot{Name: name}).Numbered() && (Snapshot{Name: than}).Numbered() &&
		(len(name) > len(than) || len(name) == len(than) && name > than)
}
