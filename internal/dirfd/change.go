package dirfd

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// named is a name in an open directory, or the directory itself for "".
type named struct {
	dir  *Dir
	name string
}

func (n named) stat() (Stat, error) {
	if n.name == "" {
		return n.dir.Self()
	}
	return n.dir.Stat(n.name)
}

// hooked runs do after asking the hook. If a flag of chflags(2) forbids the change, hooked clears the flag,
// makes the change, and sets the flag again on what had it, if that is still there. It does so for the file
// itself, for the file that a rename replaces, and for the directories that hold them. also is the second
// name of a rename or link.
//
// A kill, or a crash of the machine, between the two leaves the flag cleared, and nothing remembers it. An
// interrupted populate is begun anew and sets all flags from what is saved. A restore that is run again sets
// them as well. In cfg no file has flags: they stand in the manifest. Otherwise, in a live tree in a
// directory that stays, the next scan finds a flag less, and a save takes it for an edit, which cfgd log
// shows and cfgd restore undoes.
//
// Somebody may rename things in the directory meanwhile. Names are looked up in an open directory and never
// followed; what is mounted there is left alone, as it is no part of the tree; a flag is set again only on
// the inode that had it. Between the last look and chflags(2) a name can still be given to another file of
// the same directory: only to one without such flags, which forbid that.
func (d *Dir) hooked(op Op, name string, do func() error, also ...named) error {
	err := d.once(op, name, do)
	if !errors.Is(err, unix.EPERM) || op.Kind == "flags" {
		return err
	}
	return d.pastFlags(op, name, do, err, also)
}

// once asks the hook and runs do.
func (d *Dir) once(op Op, name string, do func() error) error {
	if d.hook != nil {
		if err := d.hook(op); err != nil {
			return d.fail(op.Kind, name, err)
		}
	}
	if err := again(do); err != nil {
		return d.fail(op.Kind, name, err)
	}
	return nil
}

// flagged is something whose flags were cleared.
type flagged struct {
	named
	ino   uint64
	flags uint32
}

func (d *Dir) pastFlags(op Op, name string, do func() error, refused error, also []named) error {
	var cleared []flagged
	for _, n := range append([]named{{d, name}}, also...) {
		places := []named{n}
		if n.name != "" {
			places = append(places, named{n.dir, ""})
		}
		for _, p := range places {
			st, err := p.stat()
			if err != nil || st.Flags&BindingFlags == 0 || !p.inside(st) {
				continue
			}
			if err := p.dir.SetFlags(p.name, st.Flags&^BindingFlags); err != nil {
				return errors.Join(err, putBack(cleared))
			}
			cleared = append(cleared, flagged{p, st.Ino, st.Flags})
		}
	}
	if len(cleared) == 0 {
		return refused
	}
	if err := d.once(op, name, do); err != nil {
		return errors.Join(err, putBack(cleared))
	}
	return putBack(remaining(cleared, op, named{d, name}, also))
}

// remaining returns those that still exist after op, with their present places.
func remaining(cleared []flagged, op Op, from named, also []named) (left []flagged) {
	for _, c := range cleared {
		switch {
		case c.name == "":
		case op.Kind == "unlink", op.Kind == "rmdir":
			continue
		case op.Kind == "rename" && c.named == from:
			c.named = also[0]
		case op.Kind == "rename":
			continue // replaced
		}
		left = append(left, c)
	}
	return left
}

// inside reports whether a file is on the filesystem of the directory that it was found in, and not the root
// of another, mounted there.
func (n named) inside(st Stat) bool {
	dir, err := n.dir.Self()
	return err == nil && dir.Dev == st.Dev
}

// putBack sets the flags again on what had them.
func putBack(cleared []flagged) (err error) {
	for _, c := range cleared {
		now, e := c.stat()
		switch {
		case errors.Is(e, fs.ErrNotExist), e == nil && (now.Ino != c.ino || !c.inside(now)):
			continue // somebody removed it
		case e == nil:
			e = c.dir.SetFlags(c.name, c.flags)
		}
		err = errors.Join(err, e)
	}
	return err
}

// change calls hooked for a name after checking it.
func (d *Dir) change(op Op, name string, do func() error, also ...named) error {
	if err := d.check(op.Kind, name); err != nil {
		return err
	}
	return d.hooked(op, name, do, also...)
}

// SetFlags sets the kept flags of name, of any kind, or of the directory itself for "", to exactly these.
// It comes last: a file with such flags can be neither linked nor renamed nor changed. Flags that the
// system or the filesystem lacks are left out.
func (d *Dir) SetFlags(name string, flags uint32) error {
	op := Op{Kind: "flags", Path: d.join(name), Mode: flags}
	if name == "" {
		op.Path = d.path
		return d.once(op, name, func() error { return setFlags(d.fd, name, flags) })
	}
	return d.change(op, name, func() error { return setFlags(d.fd, name, flags) })
}
