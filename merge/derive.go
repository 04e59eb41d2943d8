package merge

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Product is a set of files made from another file. All paths are below etc.
type Product struct {
	Source string
	Makes  []string
	// Needed says that programs read the products and not the source. Other products are only faster.
	Needed bool
	// Make makes them, if no program of the system is needed.
	Make func(source []byte) (map[string][]byte, error)
	// Command makes them from a copy of the source that is alone in DIR, and leaves them there.
	Command []string
	ByHand  string // what an administrator can run instead, on the live ETC
}

// Products lists all products: pwd_mkdb(8), cap_mkdb(1), newaliases(1), services_mkdb(8).
var Products = []Product{
	{
		Source: "master.passwd",
		Makes:  []string{"passwd"},
		Needed: true,
		Make:   makePasswd,
		ByHand: "pwd_mkdb -p -d ETC ETC/master.passwd",
	},
	{
		Source:  "master.passwd",
		Makes:   []string{"pwd.db", "spwd.db"},
		Needed:  true,
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
	{Source: "aliases", Makes: []string{"aliases.db"}, ByHand: "newaliases"},
	{
		Source:  "services",
		Makes:   []string{"services.db"},
		Command: []string{"services_mkdb", "-q", "-o", "DIR/services.db", "DIR/services"},
		ByHand:  "services_mkdb -q -o ETC/services.db ETC/services",
	},
}

func makePasswd(master []byte) (map[string][]byte, error) {
	b, err := Passwd(master)
	return map[string][]byte{"passwd": b}, err
}

// Remedy returns the command that an administrator runs to make the products in a live etc.
func (p Product) Remedy(etc string) string {
	if !strings.Contains(p.ByHand, "ETC") && etc != "/etc" {
		return p.ByHand + " in the jail" // the host's program would make the host's
	}
	return strings.ReplaceAll(p.ByHand, "ETC", etc)
}

// Like returns the metadata of a product that was not there before, as the programs of the system set them:
// everybody reads it, except where it holds passwords.
func (p Product) Like(path string, source *tree.Entry) *tree.Entry {
	e := *source
	e.Path, e.Mode, e.Flags, e.Xattrs, e.Unlisted = path, 0o644, 0, "", ""
	if path == "spwd.db" {
		e.Mode = 0o600
	}
	return &e
}

// Remake makes the products of a source's content. there says which of them exist now, and etc is live's
// path. The note names those that stay as they are, why, and what to run. The error is ErrPlanned for a plan.
func (p Product) Remake(
	ctx context.Context, t Tools, content []byte, there func(path string) bool, etc string,
) (made map[string][]byte, command, note string, err error) {
	switch {
	case p.Make != nil:
		made, err = p.Make(content)
	case t.Derive != nil && len(p.Command) > 0:
		made, command, err = t.Derive(ctx, p.Source, content)
	default:
		err = exec.ErrNotFound
	}
	if errors.Is(err, ErrPlanned) {
		return nil, command, "", err
	}
	if err != nil {
		made = nil // all or nothing: the products belong together
	}
	var old, none []string
	for _, path := range p.Makes {
		if _, ok := made[path]; ok {
			continue
		}
		if there(path) {
			old = append(old, path)
		} else if p.Needed {
			none = append(none, path)
		}
	}
	var parts []string
	if len(old) > 0 {
		kept := " kept as they are"
		if len(old) == 1 {
			kept = " kept as it is"
		}
		parts = append(parts, strings.Join(old, " and ")+kept)
	}
	if len(none) > 0 {
		parts = append(parts, strings.Join(none, " and ")+" not made")
	}
	if len(parts) == 0 {
		return made, command, "", nil
	}
	note = fmt.Sprintf("%s: %s; run %s", strings.Join(parts, ", "), why(err, len(p.Makes)), p.Remedy(etc))
	return made, command, note, nil
}

// WithProducts adds what is made of the paths.
func WithProducts(paths []string) []string {
	all := slices.Clone(paths)
	for _, p := range Products {
		if slices.Contains(paths, p.Source) {
			all = append(all, p.Makes...)
		}
	}
	return all
}

// Exposes reports whether a passwd(5) has an account of master.passwd(5) in a comment, perhaps with its
// password. Earlier versions of cfgd made such files.
func Exposes(passwd []byte) bool {
	for line := range strings.Lines(string(passwd)) {
		if isRemark(line) && strings.Count(line, ":") >= len(accountForms["master.passwd"].fields)-1 {
			return true
		}
	}
	return false
}

// why says why that many products were not made.
func why(err error, many int) string {
	switch {
	case err != nil && !errors.Is(err, exec.ErrNotFound):
		return err.Error()
	case many == 1:
		return "no program here makes it"
	}
	return "no program here makes them"
}

// derive updates the files that are made from other files: passwd, which cfgd makes itself, and the
// databases, which the system's programs make. If a program is missing, the old database stays, and a note
// says so.
func (w *Merger) derive(ctx context.Context, r *Result) error {
	for _, p := range Products {
		u := r.at(p.Source)
		var err error
		switch {
		case u != nil && u.removal != nil:
			// there is no source
		case u == nil || u.Override == nil:
			err = w.ofDefault(ctx, r, p)
		case u.Verdict == VerdictKept || u.Verdict == VerdictGone:
			// nobody changed the source
		default:
			err = w.remake(ctx, r, p, &u.Override.Entry, p.Makes)
		}
		if err != nil {
			return err
		}
	}
	slices.SortFunc(r.Outcomes, func(a, b Outcome) int { return pathname.Compare(a.Path, b.Path) })
	return nil
}

// ofDefault updates the saved products of a source that is the default. Those that the default has too are
// the default's: they were made of it. Others are made anew. If the product's default did not change, the
// source's did not either, and the product stays.
func (w *Merger) ofDefault(ctx context.Context, r *Result, p Product) error {
	var rest []string
	for _, path := range p.Makes {
		u := r.at(path)
		if u == nil || u.Override == nil && u.conflict == nil {
			continue
		}
		theirs, err := w.Base.Entry(path)
		switch {
		case err != nil:
			return err
		case u.Verdict == VerdictKept && r.at(p.Source) == nil && (theirs != nil || r.From == r.To):
		case theirs == nil: // whether the source's default changed is not known
			rest = append(rest, path)
		default:
			*u = Outcome{Path: path, Notes: []string{"made of " + p.Source + ", which is the default now"}}
			w.equal(u, theirs, theirs)
		}
	}
	source, err := w.Base.Entry(p.Source)
	if err != nil || source == nil || len(rest) == 0 {
		return err
	}
	return w.remake(ctx, r, p, source, rest)
}

// remake makes the given products of a source as it is after the merge.
func (w *Merger) remake(ctx context.Context, r *Result, p Product, source *tree.Entry, paths []string) error {
	if source.Kind != dirfd.KindFile || source.Unread != "" {
		return nil
	}
	content, err := w.content(source)
	if err != nil {
		return err
	}
	p.Makes = paths
	there := func(path string) bool {
		u := r.at(path)
		return u != nil && u.Override != nil || u == nil && w.Base.Tree.Has(path)
	}
	made, command, note, err := p.Remake(ctx, w.Tools, content, there, w.Etc)
	if command != "" {
		r.Commands = append(r.Commands, command)
	}
	if errors.Is(err, ErrPlanned) {
		r.announce(p)
		return nil
	}
	if err != nil {
		return err
	}
	for _, path := range paths {
		u := r.at(path)
		if b, ok := made[path]; ok && (p.Needed || u == nil || u.removal == nil) {
			if err := w.product(r, path, b, p.Like(path, source), p.Source); err != nil {
				return err
			}
		}
	}
	if note != "" {
		at := r.at(p.Source) // product may have moved the slice's elements
		if at == nil {
			at = r.at(paths[0])
		}
		at.note("%s", note)
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

// product adds a file that was made anew to the outcomes. It gets like's metadata if it was not there.
func (w *Merger) product(r *Result, path string, content []byte, like *tree.Entry, source string) error {
	theirs, err := w.Base.Entry(path)
	if err != nil {
		return err
	}
	if theirs != nil {
		like = theirs
	}
	u := r.at(path)
	if u == nil {
		r.Outcomes = append(r.Outcomes, Outcome{Path: path})
		u = &r.Outcomes[len(r.Outcomes)-1]
	}
	had := u.Override
	if had != nil {
		like = &had.Entry
	}
	e := w.made(path, content, like)
	*u = Outcome{
		Path:     path,
		Verdict:  VerdictMerged,
		Override: &store.Override{Entry: e, Default: theirs},
		Notes:    []string{"made of " + source},
	}
	if had != nil && e.SameContent(&had.Entry) { // it is what it was, with its time
		u.Verdict, u.Override.Entry, u.Notes = VerdictKept, had.Entry, nil
	}
	if theirs != nil && w.same(&e, theirs) {
		w.equal(u, &e, theirs)
	}
	return nil
}
