package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"cfgd/config"
	"cfgd/internal/dirfd"
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
		err = fmt.Errorf("%s: %w; fstab %s mounts it", t.Target.Cfg, ErrNotMounted, t.Target.Fstab)
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

// BaseRef names a base: its path in the model and its id. The id is "" if only the digest can identify the
// base.
type BaseRef struct{ Path, ID string }

// Next returns the base that the next populate takes.
func (t *Trees) Next() BaseRef { return BaseRef{t.Target.Base, t.Target.BaseID} }

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
