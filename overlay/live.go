package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"cfgd/internal/dirfd"
)

// State says what is at a target's live path, without reading the tree.
type State struct {
	Record *Record // nil if there is no record
	// Populated says that the tree is the recorded one, and complete.
	Populated bool
	// Interrupted says that the tree is the recorded one, and that cfgd was stopped while it filled or
	// emptied it.
	Interrupted bool
	Missing     bool // there is no directory
	Empty       bool // the directory is empty
}

// State reads the live path and its record.
func (o *Overlay) State() (State, error) {
	var s State
	live, err := o.OpenLive()
	if err != nil {
		if !absent(err) {
			return s, err
		}
		s.Missing = true
		s.Record, err = o.Record()
		return s, err
	}
	defer live.Close()
	names, err := live.Names()
	if err != nil {
		return s, err
	}
	s.Empty = len(names) == 0
	if s.Record, err = o.Record(); err != nil || s.Record == nil {
		return s, err
	}
	id, err := live.Identity()
	if err != nil {
		return s, err
	}
	same := id == s.Record.Identity
	s.Populated = same && s.Record.State == Populated
	s.Interrupted = same && s.Record.State != Populated
	return s, nil
}

// MakeDirs makes the missing directories of live and cfg, as a start would mount them. It is for machines
// that are plain directories, where nothing is mounted. It follows no link below the jail's root, which is
// made too. It returns the directories that it made.
func (o *Overlay) MakeDirs() (made []string, err error) {
	for _, p := range []string{o.Target.Live, o.Target.Cfg} {
		if d, err := o.openTree(p); err == nil {
			d.Close()
			continue
		}
		if err := o.makeTree(p); err != nil {
			return made, fmt.Errorf("make %s: %w", p, err)
		}
		made = append(made, p)
	}
	return made, nil
}

func (o *Overlay) makeTree(p string) error {
	root, rel := o.below(p)
	if err := os.MkdirAll(o.path(root), 0o755); err != nil {
		return err
	}
	d, err := dirfd.Open(o.path(root), o.Hook)
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
