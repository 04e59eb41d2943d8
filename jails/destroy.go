package jails

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/hostfile"
	"cfgd/internal/mount"
	"cfgd/internal/run"
)

// ErrAdded reports that a jail has more than was made for it.
var ErrAdded = errors.New("something was added since")

// Destroy undoes what Create made. Without force it refuses if more was added since: another line in the
// fstab or among the lines that define the jail, a dataset, a snapshot, or a file in its root. It checks
// all of that before it removes anything, and records that it has begun: an interrupted destroy is
// continued.
func (k *Creator) Destroy(ctx context.Context, c *Creation, force bool) error {
	unlock, err := k.lock(ctx, c)
	if err != nil {
		return err
	}
	defer unlock()
	if c, err = k.Created(c.Jail); err != nil { // another process may have destroyed it
		return err
	}
	if err := k.unused(c, force); err != nil {
		return err
	}
	if err := k.unmounted(c); err != nil {
		return err
	}
	if !force && !c.Undoing {
		if err := k.unchanged(ctx, c); err != nil {
			return fmt.Errorf("%w; --force destroys it all the same", err)
		}
	}
	c.Undoing = true
	if err := k.note(c); err != nil {
		return err
	}
	return k.undo(ctx, c, force)
}

// unused returns an error if jails use the prototype, or if others mount what was made for the jail. What
// cannot be read may do so: then a prototype stays, and a jail goes only with force.
func (k *Creator) unused(c *Creation, force bool) error {
	m, err := k.Reload() // a jail may have been made on it while this waited
	if err != nil {
		return err
	}
	if c.Prototype {
		refs, unread := m.References()
		for _, p := range m.Prototypes {
			for _, r := range refs {
				if p.Name == c.Jail && p.Has(r.Snapshot) {
					return fmt.Errorf("%s names a snapshot of it: destroy jail %s first", r.At, r.Jail)
				}
			}
		}
		return unread.Err()
	}
	others, unread := m.Foreign(c.Jail, c.made)
	for _, x := range others {
		return fmt.Errorf("%s mounts %s, which would be destroyed: remove that line first", x.At, x.Source)
	}
	if err := unread.Err(); err != nil && !force {
		return fmt.Errorf("%w; --force destroys it all the same", err)
	}
	return nil
}

// made reports whether a source is a dataset or a directory that was made for the jail, or below one.
func (c *Creation) made(source string) bool {
	in := func(top string) bool { return source == top || strings.HasPrefix(source, top+"/") }
	return slices.ContainsFunc(c.Datasets, func(d Dataset) bool { return in(d.Name) }) ||
		slices.ContainsFunc(c.Dirs, func(d Dir) bool { return in(d.Name) })
}

// unmounted returns an error if something is mounted for the jail.
func (k *Creator) unmounted(c *Creation) error {
	all, err := mount.Below(k.Model.Path(c.Root))
	if err != nil {
		return err
	}
	return c.inUse(all)
}

// inUse returns an error if something is mounted that does not go with the datasets. zfs(8) mounts the
// datasets of a prototype whether its jail runs or not, and zfs destroy unmounts them.
func (c *Creation) inUse(all []mount.Mount) error {
	for _, m := range all {
		// zfs(8) mounts a snapshot when somebody reads it through .zfs, and unmounts it too
		source, _, _ := strings.Cut(m.Source, "@")
		own := func(d Dataset) bool { return m.Type == "zfs" && source == d.Name && d.Mountpoint != "" }
		if !slices.ContainsFunc(c.Datasets, own) {
			return fmt.Errorf("%s is mounted: stop the jail first", m.Dir)
		}
	}
	return nil
}

func (k *Creator) unchanged(ctx context.Context, c *Creation) error {
	for _, f := range c.Files {
		now, err := hostfile.ReadFile(k.Model.Path(f.Name))
		if err != nil {
			return err
		}
		switch {
		case !f.Whole && !bytes.Contains(now, []byte(f.Text)):
			return fmt.Errorf("%s: the lines of %s are not as they were written: %w", f.Name, c.Jail,
				ErrAdded)
		case f.Whole && string(now) != f.Text && !config.SameMounts(string(now), f.Text):
			return fmt.Errorf("%s: %w", f.Name, ErrAdded)
		}
	}
	known := map[string]bool{}
	for _, d := range c.Datasets {
		known[d.Name] = true
	}
	for _, d := range c.Datasets {
		out, err := k.Run.Run(ctx, run.Command("zfs", "list", "-Hr", "-t", "all", "-o", "name", d.Name))
		if err != nil {
			return err
		}
		for name := range strings.Lines(out) {
			if name = strings.TrimSuffix(name, "\n"); !known[name] {
				return fmt.Errorf("%s: %w", name, ErrAdded)
			}
		}
	}
	return k.bare(c)
}

// bare returns an error if the root holds more than the directories that were made in it. The content of
// a filesystem mounted there goes with that filesystem; with --root a jail's filesystems are trees in its
// root.
func (k *Creator) bare(c *Creation) error {
	if k.Model.Root != "" && !c.Prototype || slices.ContainsFunc(c.Datasets, func(d Dataset) bool {
		return d.Mountpoint == c.Root
	}) {
		return nil
	}
	made := map[string]bool{c.Root: true}
	for _, d := range c.Dirs {
		for name := d.Name; strings.HasPrefix(name, c.Root+"/"); name = path.Dir(name) {
			made[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(made)) {
		list, err := os.ReadDir(k.Model.Path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range list {
			if in := path.Join(name, e.Name()); !made[in] {
				return fmt.Errorf("%s: %w", in, ErrAdded)
			}
		}
	}
	return nil
}

// undo removes what exists of a jail, in reverse order. What does not exist is no error, so that an
// interrupted undo can be repeated. With all, snapshots of its datasets and added files in its root are
// removed too.
func (k *Creator) undo(ctx context.Context, c *Creation, all bool) error {
	var errs []error
	for _, f := range slices.Backward(c.Files) {
		errs = append(errs, k.unwrite(ctx, f))
	}
	for _, d := range slices.Backward(c.Datasets) {
		destroy := run.Command("zfs", "destroy", d.Name)
		if all {
			destroy = run.Command("zfs", "destroy", "-r", d.Name)
		}
		errs = append(errs, k.destroy(ctx, d.Name, destroy))
	}
	for _, s := range c.Snapshots {
		errs = append(errs, k.destroy(ctx, s, run.Command("zfs", "destroy", s)))
	}
	for _, d := range c.Dirs {
		errs = append(errs, dirfd.RemoveTree(k.Model.Path(d.Name), nil))
	}
	errs = append(errs, k.removeRoot(c, all))
	errs = append(errs, k.save(ctx, c))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("undo: %w; what was made is listed in %s", err, k.record(c.Jail))
	}
	return hostfile.Remove(k.record(c.Jail))
}

func (k *Creator) unwrite(ctx context.Context, f File) error {
	full := k.Model.Path(f.Name)
	if f.Whole {
		return hostfile.Remove(full)
	}
	return hostfile.Edit(ctx, k.Model.RunDir(), full, func(old []byte) ([]byte, error) {
		return bytes.Replace(old, []byte(f.Text), nil, 1), nil
	})
}

// destroy destroys a dataset or snapshot, if it exists.
func (k *Creator) destroy(ctx context.Context, name string, cmd run.Cmd) error {
	there, err := has(ctx, k.Run, name)
	if err != nil || !there {
		return err
	}
	_, err = k.Run.Run(ctx, cmd)
	return err
}

// removeRoot removes the jail's root, which is a mountpoint and must be empty unless everything is
// removed. With --root the trees themselves are in it.
func (k *Creator) removeRoot(c *Creation, all bool) error {
	root := k.Model.Path(c.Root)
	if all || k.Model.Root != "" {
		return dirfd.RemoveTree(root, nil)
	}
	if err := os.Remove(root); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
