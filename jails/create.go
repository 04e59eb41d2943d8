package jails

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/internal/dirfd"
	"cfgd/internal/hostfile"
	"cfgd/overlay/tree"
)

// Create makes a jail. A step that fails undoes those before it. It returns the problems that the
// configuration then has with the jail.
func (k *Creator) Create(ctx context.Context, c *Creation) ([]conffile.Problem, error) {
	unlock, err := k.lock(ctx, c)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if c.base != nil {
		if err := snapshotsExist(k.Model, c.Files[0].Name, []byte(c.Files[0].Text),
			c.onSnapshot); err != nil {
			return nil, err
		}
	}
	if err := k.free(ctx, c); err != nil {
		return nil, err
	}
	if err := k.note(c); err != nil {
		return nil, err
	}
	done := &Creation{Jail: c.Jail, Time: c.Time, Root: c.Root, Prototype: c.Prototype}
	problems, err := k.create(ctx, c, done)
	if err != nil {
		done.Undoing = true
		return nil, errors.Join(err, k.note(done), k.undo(context.WithoutCancel(ctx), done, false))
	}
	return problems, nil
}

// free returns an error if something that is to be made exists: it would be undone with the rest.
func (k *Creator) free(ctx context.Context, c *Creation) error {
	if k.Model.Target(c.Jail) != nil || slices.ContainsFunc(k.Model.Jails, func(j *config.Jail) bool {
		return j.Name == c.Jail
	}) {
		return fmt.Errorf("a jail %s %w", c.Jail, ErrExists)
	}
	paths := []string{c.Root}
	for _, d := range c.Dirs {
		paths = append(paths, d.Name)
	}
	for _, f := range c.Files {
		if f.Whole {
			paths = append(paths, f.Name)
		}
	}
	for _, p := range paths {
		if _, err := os.Lstat(k.Model.Path(p)); err == nil {
			return fmt.Errorf("%s %w", p, ErrExists)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, d := range c.Datasets {
		there, err := has(ctx, k.Run, d.Name)
		if err != nil {
			return err
		}
		if there {
			return fmt.Errorf("dataset %s %w", d.Name, ErrExists)
		}
	}
	for _, s := range c.Snapshots {
		there, err := has(ctx, k.Run, s)
		if err != nil {
			return err
		}
		if there {
			return fmt.Errorf("snapshot %s %w", s, ErrExists)
		}
	}
	return nil
}

// create makes everything, and records in done what would have to be undone. A command that fails made
// nothing; a copy or a file may be half made.
func (k *Creator) create(ctx context.Context, c, done *Creation) ([]conffile.Problem, error) {
	if len(c.Snapshots) > 0 {
		if _, err := k.Run.Run(ctx, c.snapshot()); err != nil {
			return nil, err
		}
		done.Snapshots = c.Snapshots
	}
	for _, d := range c.Datasets {
		if _, err := k.Run.Run(ctx, d.make()); err != nil {
			return nil, err
		}
		done.Datasets = append(done.Datasets, d)
	}
	if err := k.dir(ctx, Dir{Name: c.Root}); err != nil {
		return nil, err
	}
	if err := k.dirs(ctx, c.Dirs, done); err != nil {
		return nil, err
	}
	for _, f := range c.Files {
		done.Files = append(done.Files, f)
		if err := k.write(ctx, f); err != nil {
			return nil, err
		}
	}
	m, err := k.Reload()
	if err != nil {
		return nil, err
	}
	known := m.Target(c.Jail) != nil
	if c.Prototype {
		known = slices.ContainsFunc(m.Prototypes, func(p *config.Prototype) bool { return p.Name == c.Jail })
	}
	if !known {
		return nil, fmt.Errorf("with its new lines %s is not what it should be: cfgd check tells why", c.Jail)
	}
	problems := slices.DeleteFunc(slices.Clone(m.Problems), func(p conffile.Problem) bool {
		return p.Target != c.Jail
	})
	return problems, k.save(ctx, c)
}

func (k *Creator) dirs(ctx context.Context, dirs []Dir, done *Creation) error {
	if k.Locked == nil {
		k.Locked = func(_ context.Context, f func() error) error { return f() }
	}
	return k.Locked(ctx, func() error {
		for _, d := range dirs {
			done.Dirs = append(done.Dirs, d)
			if err := k.dir(ctx, d); err != nil {
				return err
			}
		}
		return nil
	})
}

// dir makes a directory, or a copy of a tree.
func (k *Creator) dir(ctx context.Context, d Dir) error {
	if err := hostfile.MkdirAll(k.Model.Path(d.Name), 0o755); err != nil || d.From == "" {
		return err
	}
	if _, err := os.Stat(k.Model.Path(d.From)); k.Model.Root != "" && errors.Is(err, fs.ErrNotExist) {
		return nil // with --root fstab may mount what is not there
	}
	if err := tree.CopyStore(ctx, k.Model.Path(d.From), k.Model.Path(d.Name)); err != nil {
		return err
	}
	top, err := dirfd.Open(k.Model.Path(d.Name), nil)
	if err != nil {
		return err
	}
	defer top.Close()
	return top.SyncTree(ctx, "") // the jail's only copy of its cfg, once it is started
}

// write writes a whole file, or adds lines to one. A missing file is created.
func (k *Creator) write(ctx context.Context, f File) error {
	full := k.Model.Path(f.Name)
	if f.Whole {
		return hostfile.Write(full, []byte(f.Text), 0o644)
	}
	return hostfile.Edit(ctx, k.Model.RunDir(), full, func(old []byte) ([]byte, error) {
		if len(old) > 0 && !bytes.HasSuffix(old, []byte("\n")) {
			old = append(old, '\n')
		}
		return append(old, f.Text...), nil
	})
}
