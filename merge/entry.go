package merge

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// Versions are the three versions of a path: the old default, what cfg has, and the new default. Nil means
// that nothing is there.
type Versions struct{ Old, Mine, Theirs *tree.Entry }

// entryMerge is the result of merging three versions: content, mode, owner, flags and attributes, each by
// itself. If both sides changed one of them differently, mine and theirs differ in it.
type entryMerge struct {
	mine, theirs tree.Entry
	clash        []string // what both changed, in words
	places       int      // number of conflicts in a text
	rejected     string   // what a checker says against the merged text, if it accepts both sides
	text         []byte   // the text with conflict markers
	tags         bool     // only $FreeBSD$ tags changed
	notes        []string
}

// why says in words why the versions could not be merged.
func (b *entryMerge) why() string {
	switch {
	case b.rejected != "":
		return "the merged text is rejected: " + b.rejected
	case b.places == 1:
		return "both changed " + strings.Join(b.clash, ", ") + " in 1 place"
	case b.places > 1:
		return fmt.Sprintf("both changed %s in %d places", strings.Join(b.clash, ", "), b.places)
	}
	return "both changed " + strings.Join(b.clash, ", ")
}

// pick merges a value that can't be divided. The results are equal unless there is a clash.
func pick[T comparable](known bool, old, mine, theirs T) (m, t T, clash bool) {
	switch {
	case mine == theirs, known && theirs == old:
		return mine, mine, false
	case known && mine == old:
		return theirs, theirs, false
	}
	return mine, theirs, true
}

// mergeEntry merges three versions. Neither mine nor theirs is nil.
func (w *Merger) mergeEntry(path string, s Versions) (*entryMerge, error) {
	b := &entryMerge{mine: *s.Mine, theirs: *s.Theirs}
	if s.Mine.Kind != s.Theirs.Kind || s.Old != nil && s.Old.Kind != s.Mine.Kind {
		w.whole(s, b)
		return b, nil
	}
	if err := w.contents(path, s, b); err != nil {
		return nil, err
	}
	w.metadata(s, b)
	return b, nil
}

// whole takes one version as it is, because another is a different kind of file: content and metadata belong
// together then.
func (w *Merger) whole(s Versions, b *entryMerge) {
	switch {
	case s.Old != nil && w.same(s.Old, s.Mine):
		b.mine = b.theirs
	case s.Old != nil && w.same(s.Old, s.Theirs):
		b.theirs = b.mine
	default:
		b.clash = append(b.clash, "the type")
	}
}

// metadata merges mode, owner, flags and attributes, each by itself.
func (w *Merger) metadata(s Versions, b *entryMerge) {
	known, old := s.Old != nil, &tree.Entry{}
	if known {
		old = s.Old
	}
	note := func(what string, clash bool) {
		if clash {
			b.clash = append(b.clash, what)
		}
	}
	var clash bool
	if s.Mine.Kind != dirfd.KindSymlink {
		b.mine.Mode, b.theirs.Mode, clash = pick(known, old.Mode, s.Mine.Mode, s.Theirs.Mode)
		note("the mode", clash)
	}
	b.mine.UID, b.theirs.UID, clash = pick(known, old.UID, s.Mine.UID, s.Theirs.UID)
	note("the owner", clash)
	b.mine.GID, b.theirs.GID, clash = pick(known, old.GID, s.Mine.GID, s.Theirs.GID)
	note("the group", clash)
	b.mine.Flags, b.theirs.Flags, clash = pick(known, old.Flags, s.Mine.Flags, s.Theirs.Flags)
	note("the flags", clash)
	if w.Xattrs && s.Mine.Kind == dirfd.KindFile {
		b.mine.Xattrs, b.theirs.Xattrs, clash = pick(known, old.Xattrs, s.Mine.Xattrs, s.Theirs.Xattrs)
		note("the attributes", clash)
	} else {
		b.theirs.Xattrs = b.mine.Xattrs
	}
}

// takeContent gives e the content of another entry.
func takeContent(e, from *tree.Entry) {
	e.Size, e.MTime, e.Digest, e.Link, e.Unread = from.Size, from.MTime, from.Digest, from.Link, from.Unread
}

// contents merges the three contents.
func (w *Merger) contents(path string, s Versions, b *entryMerge) error {
	switch {
	case s.Mine.SameContent(s.Theirs), s.Old != nil && s.Old.SameContent(s.Theirs):
		takeContent(&b.theirs, s.Mine)
		return nil
	case s.Old != nil && s.Old.SameContent(s.Mine):
		takeContent(&b.mine, s.Theirs)
		return nil
	case s.Mine.Kind == dirfd.KindSymlink:
		b.clash = append(b.clash, "where the link points")
		return nil
	case w.Class(path) == config.Derived:
		takeContent(&b.theirs, s.Mine) // it is made from another file: see derive
		return nil
	}
	m, err := w.text(path, s, b)
	switch {
	case errors.Is(err, ErrNoText):
		b.clash = append(b.clash,
			"the contents ("+strings.TrimPrefix(err.Error(), ErrNoText.Error()+": ")+")")
		return nil
	case err != nil || m == nil:
		return err
	}
	b.notes = append(b.notes, m.Notes...)
	if m.Conflicts > 0 {
		b.clash, b.places, b.text = append(b.clash, "the text"), m.Conflicts, m.Content
		return nil
	}
	return w.checked(path, s, b, m.Content)
}

// textVersions is the key of a merged text: the same three versions give the same result.
type textVersions struct {
	path              string
	from, to          string // base ids, for the markers
	old, mine, theirs tree.Digest
}

// text merges by lines, or account files by entry and field. It returns nil if one side's content was taken
// as it is, because the other changed only $FreeBSD$ tags.
func (w *Merger) text(path string, s Versions, b *entryMerge) (*Merged, error) {
	key := textVersions{
		path:   path,
		from:   w.Old.BaseID,
		to:     w.Base.ID,
		mine:   s.Mine.Digest,
		theirs: s.Theirs.Digest,
	}
	if s.Old != nil {
		key.old = s.Old.Digest
	}
	if m, ok := w.Texts.Load(key); ok {
		return m.(*Merged), nil
	}
	old, mine, theirs, err := s.Read(w.Max, w.content)
	if err != nil {
		return nil, err
	}
	if s.Old != nil && SameButTags(old, theirs) {
		takeContent(&b.theirs, s.Mine)
		b.tags = true
		return nil, nil
	}
	if s.Old != nil && SameButTags(old, mine) {
		takeContent(&b.mine, s.Theirs)
		return nil, nil
	}
	m, err := Contents(path, old, mine, theirs, NamesOf(w.Old.BaseID, w.Base.ID))
	if err == nil && len(m.Content) <= maxShared {
		w.Texts.Store(key, m)
	}
	return m, err
}

// maxShared is the size in bytes above which a merged text is not kept for other jails.
const maxShared = 64 << 10

// Contents merges three contents by lines, or account files by entry and field.
func Contents(path string, old, mine, theirs []byte, names Names) (*Merged, error) {
	if sealed(old) || sealed(mine) || sealed(theirs) {
		return nil, fmt.Errorf("%w: a key or certificate", ErrNoText)
	}
	m, ok, err := Accounts(path, old, mine, theirs, names)
	if !ok {
		m, err = Text(old, mine, theirs, names)
	}
	switch {
	case errors.Is(err, ErrBinary):
		return nil, fmt.Errorf("%w: not text", ErrNoText)
	case errors.Is(err, ErrTooLarge):
		return nil, fmt.Errorf("%w: too large to be merged by lines", ErrNoText)
	}
	return &m, err
}

// sealed reports whether a text must not be merged by lines, because it is a key or certificate in PEM form
// (RFC 7468).
func sealed(text []byte) bool {
	return bytes.HasPrefix(text, []byte("-----BEGIN ")) || bytes.Contains(text, []byte("\n-----BEGIN "))
}

// Read reads the three contents, each of at most max bytes.
func (s Versions) Read(
	max int64, content func(*tree.Entry) ([]byte, error),
) (old, mine, theirs []byte, err error) {
	for _, side := range []struct {
		e    *tree.Entry
		to   *[]byte
		what string
	}{
		{s.Old, &old, "the old default is no longer kept"},
		{s.Mine, &mine, "the saved file cannot be read"},
		{s.Theirs, &theirs, "the default cannot be read"},
	} {
		if side.e == nil {
			continue
		}
		if side.e.Size > max || side.e.Unread != "" {
			return nil, nil, nil, fmt.Errorf("%w: too large to be merged by lines", ErrNoText)
		}
		if *side.to, err = content(side.e); err != nil {
			if side.e == s.Old {
				return nil, nil, nil, fmt.Errorf("%w: %s", ErrNoText, side.what)
			}
			return nil, nil, nil, fmt.Errorf("%s: %w", side.what, err)
		}
	}
	return old, mine, theirs, nil
}

// checked takes a merged content, unless a checker rejects it and accepts both sides.
func (w *Merger) checked(path string, s Versions, b *entryMerge, content []byte) error {
	problem, err := w.rejects(path, s, b, content)
	if err != nil {
		return err
	}
	if problem != "" {
		b.clash, b.rejected, b.text = append(b.clash, "the text"), problem, content
		return nil
	}
	e := w.made(path, content, s.Mine)
	takeContent(&b.mine, &e)
	takeContent(&b.theirs, &e)
	return nil
}

// rejects returns what a checker says against a merged content, "" if it says something against a side too.
func (w *Merger) rejects(path string, s Versions, b *entryMerge, content []byte) (string, error) {
	if w.Tools.Check == nil {
		return "", nil
	}
	problem, skipped := w.Tools.Check(w.ctx, path, content)
	if skipped != "" {
		b.notes = append(b.notes, "not checked: "+skipped)
	}
	if problem == "" {
		return "", nil
	}
	for _, e := range []*tree.Entry{s.Mine, s.Theirs} {
		side, err := w.content(e)
		if err != nil {
			return "", err
		}
		if before, _ := w.Tools.Check(w.ctx, path, side); before != "" {
			return "", nil // the merge made it no worse
		}
	}
	return problem, nil
}
