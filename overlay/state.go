package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"cfgd/internal/dirfd"
)

// State is what stands at a target's live path, without a look at what is in it.
type State struct {
	Record *Record // nil where cfgd remembers nothing
	// Populated says that the tree is the one of the record, whole.
	Populated bool
	// Interrupted says that it is the one of the record, and that cfgd was stopped while it filled or emptied it.
	Interrupted bool
	Missing     bool // there is no directory at all
	Empty       bool // there is nothing in it
}

// State looks at the live path and at the record of it.
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
	same := dirfd.SameIdentity(s.Record.Identity, id)
	s.Populated = same && s.Record.State == Populated
	s.Interrupted = same && s.Record.State != Populated
	return s, nil
}

// MakeDirs makes the directories of live and cfg where they are missing, as a start would mount them: for machines
// that are plain directories, where nothing is mounted. Nothing is followed below the jail's root, which is made too.
// It returns those that were not there.
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

// subdir opens the directory name, which is made if it is missing.
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
