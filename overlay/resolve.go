package overlay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// ErrNoConflict says that a path has no conflict to resolve.
var ErrNoConflict = errors.New("no conflict")

// Choice says how a conflict is resolved.
type Choice struct {
	Take    config.OnConflict // mine or theirs; "" means live's version, or cfg's if live is not populated
	Content []byte            // if not nil, this content, whatever Take says
}

// Resolve settles conflicts in live and cfg as one generation. Each path must have a conflict.
func (o *Overlay) Resolve(ctx context.Context, paths []string, how Choice) (*Restored, error) {
	words := string(how.Take)
	if how.Take == "" || how.Content != nil {
		words = "edited"
	}
	if words != "edited" || how.Content != nil {
		message := fmt.Sprintf("before %s was resolved", listed(paths))
		if err := saveFirst(ctx, o, merge.WithProducts(paths), message); err != nil {
			return nil, err
		}
	}
	return rewrite(ctx, o, paths, func(a *edit) error {
		for _, path := range paths {
			if err := a.resolve(path, how); err != nil {
				return err
			}
		}
		a.next.Message = fmt.Sprintf("resolved %s: %s", listed(paths), words)
		return nil
	})
}

// Pin makes paths overrides that stay even if they equal base. With off it ends that.
func (o *Overlay) Pin(ctx context.Context, paths []string, off bool) (*Restored, error) {
	return rewrite(ctx, o, nil, func(a *edit) error {
		word := "pinned"
		if off {
			word = "unpinned"
		}
		a.next.Message = word + " " + listed(paths)
		for _, path := range paths {
			if err := a.pin(path, off); err != nil {
				return err
			}
		}
		return nil
	})
}

// ConflictText returns both versions of a conflict with markers between them. The taken version is as it is
// now, because it may have been edited since. It is an error if they are not text.
func (o *Overlay) ConflictText(ctx context.Context, path string) ([]byte, error) {
	w, err := o.open(ctx, toRead, LookOptions{})
	if err != nil {
		return nil, err
	}
	defer w.close()
	a := &edit{opened: w, next: w.s.Manifest}
	return a.text(path)
}

func (a *edit) text(path string) ([]byte, error) {
	c, ok := a.next.ConflictAt(path)
	if !ok {
		return nil, fmt.Errorf("%s: %w", pathname.Quote(path), ErrNoConflict)
	}
	now, err := a.present(path)
	if err != nil {
		return nil, err
	}
	if c.Text == nil || now == nil || now.Kind != dirfd.KindFile {
		return nil, fmt.Errorf("%s: %w", pathname.Quote(path), merge.ErrNoText)
	}
	text, err := a.bytes(c.Text)
	if err != nil || now.SameContent(c.TakenEntry()) {
		return text, err
	}
	mine, theirs := now, c.Theirs
	if c.Taken == config.ConflictTheirs {
		mine, theirs = c.Mine, now
	}
	old, m, t, err := merge.Versions{Old: c.Old, Mine: mine, Theirs: theirs}.Read(maxMerged, a.bytes)
	if err != nil {
		return nil, err
	}
	merged, err := merge.Contents(path, old, m, t, merge.NamesIn(text, merge.NamesOf(c.From, c.To)))
	if err != nil {
		return nil, err
	}
	return merged.Content, nil
}

// Reject turns the last merge of a path into a conflict, and returns the merged content too. It is used if a
// checker that needs all of etc in place refuses that content.
func (o *Overlay) Reject(ctx context.Context, path, why string) (merged []byte, done *Restored, err error) {
	done, err = rewrite(ctx, o, []string{path}, func(a *edit) error {
		a.next.Message = fmt.Sprintf("rejected the merge of %s", pathname.Quote(path))
		merged, err = a.reject(path, why)
		return err
	})
	return merged, done, err
}

// reject takes one of the two merged versions again: that of the generation before, or the default.
func (a *edit) reject(path, why string) ([]byte, error) {
	c, err := a.conflictOf(path, why)
	if err != nil {
		return nil, err
	}
	merged, err := a.s.Content(c.Text)
	if err != nil {
		return nil, err
	}
	i, _ := slices.BinarySearchFunc(a.next.Conflicts, path,
		func(c store.Conflict, p string) int { return pathname.Compare(c.Path, p) })
	a.next.Conflicts = slices.Insert(a.next.Conflicts, i, *c)
	if err := a.set(path, c.TakenEntry()); err != nil {
		return nil, err
	}
	if o, ok := a.next.Override(path); ok {
		o.Default = c.Old // still to be resolved
	}
	return merged, nil
}

// conflictOf returns the conflict that stands for the last merge of a path. Its text is the merged one.
func (a *edit) conflictOf(path, why string) (*store.Conflict, error) {
	m := a.s.Manifest
	now, ok := m.Override(path)
	if !ok || len(m.Merges) == 0 {
		return nil, fmt.Errorf("%s: no merge is known that it came of", pathname.Quote(path))
	}
	n := m.Merges[len(m.Merges)-1]
	then, err := a.s.Generation(n - 1)
	if err != nil {
		return nil, err
	}
	mine, ok := then.Override(path)
	theirs, err := a.v.Base.Entry(path)
	if err != nil || !ok || theirs == nil {
		return nil, errors.Join(err, fmt.Errorf("%s: its two versions are not known", pathname.Quote(path)))
	}
	return &store.Conflict{
		Path:   path,
		From:   then.BaseID,
		To:     m.BaseID,
		Taken:  policyOf(a.o.Target),
		Why:    why,
		Old:    mine.Default,
		Mine:   &mine.Entry,
		Theirs: theirs,
		Text:   &now.Entry,
	}, nil
}

func (a *edit) resolve(path string, how Choice) error {
	c, ok := a.next.ConflictAt(path)
	if !ok {
		return fmt.Errorf("%s: %w; cfgd resolve --list shows them", pathname.Quote(path), ErrNoConflict)
	}
	want, err := a.chosen(c, how)
	if err != nil {
		return err
	}
	if c.Mine != nil && c.Mine.Kind == dirfd.KindDir && (want == nil || want.Kind != dirfd.KindDir) {
		a.dropBelow(path)
	}
	a.next.Conflicts = slices.DeleteFunc(a.next.Conflicts,
		func(x store.Conflict) bool { return x.Path == path })
	return a.set(path, want)
}

// dropBelow drops the overrides below a directory that goes.
func (a *edit) dropBelow(path string) {
	a.next.Overrides = slices.DeleteFunc(a.next.Overrides,
		func(o store.Override) bool { return pathname.Within(o.Path, path) })
}

// chosen returns the entry for a choice.
func (a *edit) chosen(c *store.Conflict, how Choice) (*tree.Entry, error) {
	now, err := a.present(c.Path)
	switch {
	case err != nil:
		return nil, err
	case how.Content != nil:
		like := now
		if like == nil || like.Kind != dirfd.KindFile {
			like = c.Mine
		}
		if like == nil || like.Kind != dirfd.KindFile {
			return nil, fmt.Errorf("%s is no file: take one of the two with --mine or --theirs",
				pathname.Quote(c.Path))
		}
		e := *like
		e.Size, e.Digest, e.MTime = int64(len(how.Content)), tree.SumOf(how.Content), a.o.now().UnixNano()
		e.ClearStamp()
		a.fresh[e.Digest] = how.Content
		return &e, nil
	case how.Take == "" || how.Take == c.Taken:
		return now, nil // with the edits made since
	case how.Take == config.ConflictMine:
		return c.Mine, nil
	}
	return c.Theirs, nil
}

func (a *edit) pin(path string, off bool) error {
	i, there := slices.BinarySearchFunc(a.next.Pins, path, pathname.Compare)
	switch {
	case off && !there:
		return fmt.Errorf("%s is not pinned", pathname.Quote(path))
	case off:
		a.next.Pins = slices.Delete(a.next.Pins, i, i+1)
	case !a.v.SavedTree().Has(path):
		return fmt.Errorf("%s is neither a default nor saved: there is nothing to pin", pathname.Quote(path))
	case !there:
		a.next.Pins = slices.Insert(a.next.Pins, i, path)
	}
	return nil
}
