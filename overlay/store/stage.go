package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"sync"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// UnsettledError lists files that changed between the scan and the copy. They are left for the next save.
type UnsettledError struct{ Paths []string }

func (u *UnsettledError) Error() string {
	return fmt.Sprintf("%s: %s", pathname.Quote(u.Paths[0]), tree.MovedOn)
}

// stager copies a plan's content to tmp, several files at a time, because most of the time is spent in
// fsync(2).
type stager struct {
	tmp *dirfd.Dir
	one func(Step) error // stages a file or a link

	mu     sync.Mutex // guards moved and failed
	moved  []string
	failed error
}

// stage fills tmp with the plan's content and returns all steps in the order in which they must be done:
// removals, deepest first; directories, topmost first; content; then times and directories' metadata, deepest
// first.
func (s *Store) stage(tmp *dirfd.Dir, one func(Step) error, p *Plan) ([]Step, error) {
	g := &stager{tmp: tmp, one: one}
	var puts, metas []Step
	for i := range p.Puts {
		e := &p.Puts[i]
		if e.Kind == dirfd.KindDir {
			metas = append(metas, Step{Do: DoMeta, Path: e.Path, Want: *plainDir(e)})
			continue
		}
		puts = append(puts, Step{Do: DoPut, Path: e.Path, From: s.nextName(), Want: *e})
	}
	if err := g.copyAll(puts); err != nil {
		return nil, err
	}
	if err := s.keepOld(tmp, p.old); err != nil {
		return nil, err
	}
	if err := s.keepDefaults(tmp, p.Next); err != nil {
		return nil, err
	}
	var before, after []Step
	for _, st := range p.Steps {
		if st.Do == DoTimes {
			after = append(after, st)
		} else {
			before = append(before, st)
		}
	}
	slices.SortStableFunc(metas, func(a, b Step) int { return pathname.Compare(b.Path, a.Path) })
	return slices.Concat(before, puts, after, metas), nil
}

// copyAll stages files with a few workers. Files that are hard links of each other in live become links in
// cfg.
func (g *stager) copyAll(puts []Step) error {
	first := map[uint64]Step{}
	var files, links []Step
	for _, st := range puts {
		if st.Want.Kind == dirfd.KindFile && st.Want.Nlink() > 1 {
			if _, ok := first[st.Want.Ino()]; ok {
				links = append(links, st)
				continue
			}
			first[st.Want.Ino()] = st
		}
		files = append(files, st)
	}
	work := make(chan Step)
	var wg sync.WaitGroup
	for range min(2*runtime.NumCPU(), len(files)) {
		wg.Go(func() {
			for st := range work {
				g.note(st.Path, g.one(st))
			}
		})
	}
	for _, st := range files {
		work <- st
	}
	close(work)
	wg.Wait()
	if g.failed == nil && len(g.moved) == 0 {
		for _, st := range links {
			g.note(st.Path, g.tmp.Link(first[st.Want.Ino()].From, g.tmp, st.From))
		}
	}
	if g.failed == nil && len(g.moved) > 0 {
		return &UnsettledError{g.moved}
	}
	return g.failed
}

func (g *stager) note(p string, err error) {
	if err == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var u *UnsettledError
	if errors.As(err, &u) {
		g.moved = append(g.moved, p)
	} else if g.failed == nil {
		g.failed = fmt.Errorf("save %s: %w", pathname.Quote(p), err)
	}
}

// fromLive stages files of live. A file that is not as the scan found it returns tree.ErrMovedOn.
type fromLive struct{ live, tmp *dirfd.Dir }

func (g fromLive) one(st Step) error {
	d, err := g.live.Walk(pathname.Parent(st.Path))
	if err != nil {
		return &UnsettledError{[]string{st.Path}}
	}
	defer d.Close()
	name := path.Base(st.Path)
	if st.Want.Kind == dirfd.KindSymlink {
		return g.link(d, name, st)
	}
	in, err := d.Open(name)
	if err != nil {
		return &UnsettledError{[]string{st.Path}}
	}
	defer in.Close()
	if now, err := in.Stat(); err != nil || !tree.Unmoved(&st.Want, now) {
		return &UnsettledError{[]string{st.Path}}
	}
	got, err := CopyFile(in, g.tmp, st.From, &st.Want, nil)
	if err != nil {
		return err
	}
	if now, err := in.Stat(); err != nil || got != st.Want.Digest || !tree.Unmoved(&st.Want, now) {
		return &UnsettledError{[]string{st.Path}}
	}
	return nil
}

func (g fromLive) link(d *dirfd.Dir, name string, st Step) error {
	if to, err := d.Readlink(name); err != nil || to != st.Want.Link {
		return &UnsettledError{[]string{st.Path}}
	}
	return MakeLink(g.tmp, st.From, &st.Want)
}

// MakeLink makes a symbolic link with its owner and time.
func MakeLink(d *dirfd.Dir, name string, e *tree.Entry) error {
	if err := d.Symlink(e.Link, name); err != nil {
		return err
	}
	if tree.Privileged {
		if err := d.Chown(name, e.UID, e.GID); err != nil {
			return err
		}
	}
	return d.Utimes(name, e.MTime)
}

// CopyFile makes a new file with the entry's metadata except chflags(1)'s flags, syncs it, and returns the
// digest of what it copied. It calls refused, unless nil, with each attribute that the filesystem refused.
func CopyFile(
	in io.Reader, to *dirfd.Dir, name string, e *tree.Entry, refused func(name string),
) (tree.Digest, error) {
	out, err := to.Create(name)
	if err != nil {
		return tree.Digest{}, err
	}
	defer out.Close()
	var got tree.Digest
	h := sha256.New()
	if err := tree.CopyContent(out, in, e.Size, e.Sparse(), h); err != nil {
		return got, err
	}
	h.Sum(got[:0])
	if err := setFile(out, e, refused); err != nil {
		return got, err
	}
	if err := to.Utimes(name, e.MTime); err != nil {
		return got, err
	}
	if err := out.Sync(); err != nil {
		return got, err
	}
	return got, out.Close()
}

// setFile gives a new file its owner, mode and attributes. The owner comes first, because chown(2) clears
// setuid.
func setFile(f *dirfd.File, e *tree.Entry, refused func(name string)) error {
	if tree.Privileged {
		if err := f.Chown(e.UID, e.GID); err != nil {
			return err
		}
	}
	return SetMode(f, e, refused)
}

// setXattrs sets attributes, and calls refused with each one that the filesystem refused.
func setXattrs(packed string, set func(dirfd.Xattr) error, refused func(name string)) error {
	x, err := tree.UnpackXattrs(packed)
	if err != nil {
		return err
	}
	for _, a := range x {
		err := set(a)
		if err != nil && !dirfd.XattrRefused(err) {
			return err
		}
		if err != nil && refused != nil {
			refused(a.Name)
		}
	}
	return nil
}

// SetMode gives a new file its attributes and mode; its owner must be set. The mode comes last: setting user
// attributes needs write permission, and an ACL changes the bits of the mode.
func SetMode(f *dirfd.File, e *tree.Entry, refused func(name string)) error {
	if err := setXattrs(e.Xattrs, f.SetXattr, refused); err != nil {
		return err
	}
	return f.Chmod(e.Mode)
}

// SetDir gives a directory its owner, mode, attributes and time. It leaves attributes that the entry does not
// have. It calls refused, unless nil, with each attribute that the filesystem refused.
func SetDir(d *dirfd.Dir, e *tree.Entry, refused func(name string)) error {
	if tree.Privileged {
		if err := d.Chown("", e.UID, e.GID); err != nil {
			return err
		}
	}
	if err := setXattrs(e.Xattrs, d.SetXattr, refused); err != nil {
		return err
	}
	if err := d.Utimes("", e.MTime); err != nil {
		return err
	}
	return d.Chmod(e.Mode)
}

// ResetDir is SetDir for a directory that was there before: it also removes the attributes that the entry
// does not have. The entry must come from a filesystem that has attributes.
func ResetDir(d *dirfd.Dir, e *tree.Entry, refused func(name string)) error {
	want, err := tree.UnpackXattrs(e.Xattrs)
	if err != nil {
		return err
	}
	have, _ := d.Xattrs() // attributes that can't be read stay: a save must not fail because of them
	for _, h := range have {
		if !slices.ContainsFunc(want, func(w dirfd.Xattr) bool { return w.Name == h.Name }) {
			if err := d.RemoveXattr(h.Name); err != nil {
				return err
			}
		}
	}
	return SetDir(d, e, refused)
}
