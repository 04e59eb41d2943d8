package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

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

// Switched is an fstab whose references were changed to another snapshot.
type Switched struct {
	Data []byte
	From []string // the snapshots that were named before, each once, in order of their lines
	// Lines are those that changed, counted from 1; none where all named that snapshot already.
	Lines []int
}

// SwitchFstab changes an fstab's references to snapshots of one prototype's trees to another snapshot.
// Every other byte stays as it is, comments and blanks too. A mount of a tree that is no snapshot, or of
// another prototype, is not changed. The error, a *conffile.Error, says that there is no such reference, or
// that the file is no fstab.
func SwitchFstab(file string, data []byte, prototype, name string) (*Switched, error) {
	entries, err := fstab.ParseJail(file, data)
	if err != nil {
		return nil, err
	}
	s := &Switched{}
	found := false
	s.Data, s.Lines = fstab.SetSources(data, entries, func(e fstab.Entry, written string) string {
		snap, ok := ParseSnapshot(e.Source)
		if !ok || !within(snap.Tree, prototype) {
			return written
		}
		found = true
		if !slices.Contains(s.From, snap.Name) {
			s.From = append(s.From, snap.Name)
		}
		if snap.Name == name {
			return written
		}
		start, end := snapshotName(written, snap)
		return written[:start] + fstab.Encode(name) + written[end:]
	})
	if !found {
		return nil, &conffile.Error{
			File:    file,
			Message: fmt.Sprintf("no line mounts a snapshot of %s", prototype),
			Fix:     "write it as PROTOTYPE/.zfs/snapshot/NAME",
		}
	}
	return s, nil
}

// snapshotName returns the position of a snapshot's name in a source as it is written.
func snapshotName(source string, snap Snapshot) (start, end int) {
	if snap.Mark == "@" {
		return strings.LastIndex(source, snap.Mark) + 1, len(source)
	}
	start = strings.Index(source, snap.Mark) + len(snap.Mark)
	if n := strings.IndexByte(source[start:], '/'); n >= 0 {
		return start, start + n
	}
	return start, len(source)
}
