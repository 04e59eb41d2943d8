package overlay

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// View is what a look found: three trees and the differences between them.
type View struct {
	Time    time.Time // when the look began: the trees hold what was saved by then
	Base    *store.Base
	Live    *tree.Tree // nil if live is not populated
	Plain   *tree.Tree
	Current *store.Manifest

	Local   []tree.Change // live against base
	Unsaved []tree.Change // live against the saved tree
	Stored  []tree.Change // the saved tree against base

	// NotPopulated says why there is no live tree. It is nil if there is one.
	NotPopulated error
	Notices      []string
	Adopted      []string
	Free         uint64 // bytes left in cfg's filesystem
	ReadOnly     bool   // cfg is read-only

	class   func(string) config.Class
	ignored map[string]bool // the paths that NanoBSD ignores
	diffs   *differences
	trees   *Trees
}

// setLive adds a scan of live, which lacks what its filesystem refused.
func (v *View) setLive(scan *tree.Tree, refused []tree.Refused) {
	v.Live = v.diffs.withRefused(scan, refused)
	v.diffs.with(v.Live)
	v.Local, v.Unsaved = v.diffs.local, v.diffs.unsaved
}

// Class returns the class of a path.
func (v *View) Class(path string) config.Class { return v.class(path) }

// Has reports whether a path is in one of the three trees.
func (v *View) Has(p string) bool {
	for _, t := range []*tree.Tree{v.Base.Tree, v.Plain, v.Live} {
		if t.Has(p) {
			return true
		}
	}
	return p == ""
}

// SavedTree returns the saved tree: what the next start will produce.
func (v *View) SavedTree() *tree.Tree { return v.diffs.saved() }

// Unmerged returns the id of the base that cfg was made against, if live has another base and the two were
// not merged; else "".
func (v *View) Unmerged() string {
	if m := v.Current; v.NotPopulated == nil && m != nil && m.Generation > 0 && m.BaseID != v.Base.ID &&
		len(m.Overrides)+len(m.Removals) > 0 {
		return m.BaseID
	}
	return ""
}

// LeftOut returns the fifos, sockets and devices of base that are not in live, because cfgd makes none. Their
// absence is no deletion.
func (v *View) LeftOut() []*tree.Entry { return leftOut(v.Base.Tree, v.SavedTree(), v.Live) }

func leftOut(base, saved, live *tree.Tree) []*tree.Entry {
	var out []*tree.Entry
	for i := range base.Entries {
		e := &base.Entries[i]
		if e.Kind.Special() && !saved.Has(e.Path) && !live.Has(e.Path) {
			out = append(out, e)
		}
	}
	return out
}

// leftOutNotice says which defaults a start does not make.
func leftOutNotice(all []*tree.Entry) string {
	var names []string
	for _, e := range all[:min(len(all), 3)] {
		names = append(names, fmt.Sprintf("%s (%s)", pathname.Quote(e.Path), e.Kind))
	}
	text := strings.Join(names, ", ")
	if more := len(all) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return "left out of the defaults: " + text + ": fifos, sockets and devices are not made"
}

// HandEdited reports whether a path was changed in cfg by hand and live has not taken it yet.
func (v *View) HandEdited(path string) bool { return v.Current != nil && v.Current.HandEdited(path) }

// neverShown reports whether a path is never shown, because its class is volatile or ignore.
func (v *View) neverShown(path string) bool {
	c := v.class(path)
	return c == config.Volatile || c == config.Ignore
}

// Visible drops from a list of changes what is not shown: volatile, ignored and derived paths, what a scan
// could not read, and directories that the paths in them imply.
func (v *View) Visible(changes []tree.Change) []tree.Change {
	var out []tree.Change
	for i, c := range changes {
		switch {
		case v.neverShown(c.Path), v.class(c.Path) == config.Derived:
		case v.Live != nil && v.Live.WhySkipped(c.Path) != "" && (c.New == nil || c.New.Unread == ""):
		case implied(changes, i):
		default:
			out = append(out, c)
		}
	}
	return out
}

// implied reports whether the next change shows that a directory came or went.
func implied(changes []tree.Change, i int) bool {
	c := changes[i]
	if c.FileKind() != dirfd.KindDir || c.Kind != tree.Added && c.Kind != tree.Deleted ||
		i+1 == len(changes) {
		return false
	}
	if c.Kind == tree.Added && c.New.Mode != tree.UsualDir {
		return false // its permissions must be shown
	}
	return pathname.Within(changes[i+1].Path, c.Path)
}

// Conflicts lists the conflicts that nobody has resolved.
func (v *View) Conflicts() []store.Conflict {
	if v.Current == nil {
		return nil
	}
	return v.Current.Conflicts
}

// XattrChange is an extended attribute that differs.
type XattrChange struct {
	Name string
	Kind tree.ChangeKind // Added, Modified or Deleted
}

// XattrChanges lists the attributes that a change changed, by name. An added path lists all that it has. A
// deleted path lists none, and neither does a tree whose filesystem has no attributes.
func (v *View) XattrChanges(c tree.Change) (all []XattrChange) {
	if c.New == nil || v.Base.Tree.NoXattrs || v.Live != nil && v.Live.NoXattrs {
		return nil
	}
	var was []dirfd.Xattr
	now, err := tree.UnpackXattrs(c.New.Xattrs)
	if c.Old != nil && err == nil {
		was, err = tree.UnpackXattrs(c.Old.Xattrs)
	}
	if err != nil { // can't happen in the result of a scan
		return nil
	}
	old := map[string]string{}
	for _, x := range was {
		old[x.Name] = string(x.Value)
	}
	for _, x := range now {
		if value, ok := old[x.Name]; !ok {
			all = append(all, XattrChange{x.Name, tree.Added})
		} else if value != string(x.Value) {
			all = append(all, XattrChange{x.Name, tree.Modified})
		}
		delete(old, x.Name)
	}
	for name := range old {
		all = append(all, XattrChange{name, tree.Deleted})
	}
	slices.SortFunc(all, func(a, b XattrChange) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Read returns the content of an entry of one of the view's trees: live, saved or base. It reads at most
// limit bytes.
func (v *View) Read(e *tree.Entry, which string, limit int64) ([]byte, error) {
	if e.Kind == dirfd.KindSymlink {
		return []byte(e.Link), nil
	}
	open := v.Base.Open
	if which == "live" {
		open = v.trees.OpenLive
	} else if which == "saved" && v.Plain.Has(e.Path) {
		open = v.trees.OpenCfg
	}
	root, err := open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := tree.OpenFile(root, e.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// SaveOptions say what a save is about.
type SaveOptions struct {
	Paths   []string        // and all below them; nil means everything
	Force   bool            // save what the guard holds, and overwrite what was changed in cfg by hand
	DryRun  bool            // compute only, and change nothing
	Message string          // kept with the generation
	Times   bool            // save times that changed alone
	Dirty   map[string]bool // directories of live to read; nil means all
	Rehash  bool
	// Ready, if not nil, says how a change is saved. Nil means that every change is Settled.
	Ready func(tree.Change) Readiness
}

// Readiness says whether and how a save takes a change.
type Readiness int

const (
	// Unsettled changes are left for a later save.
	Unsettled Readiness = iota
	// Settled changes are saved. A file that changes while it is read or copied is left for a later save.
	Settled
	// Overdue changes are saved as they are. Of a file that changes while it is copied, one read is saved.
	Overdue
)

// AsItIs is the Ready of a save that takes what is there now, settled or not.
func AsItIs(tree.Change) Readiness { return Overdue }

// ready returns the readiness of a change. A file that changed while it was scanned has not settled.
func (so SaveOptions) ready(c tree.Change) Readiness {
	r := Settled
	if so.Ready != nil {
		r = so.Ready(c)
	}
	if r == Settled && c.New != nil && c.New.Unread == tree.MovedOn {
		return Unsettled
	}
	return r
}

// Result is what a save did, or what it would do with DryRun.
type Result struct {
	View       *View
	Generation int // the current generation after the save
	Saved      []tree.Change
	Released   []string     // overrides dropped because live equals base again
	Times      int          // number of overrides of which only the time was saved
	Kept       []store.Kept // what is not saved because of its class or kind
	Conflicts  []string     // changed by hand in cfg, and in live too: left alone
	Pending    []string     // changed by hand in cfg alone: left alone until the next populate takes them
	Unsettled  []string     // not ready, or changed while they were copied: left for the next save
}

// Visible returns the saved changes, filtered as by View.Visible and without those in Released.
func (r *Result) Visible() []tree.Change {
	released := map[string]bool{}
	for _, p := range r.Released {
		released[p] = true
	}
	return slices.DeleteFunc(r.View.Visible(r.Saved), func(c tree.Change) bool { return released[c.Path] })
}

// differences are the differences between base, cfg and live, and the trees that they are computed from.
type differences struct {
	base, plain *tree.Tree
	manifest    *store.Manifest

	completed *tree.Tree // plain, with what only the manifest can hold: flags and attributes
	tree      *tree.Tree // the saved tree; nil if it was dropped
	stored    []tree.Change

	scanned, whole *tree.Tree // a scan of live, and that scan with what live can't hold

	live           *tree.Tree
	local, unsaved []tree.Change
}

func newDifferences(base, plain *tree.Tree, m *store.Manifest) *differences {
	d := &differences{
		base:      base,
		plain:     plain,
		manifest:  m,
		completed: store.WithManifest(base, plain, m),
	}
	d.stored = clone(d.made(tree.Delta(base, d.saved())))
	return d
}

// saved returns the saved tree, and builds it if necessary.
func (d *differences) saved() *tree.Tree {
	if d.tree == nil {
		d.tree = tree.Saved(d.base, d.completed, d.manifest.Removals)
	}
	return d.tree
}

// with adds the differences of live.
func (d *differences) with(live *tree.Tree) {
	if d.live == live {
		return
	}
	d.live = live
	d.local = clone(d.made(tree.Delta(d.base, live)))
	d.unsaved = clone(d.made(tree.Delta(d.saved(), live)))
}

// made drops what is no change: a fifo, socket or device of base that live does not have, because cfgd does
// not make it, or that live has, because something else made it.
func (d *differences) made(changes []tree.Change) []tree.Change {
	return slices.DeleteFunc(changes, func(c tree.Change) bool {
		switch {
		case c.New == nil:
			return c.Old.Kind.Special()
		case c.Old == nil && c.New.Kind.Special():
			b, ok := d.base.Get(c.Path)
			return ok && b.Kind == c.New.Kind
		}
		return false
	})
}

// withRefused returns a scan of live completed with what live's filesystem refused. The same scan gives the
// same tree.
func (d *differences) withRefused(scan *tree.Tree, refused []tree.Refused) *tree.Tree {
	if len(refused) == 0 && !scan.NoXattrs {
		return scan
	}
	if d.scanned != scan {
		d.scanned, d.whole = scan, scan.WithRefused(refused, d.saved())
	}
	return d.whole
}

// clone gives changes their own copies of entries. An entry that points into a tree would keep all of that
// tree in memory.
func clone(changes []tree.Change) []tree.Change {
	own := func(e *tree.Entry) *tree.Entry {
		if e == nil {
			return nil
		}
		c := *e
		return &c
	}
	for i := range changes {
		changes[i].Old, changes[i].New = own(changes[i].Old), own(changes[i].New)
	}
	return changes
}
