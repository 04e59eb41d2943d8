package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/merge"
	"cfgd/overlay/tree"
)

// sides are the three versions of a path: the default that was, what cfg has, and the default that is. Nil is nothing there.
type sides struct{ old, mine, theirs *tree.Entry }

// blend is what three versions come to: content, mode, owner, flags and attributes each on its own. Where both sides changed one of
// them, differently, the two results differ in it.
type blend struct {
	mine, theirs tree.Entry
	clash        []string // what both changed
	places       int      // of the content, in a text
	rejected     string   // by a checker, though both sides pass it
	text         []byte   // with markers
	tags         bool     // nothing changed but $FreeBSD$ tags
	notes        []string
}

// why says in words what cannot be brought together.
func (b *blend) why() string {
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

// pick merges a value that is taken whole: mine and theirs are equal but for a clash.
func pick[T comparable](known bool, old, mine, theirs T) (m, t T, clash bool) {
	switch {
	case mine == theirs, known && theirs == old:
		return mine, mine, false
	case known && mine == old:
		return theirs, theirs, false
	}
	return mine, theirs, true
}

// blend brings three versions together. Neither mine nor theirs is nil.
func (w *merger) blend(path string, s sides) (*blend, error) {
	b := &blend{mine: *s.mine, theirs: *s.theirs}
	if s.mine.Kind != s.theirs.Kind || s.old != nil && s.old.Kind != s.mine.Kind {
		w.whole(s, b)
		return b, nil
	}
	if err := w.contents(path, s, b); err != nil {
		return nil, err
	}
	w.metadata(s, b)
	return b, nil
}

// whole takes a version as it is, where one of them is another kind of file: content and metadata belong together then.
func (w *merger) whole(s sides, b *blend) {
	switch {
	case s.old != nil && w.same(s.old, s.mine):
		b.mine = b.theirs
	case s.old != nil && w.same(s.old, s.theirs):
		b.theirs = b.mine
	default:
		b.clash = append(b.clash, "the type")
	}
}

// metadata merges each of mode, owner, flags and attributes.
func (w *merger) metadata(s sides, b *blend) {
	known, old := s.old != nil, &tree.Entry{}
	if known {
		old = s.old
	}
	note := func(what string, clash bool) {
		if clash {
			b.clash = append(b.clash, what)
		}
	}
	var clash bool
	if s.mine.Kind != dirfd.KindSymlink {
		b.mine.Mode, b.theirs.Mode, clash = pick(known, old.Mode, s.mine.Mode, s.theirs.Mode)
		note("the mode", clash)
	}
	b.mine.UID, b.theirs.UID, clash = pick(known, old.UID, s.mine.UID, s.theirs.UID)
	note("the owner", clash)
	b.mine.GID, b.theirs.GID, clash = pick(known, old.GID, s.mine.GID, s.theirs.GID)
	note("the group", clash)
	b.mine.Flags, b.theirs.Flags, clash = pick(known, old.Flags, s.mine.Flags, s.theirs.Flags)
	note("the flags", clash)
	if w.xattrs && s.mine.Kind == dirfd.KindFile {
		b.mine.Xattrs, b.theirs.Xattrs, clash = pick(known, old.Xattrs, s.mine.Xattrs, s.theirs.Xattrs)
		note("the attributes", clash)
	} else {
		b.theirs.Xattrs = b.mine.Xattrs
	}
}

// takeContent gives an entry another's content.
func takeContent(e, from *tree.Entry) {
	e.Size, e.MTime, e.Digest, e.Link, e.Unread = from.Size, from.MTime, from.Digest, from.Link, from.Unread
}

// contents merges what the three hold.
func (w *merger) contents(path string, s sides, b *blend) error {
	switch {
	case s.mine.SameContent(s.theirs), s.old != nil && s.old.SameContent(s.theirs):
		takeContent(&b.theirs, s.mine)
		return nil
	case s.old != nil && s.old.SameContent(s.mine):
		takeContent(&b.mine, s.theirs)
		return nil
	case s.mine.Kind == dirfd.KindSymlink:
		b.clash = append(b.clash, "where the link points")
		return nil
	case w.class(path) == config.Derived:
		takeContent(&b.theirs, s.mine) // it is made of another file: see derive
		return nil
	}
	m, err := w.text(path, s, b)
	switch {
	case errors.Is(err, errNoText):
		b.clash = append(b.clash, "the contents ("+strings.TrimPrefix(err.Error(), errNoText.Error()+": ")+")")
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

// threeTexts names a merge of texts: whoever has the same three gets the same.
type threeTexts struct {
	path              string
	from, to          string // base ids, which stand in markers
	old, mine, theirs tree.Digest
}

// text merges by lines, or account files by entry and field. Nil is that one side's content is taken as it is, for the other
// changed no more than $FreeBSD$ tags.
func (w *merger) text(path string, s sides, b *blend) (*merge.Merged, error) {
	key := threeTexts{path: path, from: w.old.BaseID, to: w.base.ID, mine: s.mine.Digest, theirs: s.theirs.Digest}
	if s.old != nil {
		key.old = s.old.Digest
	}
	if m, ok := w.texts.Load(key); ok {
		return m.(*merge.Merged), nil
	}
	old, mine, theirs, err := s.read(w.max, w.content)
	if err != nil {
		return nil, err
	}
	if s.old != nil && merge.SameButTags(old, theirs) {
		takeContent(&b.theirs, s.mine)
		b.tags = true
		return nil, nil
	}
	if s.old != nil && merge.SameButTags(old, mine) {
		takeContent(&b.mine, s.theirs)
		return nil, nil
	}
	m, err := mergeLines(path, old, mine, theirs, namesOf(w.old.BaseID, w.base.ID))
	if err == nil && len(m.Content) <= maxShared {
		w.texts.Store(key, m)
	}
	return m, err
}

// maxShared is the size in bytes above which a merged text is not kept for other jails.
const maxShared = 64 << 10

// mergeLines merges three contents by lines, or account files by entry and field.
func mergeLines(path string, old, mine, theirs []byte, names merge.Names) (*merge.Merged, error) {
	if sealed(old) || sealed(mine) || sealed(theirs) {
		return nil, fmt.Errorf("%w: a key or certificate", errNoText)
	}
	m, ok, err := merge.Accounts(path, old, mine, theirs, names)
	if !ok {
		m, err = merge.Text(old, mine, theirs, names)
	}
	switch {
	case errors.Is(err, merge.ErrBinary):
		return nil, fmt.Errorf("%w: not text", errNoText)
	case errors.Is(err, merge.ErrTooLarge):
		return nil, fmt.Errorf("%w: too large to be merged by lines", errNoText)
	}
	return &m, err
}

// sealed reports whether a text is one that lines of another make worthless: a key or certificate in PEM's form (RFC 7468).
func sealed(text []byte) bool {
	return bytes.HasPrefix(text, []byte("-----BEGIN ")) || bytes.Contains(text, []byte("\n-----BEGIN "))
}

// read reads the three contents, each of at most max bytes.
func (s sides) read(max int64, content func(*tree.Entry) ([]byte, error)) (old, mine, theirs []byte, err error) {
	for _, side := range []struct {
		e    *tree.Entry
		to   *[]byte
		what string
	}{{s.old, &old, "the old default is no longer kept"}, {s.mine, &mine, "the saved file cannot be read"}, {s.theirs, &theirs, "the default cannot be read"}} {
		if side.e == nil {
			continue
		}
		if side.e.Size > max || side.e.Unread != "" {
			return nil, nil, nil, fmt.Errorf("%w: too large to be merged by lines", errNoText)
		}
		if *side.to, err = content(side.e); err != nil {
			if side.e == s.old {
				return nil, nil, nil, fmt.Errorf("%w: %s", errNoText, side.what)
			}
			return nil, nil, nil, fmt.Errorf("%s: %w", side.what, err)
		}
	}
	return old, mine, theirs, nil
}

// checked takes a merged content, unless a checker rejects it that both sides pass.
func (w *merger) checked(path string, s sides, b *blend, content []byte) error {
	problem, err := w.rejects(path, s, b, content)
	if err != nil {
		return err
	}
	if problem != "" {
		b.clash, b.rejected, b.text = append(b.clash, "the text"), problem, content
		return nil
	}
	e := w.made(path, content, s.mine)
	takeContent(&b.mine, &e)
	takeContent(&b.theirs, &e)
	return nil
}

// rejects says what a checker has against a merged content that it has against neither side's.
func (w *merger) rejects(path string, s sides, b *blend, content []byte) (string, error) {
	if w.tools.Check == nil {
		return "", nil
	}
	problem, skipped := w.tools.Check(w.ctx, path, content)
	if skipped != "" {
		b.notes = append(b.notes, "not checked: "+skipped)
	}
	if problem == "" {
		return "", nil
	}
	for _, e := range []*tree.Entry{s.mine, s.theirs} {
		side, err := w.content(e)
		if err != nil {
			return "", err
		}
		if before, _ := w.tools.Check(w.ctx, path, side); before != "" {
			return "", nil // no worse than it was
		}
	}
	return problem, nil
}
