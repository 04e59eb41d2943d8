package merge

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
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Verdict is the result of a merge for one override or removal, in the words of --json.
type Verdict string

// The verdicts.
const (
	VerdictKept     Verdict = "kept"     // the default did not change
	VerdictMerged   Verdict = "merged"   // both changed, and were merged
	VerdictEqual    Verdict = "equal"    // equals the new default: the override goes, unless it is pinned
	VerdictConflict Verdict = "conflict" // both changed, differently
	VerdictGone     Verdict = "gone"     // the default is gone, the override stays
	VerdictRemoved  Verdict = "removed"  // the default changed, the removal stays
	VerdictBoth     Verdict = "both"     // both added it, differently: a conflict too
)

// Outcome is what a merge does with one path.
type Outcome struct {
	Path    string
	Verdict Verdict
	Notes   []string // what a reader should know, without secrets; empty if there is nothing to tell

	Override *store.Override // what cfg holds afterwards, nil for nothing
	removal  *tree.Removal
	conflict *store.Conflict
}

// Clash reports whether the outcome is a conflict.
func (u *Outcome) Clash() bool { return u.Verdict == VerdictConflict || u.Verdict == VerdictBoth }

func (u *Outcome) note(format string, args ...any) {
	u.Notes = append(u.Notes, fmt.Sprintf(format, args...))
}

// Result is what a merge makes of a generation of cfg on another base. It is a value; computing it writes
// nothing.
type Result struct {
	From, To   string // base ids
	Generation int    // the generation that was merged
	Paired     int    // the earlier generation on the new base that is restored, 0 if there is none
	Outcomes   []Outcome
	Commands   []string // programs that make databases of merged files

	Next *store.Manifest
	Made map[tree.Digest][]byte // contents that the merge made
}

// Conflicts counts the outcomes that are conflicts.
func (m *Result) Conflicts() int {
	n := 0
	for i := range m.Outcomes {
		if m.Outcomes[i].conflict != nil {
			n++
		}
	}
	return n
}

// ErrPlanned is what Tools.Derive returns for a plan: the command runs when the plan is carried out.
var ErrPlanned = errors.New("planned")

// Merged lists the files whose contents were merged.
func (m *Result) Merged() []string {
	var paths []string
	for i := range m.Outcomes {
		u := &m.Outcomes[i]
		if u.Verdict == VerdictMerged && u.Override != nil && u.Override.Kind == dirfd.KindFile {
			paths = append(paths, u.Path)
		}
	}
	return paths
}

// Tools are what a merge needs of the system. Each may be nil; the notes then say what was not done.
type Tools struct {
	// Check returns what a checker says against a content, "" for nothing. skipped says why the checker did
	// not run.
	Check func(ctx context.Context, path string, content []byte) (problem, skipped string)
	// Derive makes the files that are made from another, such as pwd.db from master.passwd. command is what
	// runs, or with ErrPlanned what will run. exec.ErrNotFound means that the system has no such program.
	Derive func(
		ctx context.Context, source string, content []byte,
	) (made map[string][]byte, command string, err error)
}

// Merger computes a Result.
type Merger struct {
	ctx    context.Context
	Base   *store.Base // the new base
	Old    *store.Manifest
	Policy config.OnConflict
	Class  func(path string) config.Class
	// reads what cfg or an earlier generation holds, by path and digest
	Read   func(e *tree.Entry) ([]byte, error)
	Tools  Tools
	Texts  *sync.Map // merged texts, shared by the targets of a Bases
	Xattrs bool
	Max    int64 // bytes; larger contents are not merged
	Now    time.Time
	Etc    string // live's path, for notes

	Prior *PriorBase // nil if cfg was never on this base

	mu     sync.Mutex // guards Result.Made while outcomes are computed
	Result *Result
}

// Run computes the outcome of every override and removal, and the manifest that results.
func (w *Merger) Run(ctx context.Context) error {
	w.ctx = ctx
	w.Result = &Result{
		From:       w.Old.BaseID,
		To:         w.Base.ID,
		Generation: w.Old.Generation,
		Made:       map[tree.Digest][]byte{},
	}
	if w.Prior != nil {
		w.Result.Paired = w.Prior.then.Generation
	}
	if err := w.outcomes(w.paths()); err != nil {
		return err
	}
	if err := w.derive(); err != nil {
		return err
	}
	w.blockedDirs()
	w.manifest()
	return nil
}

// outcomes computes the outcome of each path with a few workers, because most of the time is spent reading.
func (w *Merger) outcomes(paths []string) error {
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
			w.Result.Outcomes = append(w.Result.Outcomes, *u)
		}
	}
	return nil
}

// paths returns all paths that the merge is about, in order.
func (w *Merger) paths() []string {
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
	add(w.Old)
	if w.Prior != nil {
		add(w.Prior.then)
		add(w.Prior.leaving)
	}
	slices.SortFunc(all, pathname.Compare)
	return slices.Compact(all)
}

// outcome decides about one path. Nil means that there is nothing to do and nothing to tell.
func (w *Merger) outcome(path string) (*Outcome, error) {
	theirs, err := w.Base.Entry(path)
	if err != nil {
		return nil, err
	}
	if w.Prior != nil {
		return w.fromPrior(path, theirs)
	}
	o, _ := w.Old.Override(path)
	r, _ := w.Old.Removal(path)
	c, _ := w.Old.ConflictAt(path)
	switch {
	case r != nil:
		return w.removal(r, theirs), nil
	case o != nil:
		return w.mergeVersions(path, Versions{o.Default, &o.Entry, theirs}, o, w.Policy)
	case c != nil && c.Mine != nil: // the default was taken, and has not changed
		return w.mergeVersions(path, Versions{c.Old, c.Mine, theirs},
			&store.Override{Entry: *c.Mine, Default: c.Old}, c.Taken)
	}
	return nil, nil
}

// removal decides about a path that cfg takes out of base.
func (w *Merger) removal(r *tree.Removal, theirs *tree.Entry) *Outcome {
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

// mergeVersions decides about an override by its three versions. as is what cfg holds now.
func (w *Merger) mergeVersions(
	path string, s Versions, as *store.Override, policy config.OnConflict,
) (*Outcome, error) {
	u := &Outcome{Path: path, Verdict: VerdictKept, Override: as}
	switch {
	case s.Theirs == nil && s.Old == nil:
		return u, nil
	case s.Theirs == nil:
		u.Verdict, u.Override = VerdictGone, &store.Override{Entry: *s.Mine, Default: nil}
		u.note("the default went; the saved one stays")
		return u, nil
	case s.Old != nil && w.same(s.Old, s.Theirs):
		return u, nil
	case s.Old != nil && w.Old.Pinned(path) && w.same(s.Old, s.Mine):
		u.note("pinned to the old default: it hides the new one")
		return u, nil
	case w.same(s.Mine, s.Theirs):
		w.equal(u, s.Mine, s.Theirs)
		return u, nil
	}
	b, err := w.mergeEntry(path, s)
	if err != nil {
		return nil, err
	}
	w.fromEntryMerge(u, s, b, policy)
	return u, nil
}

// equal drops an override that equals the new default, unless it is pinned.
func (w *Merger) equal(u *Outcome, mine, theirs *tree.Entry) {
	u.Verdict, u.Override = VerdictEqual, nil
	if w.Old.Pinned(u.Path) {
		u.Override = &store.Override{Entry: *mine, Default: theirs}
		u.note("the same as the new default, and pinned: it stays")
	}
}

// fromEntryMerge turns a merge of three versions into the outcome.
func (w *Merger) fromEntryMerge(u *Outcome, s Versions, b *entryMerge, policy config.OnConflict) {
	u.Notes = append(u.Notes, b.notes...)
	if len(b.clash) == 0 {
		switch {
		case w.same(&b.mine, s.Theirs):
			w.equal(u, &b.mine, s.Theirs)
		case b.tags:
			u.Override = &store.Override{Entry: b.mine, Default: s.Theirs}
		default:
			u.Verdict, u.Override = VerdictMerged, &store.Override{Entry: b.mine, Default: s.Theirs}
		}
		return
	}
	u.Verdict = VerdictConflict
	if s.Old == nil {
		u.Verdict = VerdictBoth
	}
	if s.Mine.Kind == dirfd.KindDir && s.Theirs.Kind != dirfd.KindDir && w.holds(u.Path) {
		policy = config.ConflictMine // what is saved below the directory has no other place
	}
	u.conflict = w.conflict(u.Path, s, b, policy)
	u.note("%s; %s", u.conflict.Why, taken(policy))
	u.Override = &store.Override{Entry: b.mine, Default: s.Old}
	if policy == config.ConflictTheirs {
		u.Override = &store.Override{Entry: b.theirs, Default: s.Theirs}
		if w.same(&b.theirs, s.Theirs) {
			u.Override = nil
		}
	}
}

func taken(policy config.OnConflict) string {
	if policy == config.ConflictTheirs {
		return "the default is taken, the saved one kept aside"
	}
	return "the saved one is taken, the default kept aside"
}

func (w *Merger) conflict(path string, s Versions, b *entryMerge, policy config.OnConflict) *store.Conflict {
	c := &store.Conflict{
		Path:   path,
		From:   w.Old.BaseID,
		To:     w.Base.ID,
		Taken:  policy,
		Why:    b.why(),
		Old:    s.Old,
		Mine:   &b.mine,
		Theirs: &b.theirs,
	}
	if b.text != nil {
		e := w.made(path, b.text, s.Mine)
		c.Text = &e
	}
	return c
}

// made returns a file of new content with the metadata of like.
func (w *Merger) made(path string, content []byte, like *tree.Entry) tree.Entry {
	e := *like
	e.Path, e.Kind, e.Link, e.Unread = path, dirfd.KindFile, "", ""
	e.ClearStamp()
	e.Size, e.Digest, e.MTime = int64(len(content)), tree.SumOf(content), w.Now.UnixNano()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Result.Made[e.Digest] = content
	return e
}

// holds reports whether overrides lie below a directory.
func (w *Merger) holds(dir string) bool {
	for i := range w.Old.Overrides {
		if p := w.Old.Overrides[i].Path; p != dir && pathname.Within(p, dir) {
			return true
		}
	}
	return false
}

// same compares two versions in all but time. Attributes count for files only, because those of other
// defaults were not read.
func (w *Merger) same(a, b *tree.Entry) bool {
	return store.Same(a, b, w.Xattrs && a.Kind == dirfd.KindFile && b.Kind == dirfd.KindFile)
}

// blockedDirs finds the defaults that are in the way of directories of cfg: what was a directory, or nothing,
// is a file now.
func (w *Merger) blockedDirs() {
	seen := map[string]bool{}
	for i := range w.Result.Outcomes {
		u := &w.Result.Outcomes[i]
		seen[u.Path] = seen[u.Path] || u.Override != nil
	}
	for _, u := range slices.Clone(w.Result.Outcomes) {
		if u.Override == nil {
			continue
		}
		for p := pathname.Parent(u.Path); p != "" && !seen[p]; p = pathname.Parent(p) {
			seen[p] = true
			if e, ok := w.Base.Tree.Get(p); ok && e.Kind != dirfd.KindDir && !e.Kind.Special() {
				w.Result.Outcomes = append(w.Result.Outcomes, w.blockedDir(p, e))
			}
		}
	}
	slices.SortStableFunc(w.Result.Outcomes,
		func(a, b Outcome) int { return pathname.Compare(a.Path, b.Path) })
}

// blockedDir returns the conflict between a directory of cfg and a default of another kind. What is below the
// directory has no other place.
func (w *Merger) blockedDir(path string, theirs *tree.Entry) Outcome {
	dir := tree.Entry{
		Path:  path,
		Kind:  dirfd.KindDir,
		Mode:  tree.UsualDir,
		UID:   theirs.UID,
		GID:   theirs.GID,
		MTime: w.Now.UnixNano(),
	}
	t, err := w.Base.Entry(path)
	if err != nil || t == nil {
		t = theirs
	}
	u := Outcome{Path: path, Verdict: VerdictConflict, Override: &store.Override{Entry: dir, Default: nil}}
	u.conflict = &store.Conflict{
		Path:   path,
		From:   w.Old.BaseID,
		To:     w.Base.ID,
		Taken:  config.ConflictMine,
		Mine:   &dir,
		Theirs: t,
		Why:    fmt.Sprintf("a directory with saved files here, a %s in the new default", t.Kind),
	}
	u.note("%s; the directory stays", u.conflict.Why)
	return u
}

// manifest makes the manifest from the outcomes.
func (w *Merger) manifest() {
	m := &store.Manifest{BaseID: w.Base.ID, From: w.Old.BaseID, Pins: w.Old.Pins, Time: w.Now.UTC(),
		Message: fmt.Sprintf("merged from %s to %s", w.Old.BaseID, w.Base.ID)}
	for i := range w.Result.Outcomes {
		u := &w.Result.Outcomes[i]
		if u.Override != nil {
			o := *u.Override
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
	w.Result.Next = m
}

// content reads a content from the merge, cfg, an earlier generation or base.
func (w *Merger) content(e *tree.Entry) ([]byte, error) {
	w.mu.Lock()
	b, ok := w.Result.Made[e.Digest]
	w.mu.Unlock()
	if ok && e.Kind == dirfd.KindFile {
		return b, nil
	}
	b, err := w.Read(e)
	if err == nil || e.Kind != dirfd.KindFile {
		return b, err
	}
	if d := w.Base.Here(e); d != nil {
		return w.Base.Content(d)
	}
	return nil, err
}

// Open is content as a reader.
func (w *Merger) Open(e *tree.Entry) (io.ReadCloser, error) {
	b, err := w.content(e)
	return store.ReaderOf(b), err
}

// NamesOf returns the labels for markers of a merge from one base to another.
func NamesOf(from, to string) Names {
	return Names{Mine: "saved", Old: "default of " + from, Theirs: "default of " + to}
}

// ErrNoText is the error for contents that cannot be merged by lines.
var ErrNoText = errors.New("no text")
