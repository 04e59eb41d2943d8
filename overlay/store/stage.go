package store

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

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
	one func(*Step) error // stages a file or a link

	mu     sync.Mutex // guards moved and failed
	moved  []string
	failed error
}

// stage fills tmp with the plan's content and returns all steps in the order in which they must be done:
// removals, deepest first; directories, topmost first; content; then times and directories' metadata, deepest
// first.
func (s *Store) stage(tmp *dirfd.Dir, one func(*Step) error, p *Plan) ([]Step, error) {
	g := &stager{tmp: tmp, one: one}
	var puts, metas []Step
	for i := range p.Puts {
		e := &p.Puts[i]
		if e.Kind == dirfd.KindDir {
			metas = append(metas, Step{Do: DoMeta, Path: e.Path, Want: *plainEntry(e)})
			continue
		}
		puts = append(puts, Step{Do: DoPut, Path: e.Path, From: s.nextName(), Want: *e})
	}
	if err := g.copyAll(puts); err != nil {
		return nil, err
	}
	p.take(puts)
	if err := s.objectDir().keepOld(tmp, s.Plain, p.old); err != nil {
		return nil, err
	}
	if err := s.objectDir().keepDefaults(tmp, s.Base, p.Next); err != nil {
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
	first := map[uint64]*Step{}
	var files, links []*Step
	for i := range puts {
		st := &puts[i]
		if st.Want.Kind == dirfd.KindFile && st.Want.Nlink() > 1 {
			if _, ok := first[st.Want.Ino()]; ok {
				links = append(links, st)
				continue
			}
			first[st.Want.Ino()] = st
		}
		files = append(files, st)
	}
	var workers errgroup.Group
	workers.SetLimit(2 * runtime.NumCPU())
	for _, st := range files {
		workers.Go(func() error { g.note(st.Path, g.one(st)); return nil })
	}
	_ = workers.Wait() // note has the errors
	if g.failed == nil && len(g.moved) == 0 {
		for _, st := range links {
			f := first[st.Want.Ino()]
			g.note(st.Path, g.tmp.Link(f.From, g.tmp, st.From))
			st.Want = f.Want // as it was copied
			st.Want.Path = st.Path
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

// take makes the new manifest say what was copied. That may not be what the scan found.
func (p *Plan) take(puts []Step) {
	if len(p.asItIs) == 0 {
		return
	}
	for i := range puts {
		if o, ok := p.Next.Override(puts[i].Path); ok {
			o.Entry = puts[i].Want
			o.ClearStamp()
		}
	}
}

// fromLive stages files of live. A file that is not as the scan found it is an *UnsettledError, unless the
// plan takes it as it is.
type fromLive struct {
	live, tmp *dirfd.Dir
	plan      *Plan
}

func (g fromLive) one(st *Step) error {
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
	now, err := in.Stat()
	if err == nil && g.plan.asItIs[st.Path] {
		return g.asItIs(in, now, st)
	}
	if err != nil || !tree.Unmoved(&st.Want, now) {
		return &UnsettledError{[]string{st.Path}}
	}
	got, err := tree.CopyFile(in, g.tmp, st.From, &st.Want, nil)
	if err != nil {
		return err
	}
	if now, err := in.Stat(); err != nil || got != st.Want.Digest || !tree.Unmoved(&st.Want, now) {
		return &UnsettledError{[]string{st.Path}}
	}
	return nil
}

// asItIs stages one read of a file that may change meanwhile, and makes the step say what was read. A file
// that the scan found with content and that is empty now was truncated to be written: it is left for later.
func (g fromLive) asItIs(in *dirfd.File, now dirfd.Stat, st *Step) error {
	if limit := g.plan.maxFile; limit > 0 && now.Size > limit {
		return &UnsettledError{[]string{st.Path}}
	}
	e := tree.EntryOf(st.Path, now)
	e.Xattrs = st.Want.Xattrs
	// A file that grows without end has an end here.
	bounded := &io.LimitedReader{R: in, N: e.Size}
	got, err := tree.CopyFile(bounded, g.tmp, st.From, &e, nil)
	if err != nil {
		return err
	}
	e.Size -= bounded.N
	if after, err := in.Stat(); err != nil || st.Want.Size > 0 && (e.Size == 0 || after.Size == 0) {
		return &UnsettledError{[]string{st.Path}}
	}
	e.Digest = got
	st.Want = e
	return nil
}

func (g fromLive) link(d *dirfd.Dir, name string, st *Step) error {
	to, err := d.Readlink(name)
	if err != nil || to != st.Want.Link && !g.plan.asItIs[st.Path] {
		return &UnsettledError{[]string{st.Path}}
	}
	st.Want.Link = to
	return tree.MakeLink(g.tmp, st.From, &st.Want)
}

// A filesystem may refuse one attribute and take another. ZFS refuses a name with a slash in it or with
// "freebsd:" before it; UFS2 refuses more than fits into two blocks. The manifest keeps the attributes that
// cfg's filesystem refuses, as it keeps flags, which a file in cfg never has. It also lists their names, so
// that they are not taken for attributes that somebody removed in cfg by hand.

// refusedBy returns the attributes that cfg's filesystem refuses after the steps: those of what was
// staged, and those recorded of paths that do not change.
func (m *metaDir) refusedBy(tmp *dirfd.Dir, was map[string]string, steps []Step) (map[string]string, error) {
	next := Manifest{Refused: maps.Clone(was)}
	for _, st := range steps {
		switch st.Do {
		case DoRm, DoRmdir:
			next.refuse(st.Path, "")
		case DoPut, DoMeta:
			names, err := m.refused(tmp, st)
			if err != nil {
				return nil, err
			}
			next.refuse(st.Path, names)
		}
	}
	return next.Refused, nil
}

// refused returns the names of the attributes that a step can't set.
func (m *metaDir) refused(tmp *dirfd.Dir, st Step) (string, error) {
	if st.Want.Xattrs == "" {
		return "", nil
	}
	want, err := tree.UnpackXattrs(st.Want.Xattrs)
	if err != nil {
		return "", err
	}
	var names []string
	if st.Do == DoMeta {
		names, err = m.refusedOfDir(tmp, want)
	} else {
		names, err = refusedOfFile(tmp, st.From, want)
	}
	return strings.Join(names, "\x00"), err
}

// refusedOfFile compares a staged file with the attributes it should have.
func refusedOfFile(tmp *dirfd.Dir, name string, want []dirfd.Xattr) (names []string, err error) {
	f, err := tmp.Open(name)
	if errors.Is(err, dirfd.ErrNotRegular) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	have, err := f.Xattrs()
	if err != nil && !dirfd.NoXattr(err) {
		return nil, err
	}
	for _, w := range want {
		if !tree.HasXattr(have, w.Name) {
			names = append(names, w.Name)
		}
	}
	return names, nil
}

// refusedOfDir tries the attributes on a directory of tmp, because a directory of the plain tree gets its own
// only after the manifest is written.
func (m *metaDir) refusedOfDir(tmp *dirfd.Dir, want []dirfd.Xattr) (names []string, err error) {
	name := m.nextName()
	if err := tmp.Mkdir(name); err != nil {
		return nil, err
	}
	d, err := tmp.Dir(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	for _, x := range want {
		if err := d.SetXattr(x); dirfd.XattrRefused(err) {
			names = append(names, x.Name)
		} else if err != nil {
			return nil, err
		}
	}
	return names, tmp.Rmdir(name)
}
