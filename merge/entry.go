package merge

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// entryMerge merges three versions of a path: content, mode, owner, flags and attributes, each by itself. If
// both sides changed one of them differently, mine and theirs differ in it afterwards.
type entryMerge struct {
	m    *Merger
	path string
	from Versions

	mine, theirs tree.Entry
	both         []string // what both changed, in words
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
		return "both changed " + strings.Join(b.both, ", ") + " in 1 place"
	case b.places > 1:
		return fmt.Sprintf("both changed %s in %d places", strings.Join(b.both, ", "), b.places)
	}
	return "both changed " + strings.Join(b.both, ", ")
}

// pick merges a value that can't be divided. The results are equal unless both sides changed it, differently.
func pick[T comparable](known bool, old, mine, theirs T) (m, t T, both bool) {
	switch {
	case mine == theirs, known && theirs == old:
		return mine, mine, false
	case known && mine == old:
		return theirs, theirs, false
	}
	return mine, theirs, true
}

// mergeEntry merges three versions. Neither mine nor theirs is nil.
func (w *Merger) mergeEntry(ctx context.Context, path string, v Versions) (*entryMerge, error) {
	b := &entryMerge{m: w, path: path, from: v, mine: *v.Mine, theirs: *v.Theirs}
	if v.Mine.Kind != v.Theirs.Kind || v.Old != nil && v.Old.Kind != v.Mine.Kind {
		b.whole()
		return b, nil
	}
	if err := b.contents(ctx); err != nil {
		return nil, err
	}
	b.metadata()
	return b, nil
}

// whole takes one version as it is, because another is a different kind of file: content and metadata belong
// together then.
func (b *entryMerge) whole() {
	switch v := b.from; {
	case v.Old != nil && b.m.same(v.Old, v.Mine):
		b.mine = b.theirs
	case v.Old != nil && b.m.same(v.Old, v.Theirs):
		b.theirs = b.mine
	default:
		b.both = append(b.both, "the type")
	}
}

// metadata merges mode, owner, flags and attributes, each by itself.
func (b *entryMerge) metadata() {
	mine, theirs, old := b.from.Mine, b.from.Theirs, b.from.Old
	known := old != nil
	if !known {
		old = &tree.Entry{}
	}
	note := func(what string, both bool) {
		if both {
			b.both = append(b.both, what)
		}
	}
	var both bool
	if mine.Kind != dirfd.KindSymlink {
		b.mine.Mode, b.theirs.Mode, both = pick(known, old.Mode, mine.Mode, theirs.Mode)
		note("the mode", both)
	}
	b.mine.UID, b.theirs.UID, both = pick(known, old.UID, mine.UID, theirs.UID)
	note("the owner", both)
	b.mine.GID, b.theirs.GID, both = pick(known, old.GID, mine.GID, theirs.GID)
	note("the group", both)
	b.mine.Flags, b.theirs.Flags, both = pick(known, old.Flags, mine.Flags, theirs.Flags)
	note("the flags", both)
	if b.m.Xattrs && mine.Kind == dirfd.KindFile {
		b.mine.Xattrs, b.theirs.Xattrs, both = pick(known, old.Xattrs, mine.Xattrs, theirs.Xattrs)
		note("the attributes", both)
	} else {
		b.theirs.Xattrs = b.mine.Xattrs
	}
}

// takeContent gives e the content of another entry.
func takeContent(e, from *tree.Entry) {
	e.Size, e.MTime, e.Digest, e.Link, e.Unread = from.Size, from.MTime, from.Digest, from.Link, from.Unread
}

// contents merges the three contents.
func (b *entryMerge) contents(ctx context.Context) error {
	switch v := b.from; {
	case v.Mine.SameContent(v.Theirs), v.Old != nil && v.Old.SameContent(v.Theirs):
		takeContent(&b.theirs, v.Mine)
		return nil
	case v.Old != nil && v.Old.SameContent(v.Mine):
		takeContent(&b.mine, v.Theirs)
		return nil
	case v.Mine.Kind == dirfd.KindSymlink:
		b.both = append(b.both, "where the link points")
		return nil
	case b.m.Class(b.path) == config.Derived:
		takeContent(&b.theirs, v.Mine) // it is made from another file: see derive
		return nil
	}
	m, err := b.merged()
	switch {
	case errors.Is(err, ErrNoText):
		b.both = append(b.both,
			"the contents ("+strings.TrimPrefix(err.Error(), ErrNoText.Error()+": ")+")")
		return nil
	case err != nil || m == nil:
		return err
	}
	b.notes = append(b.notes, m.Notes...)
	if m.Conflicts > 0 {
		b.both, b.places, b.text = append(b.both, "the text"), m.Conflicts, m.Content
		return nil
	}
	return b.checked(ctx, m.Content)
}

// textVersions is the key of a merged text: the same three versions give the same result.
type textVersions struct {
	path              string
	names             Names
	old, mine, theirs tree.Digest
}

// merged merges the contents as Contents does. It returns nil if one side's content was taken as it is,
// because the other changed only $FreeBSD$ tags.
func (b *entryMerge) merged() (*Merged, error) {
	w, v := b.m, b.from
	key := textVersions{
		path:   b.path,
		names:  v.Names,
		mine:   v.Mine.Digest,
		theirs: v.Theirs.Digest,
	}
	if v.Old != nil {
		key.old = v.Old.Digest
	}
	if m, ok := w.Texts.Load(key); ok {
		return m.(*Merged), nil
	}
	old, mine, theirs, err := v.Read(w.Max, w.content)
	if err != nil {
		return nil, err
	}
	if v.Old != nil && SameButTags(old, theirs) {
		takeContent(&b.theirs, v.Mine)
		b.tags = true
		return nil, nil
	}
	if v.Old != nil && SameButTags(old, mine) {
		takeContent(&b.mine, v.Theirs)
		return nil, nil
	}
	m, err := Contents(b.path, old, mine, theirs, v.Names)
	if err == nil && len(m.Content) <= maxShared {
		w.Texts.Store(key, m)
	}
	return m, err
}

// maxShared is the size in bytes above which a merged text is not kept for other jails.
const maxShared = 64 << 10

// checked takes a merged content, unless a checker rejects it and accepts both sides.
func (b *entryMerge) checked(ctx context.Context, content []byte) error {
	problem, err := b.rejects(ctx, content)
	if err != nil {
		return err
	}
	if problem != "" {
		b.both, b.rejected, b.text = append(b.both, "the text"), problem, content
		return nil
	}
	e := b.m.made(b.path, content, b.from.Mine)
	takeContent(&b.mine, &e)
	takeContent(&b.theirs, &e)
	return nil
}

// rejects returns what a checker says against a merged content, "" if it says something against a side too.
func (b *entryMerge) rejects(ctx context.Context, content []byte) (string, error) {
	check := b.m.Tools.Check
	if check == nil {
		return "", nil
	}
	problem, skipped := check(ctx, b.path, content)
	if skipped != "" {
		b.notes = append(b.notes, "not checked: "+skipped)
	}
	if problem == "" {
		return "", nil
	}
	for _, e := range []*tree.Entry{b.from.Mine, b.from.Theirs} {
		side, err := b.m.content(e)
		if err != nil {
			return "", err
		}
		if before, _ := check(ctx, b.path, side); before != "" {
			return "", nil // the merge made it no worse
		}
	}
	return problem, nil
}
