package overlay

import (
	"errors"
	"slices"
	"strings"

	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay/store"
)

// derive brings the files that are made of others into line with what became of those: passwd, which cfgd makes itself, and the
// databases, which the system's own programs make. Where such a program is missing the old database is kept, and that is said.
func (w *merger) derive() error {
	for _, p := range merge.Products {
		u := w.at(p.Source)
		switch {
		case u == nil || u.Verdict == VerdictKept || u.Verdict == VerdictGone:
			continue // nobody changed what they are made of
		case u.override == nil:
			w.follow(p)
			continue
		}
		if err := w.remake(u, p); err != nil {
			return err
		}
	}
	slices.SortFunc(w.out.Outcomes, func(a, b Outcome) int { return pathname.Compare(a.Path, b.Path) })
	return nil
}

// at is the outcome of a path, nil where there is none.
func (w *merger) at(path string) *Outcome {
	i := slices.IndexFunc(w.out.Outcomes, func(u Outcome) bool { return u.Path == path })
	if i < 0 {
		return nil
	}
	return &w.out.Outcomes[i]
}

// follow releases the products of a source that is the default now.
func (w *merger) follow(p merge.Product) {
	for _, path := range p.Makes {
		if u := w.at(path); u != nil && u.override != nil && w.base.Tree.Has(path) && !w.old.Pinned(path) {
			*u = Outcome{Path: path, Verdict: VerdictEqual, Notes: []string{"made of " + p.Source + ", which is the default now"}}
		}
	}
}

// remake makes the products of a source that the merge changed.
func (w *merger) remake(u *Outcome, p merge.Product) error {
	content, err := w.content(&u.override.Entry)
	if err != nil {
		return err
	}
	made := map[string][]byte{}
	if p.Make != nil {
		if made, err = p.Make(content); err != nil {
			u.note("%s is not made anew: %v", strings.Join(p.Makes, ", "), err)
			return nil
		}
	} else if w.tools.Derive != nil {
		var command string
		made, command, err = w.tools.Derive(w.ctx, p.Source, content)
		if command != "" {
			w.out.Commands = append(w.out.Commands, command)
		}
	}
	if errors.Is(err, ErrPlanned) {
		w.announce(p)
		return nil
	}
	var missed []string
	for _, path := range p.Makes {
		if b, ok := made[path]; ok && err == nil {
			if err := w.product(path, p.Source, b); err != nil {
				return err
			}
			continue
		}
		if w.at(path) != nil || w.base.Tree.Has(path) {
			missed = append(missed, path)
		}
	}
	if len(missed) > 0 {
		at := w.at(p.Source) // product may have moved it
		at.note("%s kept as they are: %s", strings.Join(missed, " and "), p.Missing(err, w.etc))
	}
	return nil
}

// announce says of products that they will be made.
func (w *merger) announce(p merge.Product) {
	for _, path := range p.Makes {
		if u := w.at(path); u != nil {
			u.Verdict, u.Notes, u.conflict = VerdictMerged, []string{"made of " + p.Source}, nil
		}
	}
}

// product takes a file that was made anew.
func (w *merger) product(path, source string, content []byte) error {
	theirs, err := w.base.Entry(path)
	if err != nil {
		return err
	}
	src := w.at(source)
	like := theirs
	u := w.at(path)
	if u != nil && u.override != nil {
		like = &u.override.Entry
	}
	if like == nil {
		like = &src.override.Entry
	}
	if u == nil {
		w.out.Outcomes = append(w.out.Outcomes, Outcome{Path: path})
		u = &w.out.Outcomes[len(w.out.Outcomes)-1]
	}
	e := w.made(path, content, like)
	*u = Outcome{Path: path, Verdict: VerdictMerged, override: &store.Override{Entry: e, Default: theirs}, Notes: []string{"made of " + source}}
	if theirs != nil && w.same(&e, theirs) {
		w.equal(u, &e, theirs)
	}
	return nil
}
