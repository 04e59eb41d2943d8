package prototype

import (
	"context"
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
	"cfgd/internal/pathname"
	"cfgd/overlay"
)

// Relocation is a file or directory of a prototype that lives in its etc, with a link where it was: the
// paper's sections 3.5 and 4.5. It is its own record, /var/db/cfgd/relocated/PROTOTYPE/NUMBER.json, from
// before the first step until it is undone.
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

// Finished reports whether it is neither under way nor being undone.
func (r *Relocation) Finished() bool { return r.State == moved }

// Lines are what it does, for people.
func (r *Relocation) Lines() []string {
	return []string{
		"copy " + path.Join(r.Root, r.Path) + " to " + path.Join(r.Root, r.To),
		"replace " + path.Join(r.Root, r.Path) + " by a link to " + r.Link,
	}
}

// Relocator moves files of prototypes into their etc, and back. What a prototype's tree holds is its
// jail's: no link in it is followed, and nothing outside of its root is read or written.
//
// The order of Do, and what a crash after each step leaves:
//
//	1  the record is written, fsynced                                        nothing was moved
//	2  the directories of the new place are made, each fsynced               empty directories
//	3  the copy is made beside the new place                                 half a copy, which goes
//	4  all of the copy is fsynced (SyncTree)                                 as in 3
//	5  the copy is renamed to the new place, and the directory fsynced       the copy, whole; the original
//	6  the link is made beside the old place                                 as in 5
//	7  the original is renamed aside, if it is a directory                   no name; the copy is whole
//	8  the link is renamed to the old place, and the directory fsynced       the link; the copy is whole
//	9  what was put aside goes                                               the link; the copy is whole
//	10 the record says that it is done, fsynced
//
// Undo is the same with the places exchanged: the copy beside the link is fsynced, replaces it, and the
// directory is fsynced, before anything at the new place goes. Cut short anywhere, Settle finishes it, or
// undoes it where only copies were made. It cannot know whether the last fsync was done, and so does it again
// before it removes an original.
type Relocator struct {
	Model *config.Model
	Hook  dirfd.Hook // asked before every change of a prototype's tree; for tests
	Now   func() time.Time
	// Mounts are the mountpoints of the system.
	Mounts func() ([]string, error)
}

// ErrNotMovable says why something cannot be relocated.
var ErrNotMovable = errors.New("cannot be relocated")

// NewPlace is where a path of a prototype goes in etc if nobody says otherwise: /usr/local/etc/foo to
// etc/local/foo, /root/.ssh to etc/root.dot.ssh.
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

// Plan finds out whether a path can be relocated. Nothing is changed.
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
	return r, k.quiet(r)
}

// free sees that the old place is there, no link, and reached by none, and that the new one is free.
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

// quiet refuses what is in use: packages being changed, a filesystem mounted on it or below it.
func (k *Relocator) quiet(r *Relocation) error {
	if err := Quiet(k.Model.Path(r.Root)); err != nil {
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
		if m == here || strings.HasPrefix(m, here+"/") {
			return fmt.Errorf("/%s %w: %s is a mountpoint", r.Path, ErrNotMovable, m)
		}
	}
	return nil
}

// parent opens the directory of a path of a prototype, following no link in it.
func (k *Relocator) parent(root, p string) (*dirfd.Dir, string, error) {
	top, err := dirfd.Open(k.Model.Path(root), k.Hook)
	if err != nil {
		return nil, "", err
	}
	defer top.Close()
	return top.Parent(p)
}

func (k *Relocator) dir(proto string) string { return k.Model.Path("/var/db/cfgd/relocated/" + proto) }

// record is the name of a record: a path of any length and form gets a short one.
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

// All lists what was relocated in a prototype, and what was begun.
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

// Do relocates. It may be called again after it was cut short.
func (k *Relocator) Do(ctx context.Context, r *Relocation) error {
	if err := k.write(r); err != nil {
		return err
	}
	if err := k.copyIn(ctx, r); err != nil {
		return errors.Join(err, k.Settle(context.WithoutCancel(ctx), r))
	}
	return k.swap(r)
}

// Names beside the old and the new place while something is being moved.
const (
	beside = ".cfgd.new."
	linkAs = ".cfgd.link."
	aside  = ".cfgd.old."
)

// copyIn makes the copy at the new place.
func (k *Relocator) copyIn(ctx context.Context, r *Relocation) error {
	src, name, err := k.parent(r.Root, r.Path)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, newName, err := k.made(r)
	if err != nil {
		return err
	}
	defer dst.Close()
	return k.copyTo(ctx, src, name, dst, newName)
}

// copyTo copies to a name that is free, whole or not at all.
func (k *Relocator) copyTo(ctx context.Context, src *dirfd.Dir, name string, dst *dirfd.Dir,
	newName string) error {
	if err := dst.RemoveAll(beside + newName); err != nil {
		return err
	}
	if err := overlay.CopyName(ctx, src, name, dst, beside+newName); err != nil {
		return err
	}
	if err := dst.SyncTree(ctx, beside+newName); err != nil {
		return err
	}
	if err := dst.Rename(beside+newName, dst, newName); err != nil {
		return err
	}
	return dst.Sync()
}

// made opens the directory of the new place, and makes it where it is missing.
func (k *Relocator) made(r *Relocation) (*dirfd.Dir, string, error) {
	d, err := dirfd.Open(k.Model.Path(r.Root), k.Hook)
	if err != nil {
		return nil, "", err
	}
	parts := strings.Split(r.To, "/")
	for _, p := range parts[:len(parts)-1] {
		sub, err := d.Dir(p)
		if errors.Is(err, fs.ErrNotExist) {
			if err = errors.Join(d.Mkdir(p), d.Sync()); err == nil {
				if sub, err = d.Dir(p); err == nil {
					err = errors.Join(sub.Chmod(0o755), sub.Sync())
				}
			}
		}
		d.Close()
		if err != nil {
			sub.Close()
			return nil, "", err
		}
		d = sub
	}
	return d, parts[len(parts)-1], nil
}

// swap puts the link in the old one's place.
func (k *Relocator) swap(r *Relocation) error {
	d, name, err := k.parent(r.Root, r.Path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.RemoveAll(linkAs + name); err != nil {
		return err
	}
	if err := d.Symlink(r.Link, linkAs+name); err != nil {
		return err
	}
	if err := replace(d, linkAs+name, name); err != nil {
		return err
	}
	if err := errors.Join(d.RemoveAll(aside+name), d.Sync()); err != nil {
		return err
	}
	r.State = moved
	return k.write(r)
}

// replace gives a name to something else. A directory on either side takes two renames: the old one is
// put aside first.
func replace(d *dirfd.Dir, from, name string) error {
	old, err := d.Stat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	now, err2 := d.Stat(from)
	if err2 != nil {
		return err2
	}
	if err == nil && (old.Kind == dirfd.KindDir || now.Kind == dirfd.KindDir) {
		if err := d.RemoveAll(aside + name); err != nil {
			return err
		}
		if err := d.Rename(name, d, aside+name); err != nil {
			return err
		}
	}
	if err := d.Rename(from, d, name); err != nil {
		return err
	}
	return d.Sync()
}

// Undo puts what was relocated back.
func (k *Relocator) Undo(ctx context.Context, r *Relocation) error {
	d, name, err := k.parent(r.Root, r.Path)
	if err != nil {
		return err
	}
	defer d.Close()
	if to, err := d.Readlink(name); err != nil || to != r.Link {
		return fmt.Errorf("/%s is no longer the link to %s that was made: nothing was changed", r.Path,
			pathname.Quote(r.Link))
	}
	if err := k.quiet(r); err != nil {
		return err
	}
	src, from, err := k.parent(r.Root, r.To)
	if err != nil {
		return err
	}
	defer src.Close()
	r.State = returning
	if err := k.write(r); err != nil {
		return err
	}
	if err := d.RemoveAll(beside + name); err != nil {
		return err
	}
	if err := overlay.CopyName(ctx, src, from, d, beside+name); err != nil {
		return errors.Join(err, k.Settle(context.WithoutCancel(ctx), r))
	}
	if err := d.SyncTree(ctx, beside+name); err != nil {
		return err
	}
	if err := replace(d, beside+name, name); err != nil {
		return err
	}
	return k.returned(r, d, name)
}

// returned removes what an undoing leaves. It may follow a call that was cut short after the rename and
// before the fsync of the directory, so that it syncs the directory first.
func (k *Relocator) returned(r *Relocation, d *dirfd.Dir, name string) error {
	if err := d.Sync(); err != nil {
		return err
	}
	if err := d.RemoveAll(aside + name); err != nil {
		return err
	}
	src, from, err := k.parent(r.Root, r.To)
	if err == nil {
		defer src.Close()
		err = errors.Join(src.RemoveAll(from), src.Sync())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return hostfile.Remove(k.record(r))
}

// Settle finishes or undoes what was cut short, by what stands at the old place.
func (k *Relocator) Settle(ctx context.Context, r *Relocation) error {
	if r.State == moved {
		return nil
	}
	d, name, err := k.parent(r.Root, r.Path)
	if err != nil {
		return err
	}
	defer d.Close()
	st, err := d.Stat(name)
	gone := errors.Is(err, fs.ErrNotExist)
	if err != nil && !gone {
		return err
	}
	isLink := !gone && st.Kind == dirfd.KindSymlink
	if r.State == returning {
		return k.settleReturn(r, d, name, gone, isLink)
	}
	if gone || isLink {
		if isLink {
			if to, _ := d.Readlink(name); to != r.Link {
				return fmt.Errorf("/%s is a link to %s: look at it, then remove %s", r.Path,
					pathname.Quote(to), k.record(r))
			}
		}
		return k.swap(r)
	}
	return k.drop(ctx, r, d, name)
}

// drop ends a move of which nothing but copies were made; one whose copy is whole goes on.
func (k *Relocator) drop(ctx context.Context, r *Relocation, d *dirfd.Dir, name string) error {
	dst, newName, err := k.parent(r.Root, r.To)
	if errors.Is(err, fs.ErrNotExist) {
		return hostfile.Remove(k.record(r))
	}
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := errors.Join(dst.RemoveAll(beside+newName), d.RemoveAll(linkAs+name)); err != nil {
		return err
	}
	if _, err := dst.Stat(newName); errors.Is(err, fs.ErrNotExist) {
		return hostfile.Remove(k.record(r))
	}
	same, err := overlay.SameNames(ctx, d, name, dst, newName)
	if err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("/%s and /%s are both there, and differ: keep one, then remove %s", r.Path, r.To,
			k.record(r))
	}
	if err := dst.SyncTree(ctx, newName); err != nil {
		// the move may have been cut short before its last fsync
		return err
	}
	return k.swap(r)
}

func (k *Relocator) settleReturn(r *Relocation, d *dirfd.Dir, name string, gone, isLink bool) error {
	switch {
	case gone: // between the two renames
		if err := replace(d, beside+name, name); err != nil {
			return err
		}
		return k.returned(r, d, name)
	case isLink: // only copies were made
		if err := d.RemoveAll(beside + name); err != nil {
			return err
		}
		r.State = moved
		return k.write(r)
	}
	return k.returned(r, d, name)
}
