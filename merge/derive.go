package merge

import (
	"errors"
	"slices"
	"strings"

	"cfgd/internal/pathname"
	"cfgd/overlay/store"
)

// derive updates the files that are made from other files: passwd, which cfgd makes itself, and the
// databases, which the system's programs make. If a program is missing, the old database stays, and a note
// says so.
func (w *Merger) derive() error {
	for _, p := range Products {
		u := w.at(p.Source)
		switch {
		case u == nil || u.Verdict == VerdictKept || u.Verdict == VerdictGone:
			continue // nobody changed the source
		case u.Override == nil:
			w.follow(p)
			continue
		}
		if err := w.remake(u, p); err != nil {
			return err
		}
	}
	slices.SortFunc(w.Result.Outcomes, func(a, b Outcome) int { return pathname.Compare(a.Path, b.Path) })
	return nil
}

// at returns the outcome of a path, nil if there is none.
func (w *Merger) at(path string) *Outcome {
	i := slices.IndexFunc(w.Result.Outcomes, func(u Outcome) bool { return u.Path == path })
	if i < 0 {
		return nil
	}
	return &w.Result.Outcomes[i]
}

// follow drops the overrides of a source's products, because the source is the default now.
func (w *Merger) follow(p Product) {
	for _, path := range p.Makes {
		if u := w.at(path); u != nil && u.Override != nil && w.Base.Tree.Has(path) && !w.Old.Pinned(path) {
			*u = Outcome{
				Path:    path,
				Verdict: VerdictEqual,
				Notes:   []string{"made of " + p.Source + ", which is the default now"},
			}
		}
	}
}

// remake makes the products of a source that the merge changed.
func (w *Merger) remake(u *Outcome, p Product) error {
	content, err := w.content(&u.Override.Entry)
	if err != nil {
		return err
	}
	made := map[string][]byte{}
	if p.Make != nil {
		if made, err = p.Make(content); err != nil {
			u.note("%s is not made anew: %v", strings.Join(p.Makes, ", "), err)
			return nil
		}
	} else if w.Tools.Derive != nil {
		var command string
		made, command, err = w.Tools.Derive(w.ctx, p.Source, content)
		if command != "" {
			w.Result.Commands = append(w.Result.Commands, command)
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
		if w.at(path) != nil || w.Base.Tree.Has(path) {
			missed = append(missed, path)
		}
	}
	if len(missed) > 0 {
		at := w.at(p.Source) // product may have moved the slice's elements
		at.note("%s kept as they are: %s", strings.Join(missed, " and "), p.Missing(err, w.Etc))
	}
	return nil
}

// announce notes that products will be made.
func (w *Merger) announce(p Product) {
	for _, path := range p.Makes {
		if u := w.at(path); u != nil {
			u.Verdict, u.Notes, u.conflict = VerdictMerged, []string{"made of " + p.Source}, nil
		}
	}
}

// product adds a file that was made anew to the outcomes.
func (w *Merger) product(path, source string, content []byte) error {
	theirs, err := w.Base.Entry(path)
	if err != nil {
		return err
	}
	src := w.at(source)
	like := theirs
	u := w.at(path)
	if u != nil && u.Override != nil {
		like = &u.Override.Entry
	}
	if like == nil {
		like = &src.Override.Entry
	}
	if u == nil {
		w.Result.Outcomes = append(w.Result.Outcomes, Outcome{Path: path})
		u = &w.Result.Outcomes[len(w.Result.Outcomes)-1]
	}
	e := w.made(path, content, like)
	*u = Outcome{
		Path:     path,
		Verdict:  VerdictMerged,
		Override: &store.Override{Entry: e, Default: theirs},
		Notes:    []string{"made of " + source},
	}
	if theirs != nil && w.same(&e, theirs) {
		w.equal(u, &e, theirs)
	}
	return nil
}
