package store

import (
	"context"
	"fmt"
	"io"
	"slices"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Rewrite makes cfg hold what a manifest describes on the store's base, as a new generation. It does not look
// at live. It is used after a merge, a resolved conflict or a pin. open reads the contents that cfg does not
// hold yet.
func (s *Store) Rewrite(ctx context.Context, m *Manifest, open tree.Reader) error {
	next := *m
	next.Generation = s.Manifest.Generation + 1
	p, err := s.planRewrite(&next)
	if err != nil {
		return err
	}
	err = s.carryOut(ctx, p, func(tmp *dirfd.Dir) ([]Step, error) {
		if err := s.keepVersions(tmp, p.Next, open); err != nil {
			return nil, err
		}
		return s.stage(tmp, contents{open, tmp}.one, p)
	})
	if err != nil {
		return err
	}
	return s.ScanPlain(ctx, s.Plain)
}

// planRewrite plans the save of a live tree that equals what the manifest describes.
func (s *Store) planRewrite(m *Manifest) (*Plan, error) {
	plain := WithManifest(s.Base.Tree, s.Plain, s.Manifest)
	want, err := s.Wanted(m, plain)
	if err != nil {
		return nil, err
	}
	w := &Planner{
		Base:  s.Base.Tree,
		Saved: tree.Saved(s.Base.Tree, plain, s.Manifest.Removals),
		Live:  want,
		Plain: plain,
		Old:   m,
		Force: true,
		Only:  OnlyBelow(nil),
		Class: func(string) config.Class { return config.Persist },
	}
	p := w.Plan()
	p.Next.Held = m.Held
	p.Next.Generation, p.Next.Time, p.Next.Message = m.Generation, m.Time, m.Message
	p.Next.BaseID, p.Next.From = m.BaseID, m.From
	return p, nil
}

// Wanted returns the saved tree of a manifest on the store's base. Pinned defaults get their digests, because
// they will be saved.
func (s *Store) Wanted(m *Manifest, plain *tree.Tree) (*tree.Tree, error) {
	t := tree.Saved(s.Base.Tree, m.Plain(s.Base.Tree, plain), m.Removals)
	for i := range t.Entries {
		e := &t.Entries[i]
		if len(m.Pins) == 0 || e.Kind != dirfd.KindFile || e.Digest != (tree.Digest{}) || !m.Pinned(e.Path) {
			continue
		}
		full, err := s.Base.Entry(e.Path)
		if err != nil {
			return nil, err
		}
		if full != nil {
			*e = *full
		}
	}
	return t, nil
}

// Plain returns the plain tree of a manifest: its overrides and the directories around them. Those
// directories are as in base, but with the times that they have in the present plain tree. A directory that
// base no longer has stays as in the present one.
func (m *Manifest) Plain(base, plain *tree.Tree) *tree.Tree {
	t := &tree.Tree{NoXattrs: plain.NoXattrs}
	around := map[string]bool{}
	for i := range m.Overrides {
		e := m.Overrides[i].Entry
		for p := pathname.Parent(e.Path); p != "" && !around[p]; p = pathname.Parent(p) {
			around[p] = true
			if _, ok := m.Override(p); !ok {
				t.Entries = append(t.Entries, dirAround(p, base, plain))
			}
		}
		t.Entries = append(t.Entries, e)
	}
	slices.SortFunc(t.Entries, func(a, b tree.Entry) int { return pathname.Compare(a.Path, b.Path) })
	return t
}

func dirAround(p string, base, plain *tree.Tree) tree.Entry {
	have, inCfg := plain.Get(p)
	inCfg = inCfg && have.Kind == dirfd.KindDir
	if b, ok := base.Get(p); ok && b.Kind == dirfd.KindDir {
		d := *b
		if inCfg {
			d.MTime = have.MTime
		}
		return d
	}
	if inCfg {
		return *have
	}
	return tree.Entry{Path: p, Kind: dirfd.KindDir, Mode: tree.UsualDir}
}

// contents stages content that does not come from live.
type contents struct {
	open tree.Reader
	tmp  *dirfd.Dir
}

func (c contents) one(st Step) error {
	if st.Want.Kind == dirfd.KindSymlink {
		return tree.MakeLink(c.tmp, st.From, &st.Want)
	}
	in, err := c.open(&st.Want)
	if err != nil {
		return err
	}
	defer in.Close()
	got, err := tree.CopyFile(in, c.tmp, st.From, &st.Want, nil)
	if err == nil && got != st.Want.Digest {
		err = fmt.Errorf("its content is not what was recorded")
	}
	return err
}

// keepVersions puts the versions of conflicts into objects/.
func (s *Store) keepVersions(tmp *dirfd.Dir, m *Manifest, open tree.Reader) error {
	for i := range m.Conflicts {
		was, _ := s.Manifest.ConflictAt(m.Conflicts[i].Path)
		for _, e := range m.Conflicts[i].entries() {
			if was != nil && was.refers(e) {
				continue // it was kept when it was new; if it is lost now, the rest goes on
			}
			if e == nil || e.Kind != dirfd.KindFile || e.Unread != "" || e.Size > s.Most() {
				continue
			}
			err := s.keepObject(tmp, e.Digest, func() (io.ReadCloser, error) { return open(e) })
			if err != nil && e != m.Conflicts[i].Old {
				return fmt.Errorf("keep both versions of %s: %w", pathname.Quote(e.Path), err)
			}
		}
	}
	return s.syncObjects()
}
