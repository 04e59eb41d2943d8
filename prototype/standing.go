package prototype

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/run"
)

// Standing is the filesystem that a path stands on.
type Standing struct {
	Type   string // as mount(8) names it: zfs, ufs, nullfs
	Source string // the dataset, the device, or the directory that a nullfs(5) shows
	On     string // where it is mounted; "" where a part of it is, which has no name of its own
}

// statfs is statfs(2), once more where a signal interrupted it.
func statfs(dir string, st *unix.Statfs_t) error {
	for {
		if err := unix.Statfs(dir, st); err != unix.EINTR {
			return err
		}
	}
}

// mostNullfs bounds how many nullfs(5) mounts are followed, each of which shows a directory of another.
const mostNullfs = 16

// DatasetOf is the ZFS dataset whose root a path is, "" where it is the root of none. A directory somewhere
// in a dataset is no prototype of ZFS's: its snapshots would be those of the whole dataset, and have no path
// below the prototype. A nullfs(5) is looked through. What is not there yet stands on the deepest directory
// above it that is.
//
// It asks the system alone, by ask. zfs(8) is in every FreeBSD, whether there is a pool or not, and loads
// zfs.ko when it is called: so it is called for what this function, an fstab or the administrator says is on
// ZFS, and for nothing else.
func DatasetOf(path string, ask func(dir string) (Standing, error)) (string, error) {
	dir, err := deepest(path)
	if err != nil {
		return "", err
	}
	there := dir.rest == ""
	for range mostNullfs {
		s, err := ask(dir.real)
		switch {
		case err != nil:
			return "", fmt.Errorf("filesystem of %s: %w", dir.real, err)
		case s.Type == "zfs" && there && s.On == dir.real && !strings.Contains(s.Source, "@"):
			return s.Source, nil
		case s.Type != "nullfs" || s.On == "":
			return "", nil
		}
		rel, err := filepath.Rel(s.On, dir.real)
		if err != nil {
			return "", err
		}
		dir.real = filepath.Join(s.Source, rel)
	}
	return "", fmt.Errorf("filesystem of %s: more than %d nullfs mounts, one on another", path, mostNullfs)
}

// existing is a path as far as it is there, without links, and the rest of it.
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

// Stock is a prototype's snapshots as they have to be taken.
type Stock struct {
	Prototype *config.Prototype
	Root      string // the prototype's, with --root's directory before it
	Embedded  bool   // with --root: no command is run
	Run       run.Runner
	// Ask is SystemStanding.
	Ask func(dir string) (Standing, error)
	// References lists what fstabs say of snapshots. It is asked only where no dataset was found.
	References func() ([]config.Reference, error)
}

// Snapshots are copies where there are copies already, with --root, and where the prototype's root is the
// root of no ZFS dataset; otherwise ZFS's. A dataset that cfgd.toml gives is believed.
func (k Stock) Snapshots() (Snapshots, error) {
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
	dataset, err := DatasetOf(k.Root, k.Ask)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w; if it is on ZFS, give its dataset in [prototype.%[1]s] of cfgd.toml",
			k.Prototype.Name, err)
	case dataset != "":
		return ZFS{Run: k.Run, Dataset: dataset}, nil
	}
	return Copies{Root: k.Root}, k.expectsZFS()
}

// expectsZFS refuses copies of a prototype of which an fstab names a snapshot of ZFS's: its filesystem is not
// mounted.
func (k Stock) expectsZFS() error {
	refs, err := k.References()
	if err != nil {
		return err
	}
	for _, r := range refs {
		if r.Snapshot.Mark == config.ZFSMark && r.Snapshot.Tree == k.Prototype.Root {
			return fmt.Errorf("%s: %s names a snapshot of ZFS, but %s is not the root of a ZFS dataset:"+
				" mount it, or give its dataset in [prototype.%[1]s] of cfgd.toml", k.Prototype.Name, r.At,
				k.Root)
		}
	}
	return nil
}
