package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/mount"
	"cfgd/overlay/tree"
)

// Trees says where a target's three trees are, and opens their roots.
type Trees struct {
	Target *config.Target
	// Hook is called before every change of live and cfg, for tests. It may be nil.
	Hook dirfd.Hook
	// CfgAt and LiveAt are the directories to use if cfg and live are not at their own places, else "". They
	// are paths of the host. The directory CfgAt must hold a store already.
	CfgAt, LiveAt string

	path   func(string) string // puts --root before a path of the model
	mounts bool                // fstab mounts cfg, and --root is not given
}

// BaseRef names a base: its path in the model and its id. The id is "" if only the digest can identify the
// base.
type BaseRef struct{ Path, ID string }

// Next returns the base that the next populate takes.
func (t *Trees) Next() BaseRef { return BaseRef{t.Target.Base, t.Target.BaseID} }

// BaseNamed finds a base of a target by the name of a snapshot of its prototype, by a base id, or by a
// path. It does not check that the base exists.
func BaseNamed(t *config.Target, name string) (BaseRef, error) {
	if path.IsAbs(name) {
		snap, ok := config.ParseSnapshot(name)
		if !ok {
			return BaseRef{Path: path.Clean(name)}, nil
		}
		return BaseRef{Path: snap.String(), ID: snap.ID()}, nil
	}
	snap, ok := config.ParseSnapshot(t.Base)
	if !ok {
		return BaseRef{}, fmt.Errorf("base %s is no snapshot, so %s names no other of it: give a directory",
			t.Base, name)
	}
	if _, after, ok := strings.Cut(name, "@"); ok {
		if id := snap.At(after).ID(); id != name {
			return BaseRef{}, fmt.Errorf("%s is a base of another tree; the target's are as %s", name,
				snap.ID())
		}
		name = after
	}
	if name == "" || strings.Contains(name, "/") || name == "." || name == ".." {
		return BaseRef{}, fmt.Errorf("%q: not a snapshot's name", name)
	}
	snap = snap.At(name)
	return BaseRef{Path: snap.String(), ID: snap.ID()}, nil
}

// Path puts --root's directory before a path of the model.
func (t *Trees) Path(p string) string { return t.path(p) }

// openTree opens the root of one of the target's trees.
func (t *Trees) openTree(p string) (*dirfd.Dir, error) {
	root, rel := t.below(p)
	if rel == "" {
		return dirfd.Open(t.path(root), t.Hook)
	}
	return dirfd.OpenBelow(t.path(root), rel, t.Hook)
}

// below splits the path of a tree into a trusted root and the rest. The jail's own root is the
// administrator's and trusted. What is below it is the jail's, and no link in it is followed. A tree
// elsewhere is the administrator's altogether.
func (t *Trees) below(p string) (root, rel string) {
	root = strings.TrimSuffix(t.Target.Root, "/")
	if t.Target.Host() || root == "" || !strings.HasPrefix(p, root+"/") {
		return p, ""
	}
	return root, strings.Trim(strings.TrimPrefix(p, root), "/")
}

// OpenLive opens the root of the live tree.
func (t *Trees) OpenLive() (*dirfd.Dir, error) {
	open := func() (*dirfd.Dir, error) { return t.openTree(t.Target.Live) }
	if t.LiveAt != "" {
		open = func() (*dirfd.Dir, error) { return dirfd.Open(t.LiveAt, t.Hook) }
	}
	d, err := open()
	if err != nil {
		return nil, fmt.Errorf("live: %w", err)
	}
	return d, nil
}

// ErrNotMounted says that cfg's path is only the directory that fstab mounts it on.
var ErrNotMounted = errors.New("not mounted")

// OpenCfg opens the root of cfg. If fstab mounts cfg and the mount is missing, the directory below it is
// refused: an empty one would look like a cfg from which everything was deleted, and the mount would hide a
// store made in it.
func (t *Trees) OpenCfg() (*dirfd.Dir, error) {
	if t.CfgAt != "" {
		return t.openCfgAt()
	}
	d, err := t.openTree(t.Target.Cfg)
	if err != nil {
		return nil, fmt.Errorf("cfg: %w", err)
	}
	if !t.mounts {
		return d, nil
	}
	on, err := d.MountRoot()
	if err == nil && !on {
		err = fmt.Errorf("%s: %w; %s mounts it", t.Target.Cfg, ErrNotMounted, t.Target.CfgLine)
		if !t.Target.Host() {
			err = fmt.Errorf("%w; if the jail does not run, cfgd jail cleanup %s clears what is left of it",
				err, t.Target.Name)
		}
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("cfg: %w", err)
	}
	return d, nil
}

// hasCfg reports whether cfg can be opened.
func (t *Trees) hasCfg() bool {
	d, err := t.OpenCfg()
	d.Close()
	return err == nil
}

// ErrNoStore says that CfgAt holds no store.
var ErrNoStore = errors.New("no store of cfgd in it")

// openCfgAt opens cfg at CfgAt. That directory may be the mountpoint of something that is not mounted. So it
// must hold a store already, and none is made.
func (t *Trees) openCfgAt() (*dirfd.Dir, error) {
	d, err := dirfd.Open(t.CfgAt, t.Hook)
	if err != nil {
		return nil, fmt.Errorf("cfg: %w", err)
	}
	if st, err := d.Stat(tree.MetaName); err != nil || st.Kind != dirfd.KindDir {
		d.Close()
		return nil, fmt.Errorf("cfg: %s: %w", t.CfgAt, ErrNoStore)
	}
	return d, nil
}

// openBase opens the root of a base.
func (t *Trees) openBase(g BaseRef) (*dirfd.Dir, error) {
	d, err := OpenSnapshot(t.path(g.Path))
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	return d, nil
}

func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || tree.NotSame(err)
}

// MakeDirs makes the missing directories of live and cfg, as a start would mount them. It is for machines
// that are plain directories, where nothing is mounted. It follows no link below the jail's root, which is
// made too. It returns the directories that it made.
func (t *Trees) MakeDirs() (made []string, err error) {
	for _, p := range []string{t.Target.Live, t.Target.Cfg} {
		if d, err := t.openTree(p); err == nil {
			d.Close()
			continue
		}
		if err := t.makeTree(p); err != nil {
			return made, fmt.Errorf("make %s: %w", p, err)
		}
		made = append(made, p)
	}
	return made, nil
}

func (t *Trees) makeTree(p string) error {
	root, rel := t.below(p)
	if err := os.MkdirAll(t.path(root), 0o755); err != nil {
		return err
	}
	d, err := dirfd.Open(t.path(root), t.Hook)
	if err != nil {
		return err
	}
	defer func() { d.Close() }()
	for _, name := range strings.FieldsFunc(rel, func(r rune) bool { return r == '/' }) {
		next, err := subdir(d, name)
		if err != nil {
			return err
		}
		d.Close()
		d = next
	}
	return nil
}

// subdir opens the directory name, and makes it if it is missing.
func subdir(d *dirfd.Dir, name string) (*dirfd.Dir, error) {
	sub, err := d.Dir(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return sub, err
	}
	if err := d.Mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if sub, err = d.Dir(name); err != nil {
		return nil, err
	}
	if err := sub.Chmod(0o755); err != nil {
		sub.Close()
		return nil, err
	}
	return sub, nil
}

// cfgName returns the name of the present cfg for people: what is mounted there, or the directory.
func (t *Trees) cfgName() string {
	switch {
	case t.Target.CfgSource != "":
		return t.Target.CfgSource
	case t.CfgAt != "":
		return t.CfgAt
	}
	return t.Target.Cfg
}

// baseMount is where a jail's fstab mounts its base, below the jail's root.
const baseMount = "conf/base/etc"

// OpenSnapshot opens the root of a base: a prototype's snapshot, or another tree of the administrator's. The
// system may refuse to enter a snapshot (ELOOP) while a jail's mount of it stands. Then OpenSnapshot opens
// that mount, if the table of mounts says that it is of this snapshot.
func OpenSnapshot(name string) (*dirfd.Dir, error) {
	d, err := dirfd.Open(name, nil)
	if !errors.Is(err, unix.ELOOP) {
		return d, err
	}
	for _, on := range mountsOf(name) {
		root, ok := strings.CutSuffix(on, "/"+baseMount)
		if !ok {
			continue
		}
		m, merr := dirfd.OpenBelow(root, baseMount, nil)
		if merr != nil {
			continue
		}
		if is, merr := m.MountRoot(); merr == nil && is {
			return m, nil
		}
		m.Close()
	}
	return nil, err
}

// StatSnapshot checks that a snapshot's path is a directory, or a mounted one that the system does not enter.
func StatSnapshot(name string) error {
	st, err := os.Stat(name)
	switch {
	case errors.Is(err, unix.ELOOP) && len(mountsOf(name)) > 0:
		return nil
	case err == nil && !st.IsDir():
		return &os.PathError{Op: "snapshot", Path: name, Err: unix.ENOTDIR}
	}
	return err
}

// mountsOf lists the directories on which a snapshot is the topmost mount. nullfs(5) shows the path that it
// was mounted from. A bind mount on Linux shows the snapshot's own name: the dataset that is mounted on the
// tree, and the snapshot.
func mountsOf(name string) []string {
	all, err := mount.All()
	if err != nil {
		return nil
	}
	top := map[string]mount.Mount{}
	for _, on := range all {
		top[on.Dir] = on
	}
	sources := map[string]bool{name: true}
	if snap, ok := config.ParseSnapshot(name); ok && snap.Sub == "" {
		if tree := top[snap.Tree]; tree.Type == "zfs" {
			sources[tree.Source+"@"+snap.Name] = true
		}
	}
	var dirs []string
	for dir, on := range top {
		if sources[on.Source] && dir != name {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// CompareTrees counts the differences between two trees by ChangeKind.String.
func CompareTrees(ctx context.Context, old, new string) (map[string]int, error) {
	var trees [2]*tree.Tree
	for i, path := range []string{old, new} {
		d, err := OpenSnapshot(path)
		if err != nil {
			return nil, err
		}
		trees[i], err = tree.Scan(ctx, d, tree.ScanOptions{})
		d.Close()
		if err != nil {
			return nil, fmt.Errorf("scan %s: %w", path, err)
		}
	}
	count := map[string]int{}
	for _, c := range tree.Delta(trees[0], trees[1]) {
		count[c.Kind.String()]++
	}
	return count, nil
}
