package store

import (
	"context"
	"fmt"

	"cfgd/internal/dirfd"
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
		if err := s.objectDir().keepVersions(tmp, s.Manifest, p.Next, open); err != nil {
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
	w := Planner{
		Base:  s.Base.Tree,
		Saved: tree.Saved(s.Base.Tree, plain, s.Manifest.Removals),
		Live:  want,
		Plain: plain,
		Old:   m,
		Force: true,
	}
	p := w.Plan()
	p.Next.HandEdits = m.HandEdits
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

// contents stages content that does not come from live.
type contents struct {
	open tree.Reader
	tmp  *dirfd.Dir
}

func (c contents) one(st *Step) error {
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
