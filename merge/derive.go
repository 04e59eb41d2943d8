package merge

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"cfgd/internal/pathname"
	"cfgd/overlay/store"
)

// Product is a set of files made from another file. All paths are below etc.
type Product struct {
	Source string
	Makes  []string
	// Make makes them, if no program of the system is needed.
	Make func(source []byte) (map[string][]byte, error)
	// Command makes them from a copy of the source that is alone in DIR, and leaves them there.
	Command []string
	ByHand  string // what an administrator can run instead, on the live ETC
}

// Products lists all products: pwd_mkdb(8), cap_mkdb(1), newaliases(1).
var Products = []Product{
	{Source: "master.passwd", Makes: []string{"passwd"}, Make: makePasswd},
	{
		Source:  "master.passwd",
		Makes:   []string{"pwd.db", "spwd.db"},
		Command: []string{"pwd_mkdb", "-p", "-d", "DIR", "DIR/master.passwd"},
		ByHand:  "pwd_mkdb -p -d ETC ETC/master.passwd",
	},
	{
		Source:  "login.conf",
		Makes:   []string{"login.conf.db"},
		Command: []string{"cap_mkdb", "DIR/login.conf"},
		ByHand:  "cap_mkdb ETC/login.conf",
	},
	{Source: "mail/aliases", Makes: []string{"mail/aliases.db"}, ByHand: "newaliases"},
}

func makePasswd(master []byte) (map[string][]byte, error) {
	b, err := Passwd(master)
	return map[string][]byte{"passwd": b}, err
}

// Missing says why the products were not made, and what to run for a live etc.
func (p Product) Missing(err error, etc string) string {
	why := "no program here makes them"
	if err != nil && !errors.Is(err, exec.ErrNotFound) {
		why = err.Error()
	}
	return fmt.Sprintf("%s; run %s", why, p.Remedy(etc))
}

// Remedy returns the command that an administrator runs to make the products in a live etc.
func (p Product) Remedy(etc string) string { return strings.ReplaceAll(p.ByHand, "ETC", etc) }

// derive updates the files that are made from other files: passwd, which cfgd makes itself, and the
// databases, which the system's programs make. If a program is missing, the old database stays, and a note
// says so.
func (w *Merger) derive(ctx context.Context, r *Result) error {
	for _, p := range Products {
		u := r.at(p.Source)
		switch {
		case u == nil || u.Verdict == VerdictKept || u.Verdict == VerdictGone:
			continue // nobody changed the source
		case u.Override == nil:
			w.follow(r, p)
			continue
		}
		if err := w.remake(ctx, r, u, p); err != nil {
			return err
		}
	}
	slices.SortFunc(r.Outcomes, func(a, b Outcome) int { return pathname.Compare(a.Path, b.Path) })
	return nil
}

// follow drops the overrides of a source's products, because the source is the default now.
func (w *Merger) follow(r *Result, p Product) {
	for _, path := range p.Makes {
		if u := r.at(path); u != nil && u.Override != nil && w.Base.Tree.Has(path) && !w.Cfg.Pinned(path) {
			*u = Outcome{
				Path:    path,
				Verdict: VerdictEqual,
				Notes:   []string{"made of " + p.Source + ", which is the default now"},
			}
		}
	}
}

// remake makes the products of a source that the merge changed.
func (w *Merger) remake(ctx context.Context, r *Result, u *Outcome, p Product) error {
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
		made, command, err = w.Tools.Derive(ctx, p.Source, content)
		if command != "" {
			r.Commands = append(r.Commands, command)
		}
	}
	if errors.Is(err, ErrPlanned) {
		r.announce(p)
		return nil
	}
	var missed []string
	for _, path := range p.Makes {
		if b, ok := made[path]; ok && err == nil {
			if err := w.product(r, path, p.Source, b); err != nil {
				return err
			}
			continue
		}
		if r.at(path) != nil || w.Base.Tree.Has(path) {
			missed = append(missed, path)
		}
	}
	if len(missed) > 0 {
		at := r.at(p.Source) // product may have moved the slice's elements
		at.note("%s kept as they are: %s", strings.Join(missed, " and "), p.Missing(err, w.Etc))
	}
	return nil
}

// announce notes that products will be made.
func (m *Result) announce(p Product) {
	for _, path := range p.Makes {
		if u := m.at(path); u != nil {
			u.Verdict, u.Notes, u.conflict = VerdictMerged, []string{"made of " + p.Source}, nil
		}
	}
}

// product adds a file that was made anew to the outcomes.
func (w *Merger) product(r *Result, path, source string, content []byte) error {
	theirs, err := w.Base.Entry(path)
	if err != nil {
		return err
	}
	src := r.at(source)
	like := theirs
	u := r.at(path)
	if u != nil && u.Override != nil {
		like = &u.Override.Entry
	}
	if like == nil {
		like = &src.Override.Entry
	}
	if u == nil {
		r.Outcomes = append(r.Outcomes, Outcome{Path: path})
		u = &r.Outcomes[len(r.Outcomes)-1]
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

// ByHand returns the products of a source that a change by hand leaves old until their commands are run.
func ByHand(source string) []Product {
	var out []Product
	for _, p := range Products {
		if p.Source == source && p.ByHand != "" {
			out = append(out, p)
		}
	}
	return out
}
