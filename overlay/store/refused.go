package store

import (
	"errors"
	"maps"
	"strings"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// A filesystem may refuse one attribute and take another. ZFS refuses a name with a slash in it or with
// "freebsd:" before it; UFS2 refuses more than fits into two blocks. The manifest keeps the attributes that
// cfg's filesystem refuses, as it keeps flags, which a file in cfg never has. It also lists their names, so
// that they are not taken for attributes that somebody removed in cfg by hand.

// refuse records what the filesystem refused of an override: names joined by NUL, "" for nothing.
func (m *Manifest) refuse(path, names string) {
	switch {
	case names == "":
		delete(m.Refused, path)
	case m.Refused == nil:
		m.Refused = map[string]string{path: names}
	default:
		m.Refused[path] = names
	}
}

// complete adds to an entry of the plain tree what cfg's filesystem can't hold: flags, and attributes that it
// refuses or can't read. They come from the override, or from base for a directory that only holds others.
func (m *Manifest) complete(e, from *tree.Entry, noXattrs bool) {
	e.Flags = from.Flags
	switch names := m.Refused[e.Path]; {
	case noXattrs, e.Unlisted != "":
		e.Xattrs, e.Unlisted, e.Excess = from.Xattrs, "", false
	case names != "" && e.Kind == from.Kind:
		e.Xattrs = tree.WithXattrs(e.Xattrs, from.Xattrs, strings.Split(names, "\x00"))
	}
}

// noteRefused records in the next manifest the attributes that cfg's filesystem refused of what was staged.
// Records of paths that do not change stay.
func (s *Store) noteRefused(tmp *dirfd.Dir, next *Manifest, steps []Step) error {
	was := next.Refused
	if s.Manifest != nil {
		was = s.Manifest.Refused
	}
	next.Refused = maps.Clone(was)
	for _, st := range steps {
		switch st.Do {
		case DoRm, DoRmdir:
			next.refuse(st.Path, "")
		case DoPut, DoMeta:
			names, err := s.refused(tmp, st)
			if err != nil {
				return err
			}
			next.refuse(st.Path, names)
		}
	}
	return nil
}

// refused returns the names of the attributes that a step can't set.
func (s *Store) refused(tmp *dirfd.Dir, st Step) (string, error) {
	if st.Want.Xattrs == "" {
		return "", nil
	}
	want, err := tree.UnpackXattrs(st.Want.Xattrs)
	if err != nil {
		return "", err
	}
	var names []string
	if st.Do == DoMeta {
		names, err = s.refusedOfDir(tmp, want)
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
func (s *Store) refusedOfDir(tmp *dirfd.Dir, want []dirfd.Xattr) (names []string, err error) {
	name := s.nextName()
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

// WithManifest returns a plain tree completed from the manifest. A directory that only holds others gets
// base's flags, and the attributes that cfg's filesystem can't hold.
func WithManifest(base, plain *tree.Tree, m *Manifest) *tree.Tree {
	t := *plain
	t.NoXattrs = false // the manifest has the attributes
	t.Entries = append([]tree.Entry(nil), plain.Entries...)
	for i := range t.Entries {
		e := &t.Entries[i]
		if o, ok := m.Override(e.Path); ok {
			m.complete(e, &o.Entry, plain.NoXattrs)
		} else if b, ok := base.Get(e.Path); ok && e.Kind == dirfd.KindDir && b.Kind == dirfd.KindDir {
			m.complete(e, b, plain.NoXattrs)
		}
	}
	return &t
}
