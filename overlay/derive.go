package overlay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// One rule holds for the files that are made of other files (merge.Products): whatever changes a source, what
// is made of it is made anew in the same step, or a notice names it and the command that makes it. A merge
// does that itself. The functions here do it for edits (resolve, rollback), for what is put back into live
// (restore, rescue restore), and at a start for what somebody changed in cfg by hand.

// products makes products, and keeps their contents and what there is to tell.
type products struct {
	o       *Overlay
	base    *store.Base
	fresh   map[tree.Digest][]byte
	notices []string
}

// of returns the products of a source's content. If the source is the default, they are the default's, where
// the default has them. now returns what is there at a path, nil for nothing.
func (m *products) of(
	ctx context.Context, p merge.Product, source *tree.Entry, content []byte, now func(string) *tree.Entry,
) ([]tree.Entry, error) {
	out, err := m.defaults(&p, content, now)
	if err != nil || len(p.Makes) == 0 {
		return out, err
	}
	there := func(path string) bool { return now(path) != nil }
	made, _, note, err := p.Remake(ctx, m.o.Tools, content, there, m.o.Target.Live)
	if errors.Is(err, merge.ErrPlanned) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	if note != "" {
		m.notices = append(m.notices, fmt.Sprintf("%s was changed; %s", pathname.Quote(p.Source), note))
	}
	for _, path := range p.Makes {
		b, ok := made[path]
		if !ok {
			continue
		}
		like := now(path)
		if like == nil && !p.Needed && m.base.Tree.Has(path) {
			continue // somebody removed it
		}
		if like == nil || like.Kind != dirfd.KindFile {
			like = p.Like(path, source)
		}
		e := *like
		e.Path, e.Kind, e.Link, e.Unread = path, dirfd.KindFile, "", ""
		e.ClearStamp()
		if d := tree.SumOf(b); e.Digest != d || e.Size != int64(len(b)) {
			e.Digest, e.Size, e.MTime = d, int64(len(b)), m.o.now().UnixNano()
		}
		m.fresh[e.Digest] = b
		out = append(out, e)
	}
	return out, nil
}

// defaults returns the default's products if the source is the default, and takes them off p.
func (m *products) defaults(
	p *merge.Product, content []byte, now func(string) *tree.Entry,
) ([]tree.Entry, error) {
	def, err := m.base.Entry(p.Source)
	if err != nil || def == nil || def.Kind != dirfd.KindFile || def.Digest != tree.SumOf(content) {
		return nil, err
	}
	var out []tree.Entry
	var rest []string
	for _, path := range p.Makes {
		e, err := m.base.Entry(path)
		if err != nil {
			return nil, err
		}
		switch {
		case e == nil || e.Kind != dirfd.KindFile || e.Unread != "":
			rest = append(rest, path)
		case now(path) != nil || p.Needed:
			b, err := m.base.Content(e)
			if err != nil {
				return nil, err
			}
			m.fresh[e.Digest] = b
			out = append(out, *e)
		}
	}
	p.Makes = rest
	return out, nil
}

// remake makes anew what is made of the files that the edit changes. It returns what there is to tell, and
// the paths.
func (a *edit) remake(ctx context.Context) (notices, paths []string, err error) {
	changed := func(p merge.Product) bool {
		was, err := a.present(p.Source)
		return err == nil && !sameFile(was, a.saved(p.Source))
	}
	return a.remakeOf(ctx, changed, func(string) bool { return false })
}

// sameFile reports whether a path has the same content in two states, or nothing in both.
func sameFile(a, b *tree.Entry) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.SameContent(b)
}

// saved returns what the new manifest has at a path, nil for nothing.
func (a *edit) saved(path string) *tree.Entry {
	if _, ok := a.next.Override(path); !ok && !a.next.Removes(path) {
		e, _ := a.s.Base.Entry(path) // with its digest
		return e
	}
	return a.next.Saved(a.s.Base.Tree, path)
}

// remakeOf makes the products of the changed sources anew, except those that skip names.
func (a *edit) remakeOf(
	ctx context.Context, changed func(merge.Product) bool, skip func(path string) bool,
) (notices, paths []string, err error) {
	if a.fresh == nil {
		a.fresh = map[tree.Digest][]byte{}
	}
	m := &products{o: a.o, base: a.s.Base, fresh: a.fresh}
	for _, p := range merge.Products {
		if !changed(p) {
			continue
		}
		source := a.saved(p.Source)
		if source == nil || source.Kind != dirfd.KindFile || source.Unread != "" {
			continue
		}
		p.Makes = slices.DeleteFunc(slices.Clone(p.Makes), skip)
		content, err := a.bytes(source)
		if err != nil {
			return nil, nil, err
		}
		made, err := m.of(ctx, p, source, content, a.saved)
		if err != nil {
			return nil, nil, err
		}
		for i := range made {
			e := &made[i]
			paths = append(paths, e.Path)
			if sameFile(a.saved(e.Path), e) {
				continue
			}
			if err := a.set(e.Path, e); err != nil {
				return nil, nil, err
			}
		}
	}
	return m.notices, paths, nil
}

// remake adds to what a restorer changes in live the products of the sources among it.
func (w *opened) remake(ctx context.Context, r *restorer) (notices, paths []string, err error) {
	m := &products{o: w.o, base: w.s.Base, fresh: map[tree.Digest][]byte{}}
	read := r.read
	r.read = func(e *tree.Entry) (io.ReadCloser, error) {
		if b, ok := m.fresh[e.Digest]; ok && e.Kind == dirfd.KindFile {
			return tree.ReaderOf(b), nil
		}
		return read(e)
	}
	now := func(path string) *tree.Entry {
		if i := r.change(path); i >= 0 {
			return r.changes[i].New
		}
		e, _ := w.v.Live.Get(path)
		return e
	}
	for _, p := range merge.Products {
		i := r.change(p.Source)
		if i < 0 || r.changes[i].Kind == tree.Mode || r.changes[i].New == nil ||
			r.changes[i].New.Kind != dirfd.KindFile {
			continue
		}
		source := r.changes[i].New
		content, err := r.content(source)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w; nothing was changed", pathname.Quote(p.Source), err)
		}
		made, err := m.of(ctx, p, source, content, now)
		if err != nil {
			return nil, nil, err
		}
		for i := range made {
			paths = append(paths, made[i].Path)
			r.putProduct(w.v.Live, &made[i])
		}
	}
	slices.SortFunc(r.changes, func(a, b tree.Change) int { return pathname.Compare(a.Path, b.Path) })
	return m.notices, paths, nil
}

// change returns the index of the change of a path, -1 if there is none.
func (r *restorer) change(path string) int {
	return slices.IndexFunc(r.changes, func(c tree.Change) bool { return c.Path == path })
}

func (r *restorer) content(e *tree.Entry) ([]byte, error) {
	in, err := r.read(e)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(io.LimitReader(in, e.Size+1))
}

// putProduct makes a product one of the changes, if live does not have it yet.
func (r *restorer) putProduct(live *tree.Tree, e *tree.Entry) {
	have, _ := live.Get(e.Path)
	if i := r.change(e.Path); i >= 0 {
		if new := r.changes[i].New; new != nil && new.SameContent(e) {
			return
		}
		r.changes = slices.Delete(r.changes, i, i+1)
	}
	if have != nil && have.SameContent(e) {
		return
	}
	c, _ := tree.CompareEntries(have, e, false)
	r.changes = append(r.changes, c)
}

// remakeEdited makes anew what is made of files that somebody changed in cfg by hand and live has not taken
// yet, except what was changed by hand as well. It also mends a passwd into which an earlier version of cfgd
// put passwords.
func remakeEdited(ctx context.Context, o *Overlay, s *store.Store) error {
	exposed := exposes(s)
	if s.ReadOnly || !exposed && len(s.Manifest.HandEdits) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, mergeWithin)
	defer cancel()
	next := s.Manifest.Clone()
	next.From, next.Time, next.BaseID = "", o.now().UTC(), next.StandsOn(s.Base.ID)
	a := &edit{opened: &opened{o: o, s: s}, next: next}
	notices, paths, err := a.remakeOf(ctx, func(p merge.Product) bool {
		return s.Manifest.HandEdited(p.Source) || exposed && slices.Contains(p.Makes, "passwd")
	}, s.Manifest.HandEdited)
	s.Notices = append(s.Notices, notices...)
	if err != nil || !slices.ContainsFunc(paths, func(path string) bool {
		was, err := s.Base.Entry(path)
		if o, ok := s.Manifest.Override(path); ok {
			was = &o.Entry
		}
		return err != nil || !sameFile(was, a.saved(path))
	}) {
		return err
	}
	next.Message = "made anew: " + strings.Join(paths, ", ")
	return s.Rewrite(ctx, next, a.open)
}

// exposes reports whether the saved passwd has passwords.
func exposes(s *store.Store) bool {
	o, ok := s.Manifest.Override("passwd")
	if !ok || o.Kind != dirfd.KindFile || s.Manifest.HandEdited("passwd") {
		return false
	}
	b, err := s.Content(&o.Entry)
	return err == nil && bytes.Contains(b, []byte("#")) && merge.Exposes(b)
}
