package config

import (
	"bytes"
	"fmt"
	"slices"

	"cfgd/config/conffile"
	"cfgd/config/fstab"
)

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
	var out bytes.Buffer
	at, found := 0, false
	for _, e := range entries {
		snap, ok := ParseSnapshot(e.Source)
		if !ok || !within(snap.Tree, prototype) {
			continue
		}
		found = true
		if !slices.Contains(s.From, snap.Name) {
			s.From = append(s.From, snap.Name)
		}
		if snap.Name == name {
			continue
		}
		start, end := snapshotName(data[e.SourceStart:e.SourceEnd], snap)
		out.Write(data[at : e.SourceStart+start])
		out.WriteString(fstab.Encode(name))
		at = e.SourceStart + end
		s.Lines = append(s.Lines, e.Line)
	}
	if !found {
		return nil, &conffile.Error{
			File:    file,
			Message: fmt.Sprintf("no line mounts a snapshot of %s", prototype),
			Fix:     "write it as PROTOTYPE/.zfs/snapshot/NAME",
		}
	}
	out.Write(data[at:])
	s.Data = out.Bytes()
	return s, nil
}

// snapshotName returns the position of a snapshot's name in a source as it is written.
func snapshotName(source []byte, snap Snapshot) (start, end int) {
	start = bytes.LastIndex(source, []byte(snap.Mark)) + len(snap.Mark)
	if snap.Mark != "@" {
		start = bytes.Index(source, []byte(snap.Mark)) + len(snap.Mark)
	}
	if n := bytes.IndexByte(source[start:], '/'); n >= 0 && snap.Mark != "@" {
		return start, start + n
	}
	return start, len(source)
}
