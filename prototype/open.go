package prototype

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cfgd/config"
	"cfgd/internal/mount"
	"cfgd/internal/run"
)

// maxNullfs bounds how many nullfs(5) mounts are followed, each of which shows a directory of another.
const maxNullfs = 16

// DatasetOf returns the ZFS dataset whose root a path is, "" if there is none. A directory within a
// dataset is no ZFS prototype: its snapshots would be those of the whole dataset, and have no path below
// the prototype. A nullfs(5) mount is followed. For a missing path, the deepest existing directory above
// it counts.
//
// It only asks the system, through holding, which is mount.Holding. Every FreeBSD has zfs(8), with or
// without a pool, and running it loads zfs.ko. So zfs(8) is run only for what this function, an fstab or
// the administrator reports to be on ZFS.
func DatasetOf(path string, holding func(dir string) (mount.Mount, error)) (string, error) {
	dir, err := deepest(path)
	if err != nil {
		return "", err
	}
	there := dir.rest == ""
	for range maxNullfs {
		m, err := holding(dir.real)
		switch {
		case err != nil:
			return "", fmt.Errorf("filesystem of %s: %w", dir.real, err)
		case m.Type == "zfs" && there && m.Dir == dir.real && !strings.Contains(m.Source, "@"):
			return m.Source, nil
		case m.Type != "nullfs" || m.Dir == "":
			return "", nil
		}
		rel, err := filepath.Rel(m.Dir, dir.real)
		if err != nil {
			return "", err
		}
		dir.real = filepath.Join(m.Source, rel)
	}
	return "", fmt.Errorf("filesystem of %s: more than %d nullfs mounts, one on another", path, maxNullfs)
}

// existing returns the part of a path that exists, without links, and the rest of it.
type existing struct{ real, rest string }

func deepest(path string) (existing, error) {
	var e existing
	for p := filepath.Clean(path); ; p = filepath.Dir(p) {
		real, err := filepath.EvalSymlinks(p)
		if err == nil {
			e.real = real
			return e, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || p == filepath.Dir(p) {
			return e, err
		}
		e.rest = filepath.Join(filepath.Base(p), e.rest)
	}
}

// Opener opens a prototype's snapshots in their right form.
type Opener struct {
	Prototype *config.Prototype
	Root      string // the prototype's, with --root's directory before it
	Embedded  bool   // with --root: no command is run
	Run       run.Runner
	// Holding is mount.Holding.
	Holding func(dir string) (mount.Mount, error)
	// References lists the snapshots that fstabs name. It is called only if no dataset was found.
	References func() ([]config.Reference, config.Unread)
}

// Open returns copies if copies exist already, with --root, and if the prototype's root is the root
// of no ZFS dataset; otherwise ZFS's snapshots. A dataset named in cfgd.toml is used without a check.
func (k Opener) Open() (Snapshots, error) {
	_, err := os.Stat(filepath.Join(k.Root, config.CopyMark))
	switch {
	case err == nil, k.Embedded:
		return Copies{Root: k.Root}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case k.Prototype.Dataset != "":
		return ZFS{Run: k.Run, Dataset: k.Prototype.Dataset}, nil
	}
	if k.Prototype.Root == "" {
		return nil,
			fmt.Errorf("%s: its root is not known: give root or dataset in [prototype.%[1]s] of cfgd.toml",
				k.Prototype.Name)
	}
	dataset, err := DatasetOf(k.Root, k.Holding)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w; if it is on ZFS, give its dataset in [prototype.%[1]s] of cfgd.toml",
			k.Prototype.Name, err)
	case dataset != "":
		return ZFS{Run: k.Run, Dataset: dataset}, nil
	}
	return Copies{Root: k.Root}, k.expectsZFS()
}

// expectsZFS returns an error if an fstab names a ZFS snapshot of the prototype: then the prototype's
// filesystem is not mounted, and copies would be wrong.
func (k Opener) expectsZFS() error {
	refs, _ := k.References() // what cannot be read says nothing of this prototype
	for _, r := range refs {
		if r.Snapshot.Mark == config.ZFSMark && r.Snapshot.Tree == k.Prototype.Root {
			return fmt.Errorf("%s: %s names a snapshot of ZFS, but %s is not the root of a ZFS dataset:"+
				" mount it, or give its dataset in [prototype.%[1]s] of cfgd.toml", k.Prototype.Name, r.At,
				k.Root)
		}
	}
	return nil
}
