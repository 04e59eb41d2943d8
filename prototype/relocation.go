package prototype

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/hostfile"
	"cfgd/internal/mount"
	"cfgd/internal/pathname"
)

// Relocation is a file or directory of a prototype that was moved into its etc, with a link at its old
// place (the paper's sections 3.5 and 4.5). It is also the record,
// /var/db/cfgd/relocated/PROTOTYPE/NUMBER.json, from before the first step until it is undone.
type Relocation struct {
	Prototype string    `json:"prototype"`
	Root      string    `json:"root"`
	Path      string    `json:"path"` // below the root: usr/local/etc
	To        string    `json:"to"`   // below the root: etc/local
	Link      string    `json:"link"` // what the link says: ../../etc/local
	Time      time.Time `json:"time"`
	State     string    `json:"state"`
}

// The states of a Relocation.
const (
	moving    = "moving"
	moved     = "moved"
	returning = "returning"
)

// Finished reports whether it is neither in progress nor being undone.
func (r *Relocation) Finished() bool { return r.State == moved }

// Lines returns what Move does, for people.
func (r *Relocation) Lines() []string {
	return []string{
		"copy " + path.Join(r.Root, r.Path) + " to " + path.Join(r.Root, r.To),
		"replace " + path.Join(r.Root, r.Path) + " by a link to " + r.Link,
	}
}

// BackLines returns what MoveBack does, for people.
func (r *Relocation) BackLines() []string {
	place := path.Join(r.Root, r.Path)
	return []string{
		"copy " + path.Join(r.Root, r.To) + " back to " + place + ", in the place of the link",
		"remove " + path.Join(r.Root, r.To),
	}
}

// Relocator moves files of prototypes into their etc, and back. A jail controls the content of its
// prototype's tree: no link in it is followed, and nothing outside of its root is read or written.
//
// The order of Move, and what a crash after each step leaves:
//
//	1  the record is written, fsynced                                        nothing was moved
//	2  the directories of the new place are made, each fsynced               empty directories
//	3  the copy is made beside the new place                                 half a copy, which goes
//	4  all of the copy is fsynced (SyncTree), and compared with the original as in 3
//	5  the copy is renamed to the new place, and the directory fsynced       the copy, whole; the original
//	6  the link is made beside the old place                                 as in 5
//	7  the original is renamed aside, if it is a directory                   no name; the copy is whole
//	8  the link is renamed to the old place, and the directory fsynced       the link; the copy is whole
//	9  what was put aside goes                                               the link; the copy is whole
//	10 the record says that it is done, fsynced
//
// MoveBack does the same with the places exchanged: the copy beside the link is fsynced and compared,
// replaces the link, and the directory is fsynced, before anything at the new place is removed. Both hold the
// prototype's lock, so that a relocation they find unfinished was interrupted. They first finish it, or
// undo it if only copies were made (relocate_settle.go).
type Relocator struct {
	Model *config.Model
	Hook  dirfd.Hook // asked before every change of a prototype's tree; for tests
	Now   func() time.Time
	// Mounts is mount.All. It is nil with --root, where nothing is mounted.
	Mounts func() ([]mount.Mount, error)
}

// ErrNotMovable reports that something cannot be relocated.
var ErrNotMovable = errors.New("cannot be relocated")

// NewPlace returns the default place in etc of a prototype's path: etc/local/foo for /usr/local/etc/foo,
// etc/root.dot.ssh for /root/.ssh.
func NewPlace(p string) string {
	if p == "usr/local/etc" || strings.HasPrefix(p, "usr/local/etc/") {
		return "etc/local" + strings.TrimPrefix(p, "usr/local/etc")
	}
	parts := strings.Split(p, "/")
	for i, s := range parts {
		if strings.HasPrefix(s, ".") {
			parts[i] = "dot" + s
		}
	}
	return "etc/" + strings.Join(parts, ".")
}

// Plan checks whether a path can be relocated. It changes nothing.
func (k *Relocator) Plan(p *config.Prototype, from, to string) (*Relocation, error) {
	for _, x := range []string{from, to} {
		if err := pathname.Valid(x); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotMovable, err)
		}
	}
	switch {
	case from == "etc" || strings.HasPrefix(from, "etc/"):
		return nil, fmt.Errorf("/%s %w: it is in etc", from, ErrNotMovable)
	case !strings.HasPrefix(to, "etc/"):
		return nil, fmt.Errorf("/%s %w to /%s: that is not in etc", from, ErrNotMovable, to)
	}
	r := &Relocation{Prototype: p.Name, Root: p.Root, Path: from, To: to, Time: k.Now().UTC(), State: moving}
	link, err := filepath.Rel("/"+path.Dir(from), "/"+to)
	if err != nil {
		return nil, err
	}
	r.Link = link
	if err := k.free(r); err != nil {
		return nil, err
	}
	return r, k.checkIdle(r)
}

// free checks that the old place exists, is no link and is reached through none, and that the new place
// is free.
func (k *Relocator) free(r *Relocation) error {
	d, name, err := k.parent(r.Root, r.Path)
	if err != nil {
		return fmt.Errorf("/%s %w: %w", r.Path, ErrNotMovable, err)
	}
	defer d.Close()
	st, err := d.Stat(name)
	switch {
	case err != nil:
		return fmt.Errorf("/%s %w: %w", r.Path, ErrNotMovable, err)
	case st.Kind == dirfd.KindSymlink:
		to, _ := d.Readlink(name)
		return fmt.Errorf("/%s %w: it is a link already, to %s", r.Path, ErrNotMovable, pathname.Quote(to))
	case st.Kind != dirfd.KindFile && st.Kind != dirfd.KindDir:
		return fmt.Errorf("/%s %w: it is a %s", r.Path, ErrNotMovable, st.Kind)
	}
	e, name, err := k.parent(r.Root, r.To)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its directories will be made
	}
	if err != nil {
		return fmt.Errorf("/%s %w to /%s: %w", r.Path, ErrNotMovable, r.To, err)
	}
	defer e.Close()
	if _, err := e.Stat(name); err == nil {
		return fmt.Errorf("/%s %w to /%s: that is there already", r.Path, ErrNotMovable, r.To)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// checkIdle returns an error if the path is in use: packages are being changed, or a filesystem is
// mounted on it or below it.
func (k *Relocator) checkIdle(r *Relocation) error {
	if err := checkPackages(k.Model.Path(r.Root)); err != nil {
		return err
	}
	if k.Mounts == nil {
		return nil
	}
	on, err := k.Mounts()
	if err != nil {
		return err
	}
	here := path.Join(k.Model.Path(r.Root), r.Path)
	for _, m := range on {
		if m.Dir == here || strings.HasPrefix(m.Dir, here+"/") {
			return fmt.Errorf("/%s %w: %s is a mountpoint", r.Path, ErrNotMovable, m.Dir)
		}
	}
	return nil
}

// parent opens the directory of a prototype's path, following no link.
func (k *Relocator) parent(root, p string) (*dirfd.Dir, string, error) {
	top, err := dirfd.Open(k.Model.Path(root), k.Hook)
	if err != nil {
		return nil, "", err
	}
	defer top.Close()
	return top.Parent(p)
}

func (k *Relocator) dir(proto string) string { return k.Model.Path("/var/db/cfgd/relocated/" + proto) }

// record returns the file name of a record, which is short for a path of any length.
func (k *Relocator) record(r *Relocation) string {
	return filepath.Join(k.dir(r.Prototype), fmt.Sprintf("%d.json", r.Time.UnixNano()))
}

func (k *Relocator) write(r *Relocation) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return hostfile.Write(k.record(r), append(b, '\n'), 0o600)
}

// All lists the relocations of a prototype, also unfinished ones.
func (k *Relocator) All(proto string) ([]*Relocation, error) {
	dir := k.dir(proto)
	names, err := hostfile.Names(dir, ".json")
	if err != nil {
		return nil, err
	}
	var all []*Relocation
	for _, name := range names {
		name = filepath.Join(dir, name)
		b, err := hostfile.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) { // undone since
			continue
		}
		if err != nil {
			return nil, err
		}
		r := &Relocation{}
		if err := json.Unmarshal(b, r); err != nil || k.record(r) != name || pathname.Valid(r.Path) != nil ||
			pathname.Valid(r.To) != nil {
			return nil, fmt.Errorf("%s: no record of a relocation (%v)", name, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// ErrNotRelocated reports that a path of a prototype is none that was relocated.
var ErrNotRelocated = errors.New("was not relocated by cfgd")

// Of returns the relocation of a path.
func (k *Relocator) Of(p *config.Prototype, from string) (*Relocation, error) {
	all, err := k.All(p.Name)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Path == from {
			return r, nil
		}
	}
	return nil, fmt.Errorf("/%s %w", pathname.Quote(from), ErrNotRelocated)
}
