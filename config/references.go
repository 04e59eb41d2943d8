package config

import (
	"errors"
	"fmt"
	"io/fs"

	"cfgd/config/conffile"
	"cfgd/config/fstab"
	"cfgd/internal/hostfile"
)

// Reference is a line of an fstab that names a snapshot.
type Reference struct {
	Snapshot Snapshot
	Jail     string // whose fstab it is; HostName for /etc/fstab
	At       conffile.Origin
}

// References returns the snapshots that the fstabs of the host and of all jails name. An fstab that
// cannot be read is an error, because what it names must not be taken for unused.
func (m *Model) References() ([]Reference, error) {
	files := map[string]string{"/etc/fstab": HostName}
	for _, t := range m.Targets {
		if !t.Host() && t.Fstab != "" {
			files[t.Fstab] = t.Name
		}
	}
	for _, j := range m.Jails {
		if j.Fstab != "" {
			files[j.Fstab] = j.Name
		}
	}
	var all []Reference
	for _, file := range sorted(files) {
		b, err := hostfile.ReadFile(m.Path(file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		entries, err := fstab.ParseJail(file, b)
		if err != nil {
			return nil, fmt.Errorf("references: %w", err)
		}
		for _, e := range entries {
			if s, ok := ParseSnapshot(e.Source); ok {
				all = append(all, Reference{s, files[file], conffile.At(file, e.Line)})
			}
		}
	}
	return all, nil
}

// Has reports whether a snapshot is one of the prototype's tree, or of a tree below it.
func (p *Prototype) Has(s Snapshot) bool {
	return p.Root != "" && within(s.Tree, p.Root) || p.Dataset != "" && within(s.Tree, p.Dataset)
}

// Etc returns the path of a prototype's etc in one of its snapshots, by the mark of the snapshots.
func (p *Prototype) Etc(mark, name string) string {
	if mark == snapshotMarks[0] {
		return p.Root + "/etc" + mark + name
	}
	return p.Root + mark + name + "/etc"
}

// ZFSMark and CopyMark separate a tree from its snapshot's name: ZFS's, and that of cfgd's own copies.
var (
	ZFSMark  = snapshotMarks[0]
	CopyMark = snapshotMarks[1]
)
