package dirfd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// deepest is how many directories are open at once while a tree is removed. Deeper ones are moved up
// first: somebody may have nested directories to exhaust the descriptors of a process that removes them.
const deepest = 64

// RemoveTree is RemoveAll for a trusted path. A missing path, or a missing parent, is no error.
func RemoveTree(name string, hook Hook) error {
	d, err := Open(filepath.Dir(name), hook)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.RemoveAll(filepath.Base(name))
}

// RemoveAll removes name and everything below it, whatever flags it has. It follows no link. A missing
// name is no error.
func (d *Dir) RemoveAll(name string) error {
	todo := []string{name}
	for len(todo) > 0 {
		last := len(todo) - 1
		var deeper []string
		err := remove(d, todo[last], d, 0, &deeper)
		if err != nil {
			return err
		}
		todo = append(todo[:last], deeper...)
	}
	return nil
}

// remove removes name and what is below it. Directories that are too deep are moved up to top, and their
// names there are added to moved.
func remove(d *Dir, name string, top *Dir, depth int, moved *[]string) error {
	st, err := d.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Kind != KindDir:
		return d.Unlink(name)
	case depth == deepest:
		up, err := unused(top)
		if err != nil {
			return err
		}
		*moved = append(*moved, up)
		return d.Rename(name, top, up)
	}
	sub, err := d.Dir(name)
	if err != nil {
		return err
	}
	err = empty(sub, top, depth+1, moved)
	sub.Close()
	if err != nil {
		return err
	}
	return d.Rmdir(name)
}

// unused returns a name that a directory does not have.
func unused(d *Dir) (string, error) {
	for n := 0; ; n++ {
		name := fmt.Sprintf(".cfgd.deep.%d", n)
		if _, err := d.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", err
		}
	}
}

// Clear removes all that is in the directory, and keeps the directory.
func (d *Dir) Clear() error {
	var moved []string
	err := empty(d, d, 0, &moved)
	for _, name := range moved {
		if err == nil {
			err = d.RemoveAll(name)
		}
	}
	return err
}

// empty removes all that is in a directory.
func empty(d, top *Dir, depth int, moved *[]string) error {
	names, err := d.Names()
	if err != nil {
		return err
	}
	if st, err := d.Self(); err == nil && st.Mode&0o300 != 0o300 && os.Geteuid() != 0 {
		_ = d.Chmod(st.Mode | 0o700)
	}
	for _, name := range names {
		if err := remove(d, name, top, depth, moved); err != nil {
			return err
		}
	}
	return nil
}
