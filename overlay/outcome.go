package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Verdict is what a merge comes to for one override or removal, in the words of --json.
type Verdict string

// The verdicts.
const (
	VerdictKept     Verdict = "kept"     // the default did not change
	VerdictMerged   Verdict = "merged"   // both changed, and it could be brought together
	VerdictEqual    Verdict = "equal"    // the same as the new default: the override goes, unless it is pinned
	VerdictConflict Verdict = "conflict" // both changed, and differently
	VerdictGone     Verdict = "gone"     // the default went, the override stays
	VerdictRemoved  Verdict = "removed"  // the default changed, the removal stays
	VerdictBoth     Verdict = "both"     // both added it, and differently: a conflict too
)

// Outcome is what a merge does with one path.
type Outcome struct {
	Path    string
	Verdict Verdict
	Notes   []string // what a reader should know of it, without a secret; for what nobody needs to hear of there are none

	override *store.Override // what cfg holds afterwards, nil where nothing
	removal  *tree.Removal
	conflict *store.Conflict
}

// Clash reports whether the outcome is a conflict.
func (u *Outcome) Clash() bool { return u.Verdict == VerdictConflict || u.Verdict == VerdictBoth }

func (u *Outcome) note(format string, args ...any) {
	u.Notes = append(u.Notes, fmt.Sprintf(format, args...))
}

// Merge is what becomes of a generation of cfg on another base. It is a value: to compute it writes nothing.
type Merge struct {
	From, To   string // base ids
	Generation int    // that it starts from
	Paired     int    // the generation on the same base that it brings back, 0 where it was never on that base
	Outcomes   []Outcome
	Commands   []string // what runs for it: programs that make databases of merged files

	next  *store.Manifest
	fresh map[tree.Digest][]byte // contents that it made
}

// Conflicts counts the outcomes that are conflicts.
func (m *Merge) Conflicts() int {
	n := 0
	for i := range m.Outcomes {
		if m.Outcomes[i].conflict != nil {
			n++
		}
	}
	return n
}

// ErrPlanned is MergeTools.Derive's answer to a plan: the command will run when the plan is carried out.
var ErrPlanned = errors.New("planned")

// Merged lists the files whose contents were brought together.
func (m *Merge) Merged() []string {
	var paths []string
	for i := range m.Outcomes {
		u := &m.Outcomes[i]
		if u.Verdict == VerdictMerged && u.override != nil && u.override.Kind == dirfd.KindFile {
			paths = append(paths, u.Path)
		}
	}
	return paths
}

// MergeTools are what a merge needs of the system. Each may be nil: it is then said what was not done.
type MergeTools struct {
	// Check tells what a checker says against a content, "" for nothing; skipped is why it was not asked.
	Check func(ctx context.Context, path string, content []byte) (problem, skipped string)
	// Derive makes the files that are made of another: pwd.db of master.passwd. The command is what runs, or with ErrPlanned would. An
	// exec.ErrNotFound says that the system has no program for it.
	Derive func(ctx context.Context, source string, content []byte) (made map[string][]byte, command string, err error)
}

// merger computes a Merge.
type merger struct {
	ctx    context.Context
	base   *store.Base // the new one
	old    *store.Manifest
	policy config.OnConflict
	class  func(path string) config.Class
	read   func(e *tree.Entry) ([]byte, error) // what cfg or an earlier generation holds, by path and digest
	tools  MergeTools
	texts  *sync.Map // of Bases
	xattrs bool
	max    int64 // bytes; larger contents are not merged
	now    time.Time
	etc    string // live's path, for what is said of it

	pair *pair // nil where cfg was never on this base

	mu  sync.Mutex // guards out.fresh while outcomes are computed
	out *Merge
}

// run computes the outcome of every override and removal, and the manifest that they make.
func (w *merger) run(ctx context.Context) error {
	w.ctx = ctx
	w.out = &Merge{From: w.old.BaseID, To: w.base.ID, Generation: w.old.Generation, fresh: map[tree.Digest][]byte{}}
	if w.pair != nil {
		w.out.Paired = w.pair.then.Generation
	}
	if err := w.outcomes(w.paths()); err != nil {
		return err
	}
	if err := w.derive(); err != nil {
		return err
	}
	w.ways()
	w.manifest()
	return nil
}

// outcomes computes the outcome of each path, by a few workers: most of the time goes into reading.
func (w *merger) outcomes(paths []string) error {
	all, errs := make([]*Outcome, len(paths)), make([]error, len(paths))
	work := make(chan int)
	var wg sync.WaitGroup
	for range min(max(runtime.NumCPU(), 2), 8, len(paths)) {
		wg.Go(func() {
			for i := range work {
				if errs[i] = w.ctx.Err(); errs[i] == nil {
					all[i], errs[i] = w.outcome(paths[i])
				}
			}
		})
	}
	for i := range paths {
		work <- i
	}
	close(work)
	wg.Wait()
	for i, u := range all {
		if errs[i] != nil {
			return fmt.Errorf("merge %s: %w", pathname.Quote(paths[i]), errs[i])
		}
		if u != nil {
			w.out.Outcomes = append(w.out.Outcomes, *u)
		}
	}
	return nil
}

// paths are all that the merge is about, in order.
func (w *merger) paths() []string {
	var all []string
	add := func(m *store.Manifest) {
		for i := range m.Overrides {
			all = append(all, m.Overrides[i].Path)
		}
		for i := range m.Removals {
			all = append(all, m.Removals[i].Path)
		}
		for i := range m.Conflicts {
			all = append(all, m.Conflicts[i].Path)
		}
	}
	add(w.old)
	if w.pair != nil {
		add(w.pair.then)
		add(w.pair.left)
	}
	slices.SortFunc(all, pathname.Compare)
	return slices.Compact(all)
}

// outcome decides about one path; nil is that there is nothing to do and nothing to tell.
func (w *merger) outcome(path string) (*Outcome, error) {
	theirs, err := w.base.Entry(path)
	if err != nil {
		return nil, err
	}
	if w.pair != nil {
		return w.paired(path, theirs)
	}
	o, _ := w.old.Override(path)
	r, _ := w.old.Removal(path)
	c, _ := w.old.ConflictAt(path)
	switch {
	case r != nil:
		return w.removal(r, theirs), nil
	case o != nil:
		return w.three(path, sides{o.Default, &o.Entry, theirs}, o, w.policy)
	case c != nil && c.Mine != nil: // the default was taken, and is still the default
		return w.three(path, sides{c.Old, c.Mine, theirs}, &store.Override{Entry: *c.Mine, Default: c.Old}, c.Taken)
	}
	return nil, nil
}

// removal decides about a path that cfg takes out of base.
func (w *merger) removal(r *tree.Removal, theirs *tree.Entry) *Outcome {
	u := &Outcome{Path: r.Path, Verdict: VerdictKept, removal: r}
	switch {
	case theirs == nil:
		u.Verdict, u.removal = VerdictEqual, nil
		u.note("the default went as well")
	case r.Default == nil || !w.same(r.Default, theirs):
		u.Verdict, u.removal = VerdictRemoved, &tree.Removal{Path: r.Path, MTime: r.MTime, Default: theirs}
		u.note("the default changed; it stays removed")
	}
	return u
}

// three decides about an override by the three versions of it. as is what cfg holds now.
func (w *merger) three(path string, s sides, as *store.Override, policy config.OnConflict) (*Outcome, error) {
	u := &Outcome{Path: path, Verdict: VerdictKept, override: as}
	switch {
	case s.theirs == nil && s.old == nil:
		return u, nil
	case s.theirs == nil:
		u.Verdict, u.override = VerdictGone, &store.Override{Entry: *s.mine, Default: nil}
		u.note("the default went; the saved one stays")
		return u, nil
	case s.old != nil && w.same(s.old, s.theirs):
		return u, nil
	case s.old != nil && w.old.Pinned(path) && w.same(s.old, s.mine):
		u.note("pinned to the old default: it hides the new one")
		return u, nil
	case w.same(s.mine, s.theirs):
		w.equal(u, s.mine, s.theirs)
		return u, nil
	}
	b, err := w.blend(path, s)
	if err != nil {
		return nil, err
	}
	w.blended(u, s, b, policy)
	return u, nil
}

// equal releases an override that is what the default is by now, unless it is pinned.
func (w *merger) equal(u *Outcome, mine, theirs *tree.Entry) {
	u.Verdict, u.override = VerdictEqual, nil
	if w.old.Pinned(u.Path) {
		u.override = &store.Override{Entry: *mine, Default: theirs}
		u.note("the same as the new default, and pinned: it stays")
	}
}

// blended turns what the three versions came to into the outcome.
func (w *merger) blended(u *Outcome, s sides, b *blend, policy config.OnConflict) {
	u.Notes = append(u.Notes, b.notes...)
	if len(b.clash) == 0 {
		switch {
		case w.same(&b.mine, s.theirs):
			w.equal(u, &b.mine, s.theirs)
		case b.tags:
			u.override = &store.Override{Entry: b.mine, Default: s.theirs}
		default:
			u.Verdict, u.override = VerdictMerged, &store.Override{Entry: b.mine, Default: s.theirs}
		}
		return
	}
	u.Verdict = VerdictConflict
	if s.old == nil {
		u.Verdict = VerdictBoth
	}
	if s.mine.Kind == dirfd.KindDir && s.theirs.Kind != dirfd.KindDir && w.holds(u.Path) {
		policy = config.ConflictMine // what is saved below it has no other place
	}
	u.conflict = w.conflict(u.Path, s, b, policy)
	u.note("%s; %s", u.conflict.Why, taken(policy))
	u.override = &store.Override{Entry: b.mine, Default: s.old}
	if policy == config.ConflictTheirs {
		u.override = &store.Override{Entry: b.theirs, Default: s.theirs}
		if w.same(&b.theirs, s.theirs) {
			u.override = nil
		}
	}
}

func taken(policy config.OnConflict) string {
	if policy == config.ConflictTheirs {
		return "the default is taken, the saved one kept aside"
	}
	return "the saved one is taken, the default kept aside"
}

func (w *merger) conflict(path string, s sides, b *blend, policy config.OnConflict) *store.Conflict {
	c := &store.Conflict{Path: path, From: w.old.BaseID, To: w.base.ID, Taken: policy, Why: b.why(), Old: s.old, Mine: &b.mine, Theirs: &b.theirs}
	if b.text != nil {
		e := w.made(path, b.text, s.mine)
		c.Text = &e
	}
	return c
}

// made is a file of new content with another's metadata.
func (w *merger) made(path string, content []byte, like *tree.Entry) tree.Entry {
	e := *like
	e.Path, e.Kind, e.Link, e.Unread = path, dirfd.KindFile, "", ""
	e.ClearStamp()
	e.Size, e.Digest, e.MTime = int64(len(content)), tree.SumOf(content), w.now.UnixNano()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.fresh[e.Digest] = content
	return e
}

// holds reports whether overrides lie below a directory.
func (w *merger) holds(dir string) bool {
	for i := range w.old.Overrides {
		if p := w.old.Overrides[i].Path; p != dir && tree.Within(p, dir) {
			return true
		}
	}
	return false
}

// same compares two versions in all but time. Attributes count for files: of other defaults they were not read.
func (w *merger) same(a, b *tree.Entry) bool {
	return store.Same(a, b, w.xattrs && a.Kind == dirfd.KindFile && b.Kind == dirfd.KindFile)
}

// ways names the defaults that lie in the way of directories of cfg: what was a directory, or nothing, is a file now.
func (w *merger) ways() {
	seen := map[string]bool{}
	for i := range w.out.Outcomes {
		u := &w.out.Outcomes[i]
		seen[u.Path] = seen[u.Path] || u.override != nil
	}
	for _, u := range slices.Clone(w.out.Outcomes) {
		if u.override == nil {
			continue
		}
		for p := tree.Parent(u.Path); p != "" && !seen[p]; p = tree.Parent(p) {
			seen[p] = true
			if e, ok := w.base.Tree.Get(p); ok && e.Kind != dirfd.KindDir && !e.Kind.Special() {
				w.out.Outcomes = append(w.out.Outcomes, w.inTheWay(p, e))
			}
		}
	}
	slices.SortStableFunc(w.out.Outcomes, func(a, b Outcome) int { return pathname.Compare(a.Path, b.Path) })
}

// inTheWay is the conflict of a directory of cfg with a default that is none. What is below the directory has no other place.
func (w *merger) inTheWay(path string, theirs *tree.Entry) Outcome {
	dir := tree.Entry{Path: path, Kind: dirfd.KindDir, Mode: tree.UsualDir, UID: theirs.UID, GID: theirs.GID, MTime: w.now.UnixNano()}
	t, err := w.base.Entry(path)
	if err != nil || t == nil {
		t = theirs
	}
	u := Outcome{Path: path, Verdict: VerdictConflict, override: &store.Override{Entry: dir, Default: nil}}
	u.conflict = &store.Conflict{Path: path, From: w.old.BaseID, To: w.base.ID, Taken: config.ConflictMine, Mine: &dir, Theirs: t,
		Why: fmt.Sprintf("a directory with saved files here, a %s in the new default", t.Kind)}
	u.note("%s; the directory stays", u.conflict.Why)
	return u
}

// manifest makes the manifest that the outcomes come to.
func (w *merger) manifest() {
	m := &store.Manifest{BaseID: w.base.ID, From: w.old.BaseID, Pins: w.old.Pins, Time: w.now.UTC(),
		Message: fmt.Sprintf("merged from %s to %s", w.old.BaseID, w.base.ID)}
	for i := range w.out.Outcomes {
		u := &w.out.Outcomes[i]
		if u.override != nil {
			o := *u.override
			o.ClearStamp()
			m.Overrides = append(m.Overrides, o)
		}
		if u.removal != nil {
			m.Removals = append(m.Removals, *u.removal)
		}
		if u.conflict != nil {
			m.Conflicts = append(m.Conflicts, *u.conflict)
		}
	}
	m.Removals = tree.CompactRemovals(m.Removals)
	w.out.next = m
}

// content opens what the merge made, or what cfg, an earlier generation or base holds.
func (w *merger) content(e *tree.Entry) ([]byte, error) {
	w.mu.Lock()
	b, ok := w.out.fresh[e.Digest]
	w.mu.Unlock()
	if ok && e.Kind == dirfd.KindFile {
		return b, nil
	}
	b, err := w.read(e)
	if err == nil || e.Kind != dirfd.KindFile {
		return b, err
	}
	if d := w.base.Here(e); d != nil {
		return w.base.Content(d)
	}
	return nil, err
}

// open is content for those who read.
func (w *merger) open(e *tree.Entry) (io.ReadCloser, error) {
	b, err := w.content(e)
	return store.ReaderOf(b), err
}

// namesOf are the labels in a text with markers, of a merge from one base to another.
func namesOf(from, to string) merge.Names {
	return merge.Names{Mine: "saved", Old: "default of " + from, Theirs: "default of " + to}
}

// errNoText says that contents are nothing to be merged by lines.
var errNoText = errors.New("no text")
