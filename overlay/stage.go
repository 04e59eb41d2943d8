package overlay

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

// unsettled says that files moved on between the scan and the save: they are left for the next one.
type unsettled struct{ paths []string }

func (u *unsettled) Error() string {
	return fmt.Sprintf("%s: %s", pathname.Quote(u.paths[0]), tree.MovedOn)
}

// stager copies what a plan puts into cfg to tmp, several files at a time, for most of the time goes into fsync(2).
type stager struct {
	tmp *dirfd.Dir
	one func(step) error // stages a file or a link

	mu     sync.Mutex // guards moved and failed
	moved  []string
	failed error
}

// stage fills tmp with the plan's content and returns all steps, in the order in which they can be done:
// what goes, deepest first; directories, topmost first; content; then times and directories' metadata, deepest first.
func (s *Store) stage(tmp *dirfd.Dir, one func(step) error, p *Plan) ([]step, error) {
	g := &stager{tmp: tmp, one: one}
	var puts, metas []step
	for i := range p.puts {
		e := &p.puts[i]
		if e.Kind == dirfd.KindDir {
			metas = append(metas, step{Do: doMeta, Path: e.Path, Want: *plainDir(e)})
			continue
		}
		puts = append(puts, step{Do: doPut, Path: e.Path, From: s.nextName(), Want: *e})
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
	var before, after []step
	for _, st := range p.steps {
		if st.Do == doTimes {
			after = append(after, st)
		} else {
			before = append(before, st)
		}
	}
	slices.SortStableFunc(metas, func(a, b step) int { return pathname.Compare(b.Path, a.Path) })
	return slices.Concat(before, puts, after, metas), nil
}

// copyAll stages files with a few workers. Files that are hard links of each other in live become links in cfg.
func (g *stager) copyAll(puts []step) error {
	first := map[uint64]step{}
	var files, links []step
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
	work := make(chan step)
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
		return &unsettled{g.moved}
	}
	return g.failed
}

func (g *stager) note(p string, err error) {
	if err == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var u *unsettled
	if errors.As(err, &u) {
		g.moved = append(g.moved, p)
	} else if g.failed == nil {
		g.failed = fmt.Errorf("save %s: %w", pathname.Quote(p), err)
	}
}

// fromLive stages what live holds. What is not as the scan found it is an unsettled.
type fromLive struct{ live, tmp *dirfd.Dir }

func (g fromLive) one(st step) error {
	d, err := g.live.Walk(tree.Parent(st.Path))
	if err != nil {
		return &unsettled{[]string{st.Path}}
	}
	defer d.Close()
	name := path.Base(st.Path)
	if st.Want.Kind == dirfd.KindSymlink {
		return g.link(d, name, st)
	}
	in, err := d.Open(name)
	if err != nil {
		return &unsettled{[]string{st.Path}}
	}
	defer in.Close()
	if now, err := in.Stat(); err != nil || !tree.Unmoved(&st.Want, now) {
		return &unsettled{[]string{st.Path}}
	}
	got, err := copyFile(in, g.tmp, st.From, &st.Want)
	if err != nil {
		return err
	}
	if now, err := in.Stat(); err != nil || got != st.Want.Digest || !tree.Unmoved(&st.Want, now) {
		return &unsettled{[]string{st.Path}}
	}
	return nil
}

func (g fromLive) link(d *dirfd.Dir, name string, st step) error {
	if to, err := d.Readlink(name); err != nil || to != st.Want.Link {
		return &unsettled{[]string{st.Path}}
	}
	return makeLink(g.tmp, st.From, &st.Want)
}

// makeLink makes a symbolic link with its owner and time.
func makeLink(d *dirfd.Dir, name string, e *tree.Entry) error {
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

// copyFile makes a new file with the entry's metadata, but not chflags(1)'s flags, and returns the digest of what it copied.
// It is on stable storage then.
func copyFile(in io.Reader, to *dirfd.Dir, name string, e *tree.Entry) (tree.Digest, error) {
	return copyFileBut(in, to, name, e, nil)
}

// copyFileBut is copyFile, and says which attributes the filesystem refused.
func copyFileBut(in io.Reader, to *dirfd.Dir, name string, e *tree.Entry, refused func(name string)) (tree.Digest, error) {
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

// setFile gives a new file its owner, mode and attributes; the owner first, for chown(2) clears setuid.
func setFile(f *dirfd.File, e *tree.Entry, refused func(name string)) error {
	if tree.Privileged {
		if err := f.Chown(e.UID, e.GID); err != nil {
			return err
		}
	}
	return setMode(f, e, refused)
}

// setXattrs sets attributes, and says of which the filesystem refused.
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

// setMode gives a new file that has its owner its attributes and mode. The mode comes last: the user's
// attributes take permission to write, and an ACL moves the mode's bits.
func setMode(f *dirfd.File, e *tree.Entry, refused func(name string)) error {
	if err := setXattrs(e.Xattrs, f.SetXattr, refused); err != nil {
		return err
	}
	return f.Chmod(e.Mode)
}

// setDir gives a directory its owner, mode, attributes and time. Attributes that the entry has not are left.
func setDir(d *dirfd.Dir, e *tree.Entry) error { return setDirBut(d, e, nil) }

// setDirBut is setDir, and says which attributes the filesystem refused.
func setDirBut(d *dirfd.Dir, e *tree.Entry, refused func(name string)) error {
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

// resetDir is setDir for a directory that was there before: it loses the attributes that the entry has not. The entry
// must come from where attributes can be seen.
func resetDir(d *dirfd.Dir, e *tree.Entry) error { return resetDirBut(d, e, nil) }

// resetDirBut is resetDir, and says which attributes the filesystem refused.
func resetDirBut(d *dirfd.Dir, e *tree.Entry, refused func(name string)) error {
	want, err := tree.UnpackXattrs(e.Xattrs)
	if err != nil {
		return err
	}
	have, _ := d.Xattrs() // those that can't be read are left: a save must not fail for them
	for _, h := range have {
		if !slices.ContainsFunc(want, func(w dirfd.Xattr) bool { return w.Name == h.Name }) {
			if err := d.RemoveXattr(h.Name); err != nil {
				return err
			}
		}
	}
	return setDirBut(d, e, refused)
}
