package dirfd

import (
	"errors"

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

// hooked runs do after asking the hook. A flag of chflags(2) that forbids the change is taken away for it, and put back
// where what had it is still there: cfgd keeps flags, and so has to work past them, be they those of a file, of what it
// replaces, or of the directories that hold both. Also is the second name of a rename or link.
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

// flagged is something whose flags were taken away.
type flagged struct {
	named
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
			if err != nil || st.Flags&bindingFlags == 0 {
				continue
			}
			if err := p.dir.SetFlags(p.name, st.Flags&^bindingFlags); err != nil {
				return errors.Join(err, putBack(cleared))
			}
			cleared = append(cleared, flagged{p, st.Flags})
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

// remaining are those that still stand after op, where they now stand.
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

func putBack(cleared []flagged) (err error) {
	for _, c := range cleared {
		err = errors.Join(err, c.dir.SetFlags(c.name, c.flags))
	}
	return err
}
