package config

import (
	"path"
	"strings"

	"cfgd/config/conffile"
)

// Snapshot is the path of a base or root that is a snapshot of a prototype, in its parts, so that another
// snapshot of the same tree can be named. It is ZFS's X/.zfs/snapshot/N, cfgd's own read-only copy
// X/.cfgd/snapshot/N without ZFS, or a dataset POOL/X@N that fstab mounts itself.
type Snapshot struct {
	Tree string // what the snapshot was taken of: /jail/proto/etc, or the dataset zpool/proto/etc
	// what separates the tree from the snapshot's name: /.zfs/snapshot/, /.cfgd/snapshot/ or @
	Mark string
	Name string // the snapshot's name, usually a number
	Sub  string // a path below the snapshot, without leading slash; "" for all of it
}

// snapshotMarks are the forms of a snapshot's path.
var snapshotMarks = []string{"/.zfs/snapshot/", "/.cfgd/snapshot/"}

// ParseSnapshot parses the source of a mount: a path, or a ZFS snapshot's full name. It returns false for
// a source that is no snapshot.
func ParseSnapshot(source string) (Snapshot, bool) {
	if !path.IsAbs(source) {
		tree, name, ok := strings.Cut(source, "@")
		if !ok || tree == "" || name == "" || strings.Contains(name, "/") {
			return Snapshot{}, false
		}
		return Snapshot{Tree: tree, Mark: "@", Name: name}, true
	}
	source = path.Clean(source)
	for _, mark := range snapshotMarks {
		tree, rest, ok := strings.Cut(source, mark)
		if !ok {
			continue
		}
		name, sub, _ := strings.Cut(rest, "/")
		return Snapshot{Tree: tree, Mark: mark, Name: name, Sub: sub}, true
	}
	return Snapshot{}, false
}

// String returns the snapshot in its original form.
func (s Snapshot) String() string {
	p := s.Tree + s.Mark + s.Name
	if s.Sub != "" {
		p += "/" + s.Sub
	}
	return p
}

// At returns the same tree at another snapshot.
func (s Snapshot) At(name string) Snapshot {
	s.Name = name
	return s
}

// of returns the path of the tree, as if it were no snapshot: /jail/proto/etc.
func (s Snapshot) of() string {
	return path.Join(s.Tree, s.Sub)
}

// ID returns the base id: the last two components of the tree and the snapshot's name, proto/etc@2. It is
// the same for all forms, so a prototype that moves to another pool, or from a plain copy to ZFS, keeps
// its ids.
func (s Snapshot) ID() string {
	parts := conffile.Components(s.of())
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts[max(0, len(parts)-2):], "/") + "@" + s.Name
}

// Prototype returns the tree that holds all of the snapshot's siblings: the parent of etc if the snapshot
// is of an etc.
func (s Snapshot) Prototype() string {
	of := s.of()
	if path.Base(of) == "etc" {
		return path.Dir(of)
	}
	return of
}

// baseID returns the id of a base, "" for a plain directory, which has only a digest.
func baseID(source string) string {
	s, ok := ParseSnapshot(source)
	if !ok {
		return ""
	}
	return s.ID()
}

// ZFSMark and CopyMark separate a tree from its snapshot's name: ZFS's, and that of cfgd's own copies.
var (
	ZFSMark  = snapshotMarks[0]
	CopyMark = snapshotMarks[1]
)
