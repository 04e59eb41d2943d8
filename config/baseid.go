package config

import (
	"path"
	"strings"
)

// Snapshot is a base or a root that is a snapshot of a prototype, taken apart, so that another snapshot
// of the same tree can be named: ZFS's X/.zfs/snapshot/N, cfgd's own read-only copies X/.cfgd/snapshot/N
// where there is no ZFS, or a dataset POOL/X@N that fstab mounts itself.
type Snapshot struct {
	Tree string // what the snapshot was taken of: /jail/proto/etc, or the dataset zpool/proto/etc
	// what stands between the tree and the snapshot's name: /.zfs/snapshot/, /.cfgd/snapshot/ or @
	Mark string
	Name string // the snapshot's name, usually a number
	Sub  string // a path below the snapshot, without leading slash; "" for all of it
}

// snapshotMarks are the forms of a snapshot's path.
var snapshotMarks = []string{"/.zfs/snapshot/", "/.cfgd/snapshot/"}

// ParseSnapshot takes apart the source of a mount: a path, or a ZFS snapshot's full name. False says that
// it is no snapshot.
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

// String puts the snapshot together again.
func (s Snapshot) String() string {
	p := s.Tree + s.Mark + s.Name
	if s.Sub != "" {
		p += "/" + s.Sub
	}
	return p
}

// At is the same tree at another snapshot.
func (s Snapshot) At(name string) Snapshot {
	s.Name = name
	return s
}

// of is the tree that is seen, as if it were no snapshot: /jail/proto/etc.
func (s Snapshot) of() string {
	return path.Join(s.Tree, s.Sub)
}

// ID is the base id: the last two components of the tree and the snapshot's name, proto/etc@2, whichever
// form the snapshot has; so a prototype that moves to another pool or from a plain copy to ZFS keeps its
// ids.
func (s Snapshot) ID() string {
	parts := pathParts(s.of())
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts[max(0, len(parts)-2):], "/") + "@" + s.Name
}

// Prototype is the tree that holds all of the snapshot's siblings: the parent of etc where the snapshot
// is of an etc.
func (s Snapshot) Prototype() string {
	of := s.of()
	if path.Base(of) == "etc" {
		return path.Dir(of)
	}
	return of
}

// baseID is the id of a base, "" for a plain directory, which only its digest can name.
func baseID(source string) string {
	s, ok := ParseSnapshot(source)
	if !ok {
		return ""
	}
	return s.ID()
}
