package prototype

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// Copies are snapshots without ZFS: read-only copies of the prototype in its own .cfgd/snapshot. A copy
// is made under a temporary name and renamed when it is complete and on stable storage. A copy that is
// removed loses its name first, so that no partial copy is ever visible. What could not be removed keeps
// a temporary name, and does not stop the next copy or removal.
type Copies struct {
	Root string     // the prototype's, with --root's directory before it
	Hook dirfd.Hook // for tests
}

// Mark returns config.CopyMark.
func (Copies) Mark() string { return config.CopyMark }

// InUse returns nothing: copies have neither clones nor holds.
func (Copies) InUse(context.Context) (map[string]string, error) { return nil, nil }

// dir and path return paths for messages and for readers. All changes are done by descriptor.
func (c Copies) dir() string { return filepath.Join(c.Root, ".cfgd/snapshot") }

func (c Copies) path(name string) string { return filepath.Join(c.dir(), name) }

// commentName is the file beside a copy that has its comment and its time, because the time of the copy's
// directory is that of the prototype.
func commentName(name string) string { return "." + name + ".comment" }

// maxComment bounds how much of a comment is read, in bytes.
const maxComment = 64 << 10

// List lists the directories.
func (c Copies) List(context.Context) ([]Snapshot, error) {
	root, err := dirfd.Open(c.Root, c.Hook)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	d, err := copiesIn(root, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Names()
	if err != nil {
		return nil, err
	}
	var all []Snapshot
	for _, name := range names {
		st, err := d.Stat(name)
		if err != nil || st.Kind != dirfd.KindDir || strings.HasPrefix(name, ".") {
			continue
		}
		s := Snapshot{Name: name, Time: time.Unix(0, st.MTime).UTC()}
		if b, err := d.ReadFile(commentName(name), maxComment); err == nil {
			s.Comment = strings.TrimSuffix(string(b), "\n")
			if st, err := d.Stat(commentName(name)); err == nil {
				s.Time = time.Unix(0, st.MTime).UTC()
			}
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b Snapshot) int { return older(a, b) })
	return all, nil
}

// older orders by number if both names are numbers, else by time.
func older(a, b Snapshot) int {
	x, errA := strconv.Atoi(a.Name)
	y, errB := strconv.Atoi(b.Name)
	if errA == nil && errB == nil {
		return x - y
	}
	return a.Time.Compare(b.Time)
}

// copiesIn opens the directory of the copies below the open root, and creates it on request. No link is
// followed. From here on everything goes by descriptor: root of a running prototype may replace a
// directory by a link at any time.
func copiesIn(root *dirfd.Dir, create bool) (*dirfd.Dir, error) {
	d, err := root.Walk("")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{".cfgd", "snapshot"} {
		sub, err := d.Dir(name)
		if create && errors.Is(err, fs.ErrNotExist) {
			if err = d.Mkdir(name); err == nil {
				if sub, err = d.Dir(name); err == nil {
					err = errors.Join(sub.Chmod(0o755), d.Sync())
				}
			}
		}
		d.Close()
		if err != nil {
			sub.Close()
			return nil, err
		}
		d = sub
	}
	return d.Rooted(), nil
}

// The names of copies that are being made or removed. If a name is in use, a number is added.
const (
	halfName = ".new"
	goneName = ".gone"
)

// sweep removes what earlier runs left, as far as possible: a run that was killed, or that a flag or a
// mount stopped. What stays was reported by the run that left it.
func sweep(d *dirfd.Dir) error {
	names, err := d.Names()
	for _, name := range names {
		if strings.HasPrefix(name, halfName) || strings.HasPrefix(name, goneName) {
			_ = d.RemoveAll(name)
		}
	}
	return err
}

// unused returns the name, or the name with a number if sweep had to leave it.
func unused(d *dirfd.Dir, name string) (string, error) {
	for n := 1; ; n++ {
		free := name
		if n > 1 {
			free = fmt.Sprintf("%s.%d", name, n)
		}
		if _, err := d.Stat(free); errors.Is(err, fs.ErrNotExist) {
			return free, nil
		} else if err != nil {
			return "", err
		}
	}
}

// Take copies the prototype, without its own snapshots and what is mounted below it. The order, and what
// a crash leaves:
//
//	1  the copy is made as .new              a part of it, for the next run to remove
//	2  the comment is written, durably       a comment of nothing, which nothing shows
//	3  the copy is brought to stable storage
//	4  it is renamed to its name             the copy, whole, or none
//	5  the directory is synced: the copy stays
func (c Copies) Take(ctx context.Context, name, comment string) error {
	root, err := dirfd.Open(c.Root, c.Hook)
	if err != nil {
		return err
	}
	defer root.Close()
	d, err := copiesIn(root, true)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := sweep(d); err != nil {
		return err
	}
	tmp, err := unused(d, halfName)
	if err != nil {
		return err
	}
	if err := take(ctx, root, d, tmp, name, comment); err != nil {
		return errors.Join(err, d.RemoveAll(tmp))
	}
	return d.Sync() // 5
}

func take(ctx context.Context, root, d *dirfd.Dir, tmp, name, comment string) error {
	if err := d.Mkdir(tmp); err != nil { // 1
		return err
	}
	to, err := d.Dir(tmp)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := tree.CopyDir(ctx, root, to.Rooted(), ".cfgd"); err != nil {
		return err
	}
	if err := writeComment(d, commentName(name), comment); err != nil { // 2
		return err
	}
	if err := d.SyncTree(ctx, tmp); err != nil { // 3
		return err
	}
	return d.Rename(tmp, d, name) // 4
}

// writeComment writes a whole file: a temporary one, which sweep removes, then fsync, rename, fsync.
func writeComment(d *dirfd.Dir, name, comment string) error {
	tmp, err := unused(d, halfName+".comment")
	if err != nil {
		return err
	}
	f, err := d.Create(tmp)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write([]byte(comment + "\n"))
	if err = errors.Join(err, f.Chmod(0o644), f.Sync()); err != nil {
		return errors.Join(err, d.Unlink(tmp))
	}
	if err := d.Rename(tmp, d, name); err != nil {
		return errors.Join(err, d.Unlink(tmp))
	}
	return d.Sync()
}

// Destroy removes a copy: its name, durably, then its comment and its content.
func (c Copies) Destroy(_ context.Context, name string) error {
	root, err := dirfd.Open(c.Root, c.Hook)
	if err != nil {
		return err
	}
	defer root.Close()
	d, err := copiesIn(root, false)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := sweep(d); err != nil {
		return err
	}
	tmp, err := unused(d, goneName)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Rename(name, d, tmp), d.Sync()); err != nil {
		return err
	}
	if err := d.Unlink(commentName(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.RemoveAll(tmp); err != nil {
		return fmt.Errorf("%s is no longer a snapshot, and what is left of it is in %s: %w", name,
			c.path(tmp), err)
	}
	return nil
}

// TakePlan returns what Take does, in words.
func (c Copies) TakePlan(name, _ string) []string {
	return []string{"copy " + c.Root + " to " + c.path(name)}
}

// DestroyPlan returns what Destroy does, in words.
func (c Copies) DestroyPlan(name string) []string { return []string{"remove " + c.path(name)} }
