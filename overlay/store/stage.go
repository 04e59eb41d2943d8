package store

import (
	"errors"
	"fmt"
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
	got, err := tree.CopyFile(in, g.tmp, st.From, &st.Want, nil)
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
	return tree.MakeLink(g.tmp, st.From, &st.Want)
}
