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
	"cfgd/internal/mount"
	"cfgd/internal/pathname"
	"cfgd/overlay"
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

// Lines returns what it does, for people.
func (r *Relocation) Lines() []string {
	return []string{
		"copy " + path.Join(r.Root, r.Path) + " to " + path.Join(r.Root, r.To),
		"replace " + path.Join(r.Root, r.Path) + " by a link to " + r.Link,
	}
}

// Relocator moves files of prototypes into their etc, and back. A jail controls the content of its
// prototype's tree: no link in it is followed, and nothing outside of its root is read or written.
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
// Undo does the same with the places exchanged: the copy beside the link is fsynced, replaces the link,
// and the directory is fsynced, before anything at the new place is removed. After an interruption at any
// step, Settle finishes the move, or undoes it if only copies were made. Settle cannot know whether the
// last fsync was done, so it repeats it before it removes an original.
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

// Do relocates. It may be called again after an interruption.
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
	dst, newName, err := k.makeParent(r)
	if err != nil {
		return err
	}
	defer dst.Close()
	return k.copyTo(ctx, src, name, dst, newName)
}

// copyTo copies to a free name, completely or not at all.
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

// makeParent opens the directory of the new place, and creates it if it is missing.
func (k *Relocator) makeParent(r *Relocation) (*dirfd.Dir, string, error) {
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

// swap replaces the original by the link.
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

// replace replaces what has a name. If a directory is on either side it takes two renames: the old one is
// moved aside first.
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

// Undo moves a relocated path back.
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
	if err := k.checkIdle(r); err != nil {
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
	return k.removeRest(r, d, name)
}

// removeRest removes what is left after an undo. The previous call may have been interrupted after the
// rename and before the fsync of the directory, so it fsyncs the directory first.
func (k *Relocator) removeRest(r *Relocation, d *dirfd.Dir, name string) error {
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

// Settle finishes or undoes an interrupted move, by what is at the old place.
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

// drop ends a move that has made nothing but copies. A move whose copy is complete goes on.
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
		// the move may have been interrupted before its last fsync
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
		return k.removeRest(r, d, name)
	case isLink: // only copies were made
		if err := d.RemoveAll(beside + name); err != nil {
			return err
		}
		r.State = moved
		return k.write(r)
	}
	return k.removeRest(r, d, name)
}
