package overlay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// From names the state that live paths are restored from: the saved tree (the zero value), base, or a
// generation.
type From struct {
	Base       bool
	Generation int // 0 means none
}

// ParseFrom reads the command line's saved, base or N.
func ParseFrom(s string) (From, error) {
	switch s {
	case "saved", "":
		return From{}, nil
	case "base":
		return From{Base: true}, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return From{}, fmt.Errorf("--from %s: neither saved, base nor the number of a generation", s)
	}
	return From{Generation: n}, nil
}

// Restored is what a restore did.
type Restored struct {
	Changes    []tree.Change // from live before to live after
	Generation int
	Released   []string
	Left       []store.Kept // extended attributes that could not be restored
}

// Restore puts live paths, and all below them, back to a state. If that is base or a generation, the result
// is saved as a new generation. Each file is replaced whole, by a rename.
func (o *Overlay) Restore(
	ctx context.Context, from From, paths []string, message string,
) (done *Restored, err error) {
	err = o.atWork(ctx, func(s *store.Store, v *View) error {
		if v.NotPopulated != nil {
			return v.NotPopulated
		}
		done, err = o.restore(ctx, s, v, from, paths, message)
		return err
	})
	return done, err
}

// atWork runs f under the target's lock, with the store open for writing and a view of the three trees.
func (o *Overlay) atWork(ctx context.Context, f func(*store.Store, *View) error) error {
	unlock, err := o.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return o.opened(ctx, false, f)
}

// opened runs f with the store open and a view of the three trees.
func (o *Overlay) opened(ctx context.Context, readOnly bool, f func(*store.Store, *View) error) error {
	base, err := o.base(ctx)
	if err != nil {
		return err
	}
	s, err := o.openStore(ctx, base, readOnly)
	if err != nil {
		return err
	}
	defer s.Close()
	defer o.rest()
	v, err := o.view(ctx, base, s, LookOptions{})
	if err != nil {
		return err
	}
	return f(s, v)
}

func (o *Overlay) restore(
	ctx context.Context, s *store.Store, v *View, from From, paths []string, message string,
) (*Restored, error) {
	want, read, err := o.state(s, v, from)
	if err != nil {
		return nil, err
	}
	if err := known(paths, want, v.Live); err != nil {
		return nil, err
	}
	r := &restorer{want: want, read: read, touched: map[string]bool{}}
	r.choose(v, paths)
	live, err := o.OpenLive()
	if err != nil {
		return nil, err
	}
	defer live.Close()
	if err := r.run(ctx, live); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	done := &Restored{Changes: r.changes, Generation: s.Manifest.Generation, Left: r.omitted}
	if v, err = o.view(ctx, v.Base, s, LookOptions{}); err != nil {
		return done, err
	}
	so := SaveOptions{Paths: paths, Force: true, Message: message}
	if from == (From{}) {
		_, p := o.plan(s, v, SaveOptions{Paths: paths}, nil)
		return done, o.refreshHeld(ctx, s, p, so)
	}
	saved, err := o.save(ctx, s, v, so)
	if saved != nil {
		done.Generation, done.Released = saved.Generation, saved.Released
	}
	return done, err
}

// known refuses a path that neither want nor live has, because a mistyped path must not look like success.
func known(paths []string, want, live *tree.Tree) error {
	for _, p := range paths {
		if p == "" {
			continue
		}
		if !want.Has(p) && !live.Has(p) {
			return fmt.Errorf("%s: neither in live nor in what it should be put back to", pathname.Quote(p))
		}
	}
	return nil
}

// state returns the tree that From names, and the function that reads its contents.
func (o *Overlay) state(s *store.Store, v *View, from From) (*tree.Tree, tree.Reader, error) {
	fromBase := func(e *tree.Entry) (io.ReadCloser, error) { return v.Base.File(e.Path) }
	if from.Base {
		return tree.Saved(v.Base.Tree, &tree.Tree{}, nil), fromBase, nil
	}
	plain, m := v.plain(), s.Manifest
	if from.Generation != 0 {
		var err error
		if m, err = s.Generation(from.Generation); err != nil {
			return nil, nil, fmt.Errorf("generation %d is not kept: cfgd log %s lists those that are: %w",
				from.Generation, o.Target.Name, err)
		}
		if plain, err = treeOf(m, v.Base.Tree); err != nil {
			return nil, nil, err
		}
	}
	read := func(e *tree.Entry) (io.ReadCloser, error) { return savedContent(s, v.Base, plain, e) }
	return tree.Saved(v.Base.Tree, plain, m.Removals), read, nil
}

// savedContent reads the content of e from the plain tree, or from base if the plain tree does not have it.
func savedContent(s *store.Store, base *store.Base, plain *tree.Tree, e *tree.Entry) (io.ReadCloser, error) {
	if !plain.Has(e.Path) {
		return base.File(e.Path)
	}
	b, err := s.Content(e)
	return tree.ReaderOf(b), err
}

// treeOf returns the plain tree of a generation: its overrides, and the directories around them as base has
// them.
func treeOf(m *store.Manifest, base *tree.Tree) (*tree.Tree, error) {
	t := &tree.Tree{}
	dirs := map[string]bool{}
	for i := range m.Overrides {
		e := m.Overrides[i].Entry
		for p := pathname.Parent(e.Path); p != "" && !dirs[p]; p = pathname.Parent(p) {
			dirs[p] = true
			if _, ok := m.Override(p); ok {
				continue
			}
			d := tree.Entry{Path: p, Kind: dirfd.KindDir, Mode: 0o755}
			if b, ok := base.Get(p); ok && b.Kind == dirfd.KindDir {
				d = *b
			}
			t.Entries = append(t.Entries, d)
		}
		t.Entries = append(t.Entries, e)
	}
	slices.SortFunc(t.Entries, func(a, b tree.Entry) int { return pathname.Compare(a.Path, b.Path) })
	return t, nil
}

// restorer changes live so that the chosen paths are as wanted.
type restorer struct {
	want    *tree.Tree
	read    tree.Reader
	changes []tree.Change
	touched map[string]bool
	serial  int
	omitted []store.Kept // attributes that live's filesystem refused
}

// refused returns the function that records the attributes of a path that live's filesystem can't hold. They
// do not stop a restore.
func (r *restorer) refused(path string) func(name string) {
	return func(name string) {
		why := "live's filesystem refuses its extended attribute " + pathname.Quote(name)
		r.omitted = append(r.omitted, store.Kept{Path: path, Class: config.Report, Reason: tree.Reason(why)})
	}
}

// choose lists what differs below the paths, and the missing directories above them.
func (r *restorer) choose(v *View, paths []string) {
	only := store.OnlyBelow(paths)
	above := map[string]bool{}
	all := tree.Delta(v.Live, r.want)
	for _, c := range all {
		if v.hidden(c.Path) || v.Live.WhySkipped(c.Path) != "" ||
			c.Old != nil && c.Old.Kind.Special() && c.New == nil {
			continue
		}
		if only(c.Path) {
			r.changes = append(r.changes, c)
			for p := pathname.Parent(c.Path); p != "" && c.New != nil; p = pathname.Parent(p) {
				above[p] = true
			}
		}
	}
	for _, c := range all {
		if above[c.Path] && !only(c.Path) && c.What != tree.Mode && c.New != nil {
			r.changes = append(r.changes, c)
		}
	}
	slices.SortFunc(r.changes, func(a, b tree.Change) int { return pathname.Compare(a.Path, b.Path) })
}

// run deletes, deepest first; makes directories and files, topmost first; and sets directories, deepest
// first.
func (r *restorer) run(ctx context.Context, live *dirfd.Dir) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	for _, c := range slices.Backward(r.changes) {
		if c.New == nil || c.What == tree.Type {
			if err := r.drop(live, c); err != nil {
				return err
			}
		}
	}
	for _, c := range r.changes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.New == nil {
			continue
		}
		if err := r.make(live, c); err != nil {
			return fmt.Errorf("%s: %w", pathname.Quote(c.Path), err)
		}
	}
	return r.finish(live)
}

// ready checks that every content can be read before the first thing is removed.
func (r *restorer) ready(ctx context.Context) error {
	for _, c := range r.changes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.New == nil || c.New.Kind != dirfd.KindFile {
			continue
		}
		in, err := r.read(c.New)
		if err != nil {
			return fmt.Errorf("%s: %w; nothing was changed", pathname.Quote(c.Path), err)
		}
		in.Close()
	}
	return nil
}

func (r *restorer) drop(live *dirfd.Dir, c tree.Change) error {
	d, name, err := live.Parent(c.Path)
	if err != nil {
		return tree.IgnoreGone(err)
	}
	defer d.Close()
	r.touched[pathname.Parent(c.Path)] = true
	if err := tree.OpenUp(d); err != nil {
		return err
	}
	if c.Old.Kind != dirfd.KindDir {
		return tree.IgnoreGone(tree.RemoveFile(d, name))
	}
	if c.New == nil {
		return tree.IgnoreGone(d.Rmdir(name))
	}
	return d.RemoveAll(name) // something else takes the directory's place
}

func (r *restorer) make(live *dirfd.Dir, c tree.Change) error {
	d, name, err := live.Parent(c.Path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := tree.OpenUp(d); err != nil {
		return err
	}
	r.touched[pathname.Parent(c.Path)] = true
	if c.New.Kind == dirfd.KindDir {
		r.touched[c.Path] = true
		return tree.MakeDir(d, name)
	}
	r.serial++
	tmp := fmt.Sprintf(".cfgd.%d", r.serial)
	if err := d.RemoveAll(tmp); err != nil {
		return err
	}
	if err := r.put(d, tmp, c.New); err != nil {
		_ = d.RemoveAll(tmp) // the first error is the one that counts
		return err
	}
	if err := d.Rename(tmp, d, name); err != nil {
		return err
	}
	return tree.SetFlags(d, name, c.New)
}

func (r *restorer) put(d *dirfd.Dir, tmp string, e *tree.Entry) error {
	if e.Kind == dirfd.KindSymlink {
		return tree.MakeLink(d, tmp, e)
	}
	in, err := r.read(e)
	if err != nil {
		return err
	}
	defer in.Close()
	got, err := tree.CopyFile(in, d, tmp, e, r.refused(e.Path))
	if err == nil && got != e.Digest && e.Unread == "" {
		err = fmt.Errorf("its content is not what was recorded")
	}
	return err
}

// finish gives touched directories the metadata and time of the wanted state.
func (r *restorer) finish(live *dirfd.Dir) error {
	var dirs []string
	for p := range r.touched {
		dirs = append(dirs, p)
	}
	slices.SortFunc(dirs, func(a, b string) int { return pathname.Compare(b, a) })
	for _, p := range dirs {
		e := &r.want.Root
		if p != "" {
			var ok bool
			if e, ok = r.want.Get(p); !ok || e.Kind != dirfd.KindDir {
				continue
			}
		}
		d, err := live.Walk(p)
		if err != nil {
			return tree.IgnoreGone(err)
		}
		err = r.setDir(d, p, e)
		d.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// setDir gives a touched directory the metadata of the wanted state, its flags last.
func (r *restorer) setDir(d *dirfd.Dir, path string, e *tree.Entry) error {
	if path == "" { // flags and attributes of the root are not kept
		return tree.SetDir(d, e, nil)
	}
	set := tree.ResetDir
	if r.want.NoXattrs { // the wanted attributes are not known
		set = tree.SetDir
	}
	if err := set(d, e, r.refused(path)); err != nil {
		return err
	}
	if now, err := d.Self(); err != nil || now.Flags == e.Flags {
		return err
	}
	return d.SetFlags("", e.Flags)
}

// Generation is a state that the store keeps, with what it changed in the saved tree.
type Generation struct {
	*store.Manifest
	Changes []GenerationChange
	// Before is false if the generation before is no longer kept. Then Changes lists all that cfg held.
	Before bool
	// Damaged says why only the number is known. It is nil if the generation can be read.
	Damaged error
}

// GenerationChange is a path that a generation changed.
type GenerationChange struct {
	Path string
	What tree.ChangeKind
	Old  *tree.Entry // nil if added
	New  *tree.Entry // nil if deleted
	Note string      // released, removal
}

// Log lists the kept generations, newest first.
func (o *Overlay) Log(ctx context.Context) ([]Generation, error) {
	var out []Generation
	err := o.reading(ctx, func(s *store.Store, _ *store.Base) error {
		numbers, err := s.Numbers()
		if err != nil {
			return err
		}
		numbers = slices.DeleteFunc(numbers, func(n int) bool { return n >= s.Manifest.Generation })
		if s.Manifest.Generation > 0 {
			numbers = append(numbers, s.Manifest.Generation)
		}
		var prev *store.Manifest
		for _, n := range numbers {
			m, err := s.Generation(n)
			if err != nil {
				// one that can't be read must not hide the others
				out = append(out, Generation{Manifest: &store.Manifest{Generation: n}, Damaged: err})
				continue
			}
			out = append(out, Generation{
				Manifest: m,
				Changes:  generationChanges(prev, m),
				Before:   prev != nil && prev.Generation == n-1 || n == 1,
			})
			prev = m
		}
		slices.Reverse(out)
		return nil
	})
	return out, err
}

// reading opens the store read-only and runs f.
func (o *Overlay) reading(ctx context.Context, f func(s *store.Store, base *store.Base) error) error {
	base, err := o.base(ctx)
	if err != nil {
		base = nil // history can be read without the defaults
	}
	s, err := o.openStore(ctx, base, true)
	if err != nil {
		return err
	}
	defer s.Close()
	return f(s, base)
}

// generationChanges compares two manifests: how each path changed in the saved tree.
func generationChanges(old, new *store.Manifest) []GenerationChange {
	if old == nil {
		old = &store.Manifest{}
	}
	var out []GenerationChange
	for i := range new.Overrides {
		n := &new.Overrides[i]
		before := n.Default
		if was, ok := old.Override(n.Path); ok {
			before = &was.Entry
		} else if _, ok := old.Removal(n.Path); ok {
			before = nil
		}
		if c, ok := tree.CompareEntries(before, &n.Entry, true); ok {
			out = append(out, GenerationChange{c.Path, c.What, c.Old, c.New, ""})
		}
	}
	for i := range old.Overrides {
		was := &old.Overrides[i]
		if _, ok := new.Override(was.Path); ok {
			continue
		}
		after, note := was.Default, "released"
		if new.Removes(was.Path) {
			after, note = nil, "removal"
		}
		if c, ok := store.Compare(&was.Entry, after, true); ok {
			out = append(out, GenerationChange{c.Path, c.What, c.Old, c.New, note})
		}
	}
	for _, r := range new.Removals {
		if _, ok := old.Removal(r.Path); ok {
			continue
		}
		if _, ok := old.Override(r.Path); !ok && r.Default != nil {
			out = append(out, GenerationChange{r.Path, tree.Deleted, r.Default, nil, "removal"})
		}
	}
	for _, r := range old.Removals {
		_, still := new.Removal(r.Path)
		if _, ok := new.Override(r.Path); !ok && !still && r.Default != nil {
			out = append(out, GenerationChange{r.Path, tree.Added, nil, r.Default, "released"})
		}
	}
	slices.SortFunc(out, func(a, b GenerationChange) int { return pathname.Compare(a.Path, b.Path) })
	return out
}

// Content reads the content of an entry of a kept generation, of an override or a default.
func (o *Overlay) Content(ctx context.Context, e *tree.Entry) (b []byte, err error) {
	err = o.reading(ctx, func(s *store.Store, base *store.Base) error {
		b, err = s.Content(e)
		if err != nil && base != nil && e.Kind == dirfd.KindFile {
			if d, ok := base.Tree.Get(e.Path); ok && d.Digest == e.Digest {
				b, err = base.Content(e)
			}
		}
		return err
	})
	return b, err
}

// Show returns a path as generation n had it, with its content. The entry is nil if that generation had
// removed it or never had it.
func (o *Overlay) Show(ctx context.Context, n int, p string) (e *tree.Entry, b []byte, err error) {
	err = o.reading(ctx, func(s *store.Store, base *store.Base) error {
		m, err := s.Generation(n)
		if err != nil {
			return fmt.Errorf("generation %d is not kept: %w", n, err)
		}
		if ov, ok := m.Override(p); ok {
			e = &ov.Entry
			if e.Kind != dirfd.KindDir {
				b, err = s.Content(e)
			}
			return err
		}
		if m.Removes(p) || base == nil {
			return nil
		}
		if e, err = base.Entry(p); err != nil || e == nil || e.Kind != dirfd.KindFile {
			return err
		}
		b, err = base.Content(e)
		return err
	})
	return e, b, err
}

// Read returns the content of an entry of one of a view's trees: live, saved or base. It reads at most limit
// bytes.
func (o *Overlay) Read(v *View, e *tree.Entry, which string, limit int64) ([]byte, error) {
	if e.Kind == dirfd.KindSymlink {
		return []byte(e.Link), nil
	}
	open := v.Base.Open
	if which == "live" {
		open = o.OpenLive
	} else if which == "saved" && v.Plain.Has(e.Path) {
		open = o.OpenCfg
	}
	root, err := open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	d, err := root.Walk(pathname.Parent(e.Path))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	f, err := d.Open(path.Base(e.Path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var buf bytes.Buffer
	_, err = io.Copy(&buf, io.LimitReader(f, limit))
	return buf.Bytes(), err
}

// Reach lists the bases that cfg may have to go back to: its present one, those of the generations kept for
// the way back, and those of unresolved conflicts.
func (o *Overlay) Reach(ctx context.Context) (ids []string, err error) {
	err = o.reading(ctx, func(s *store.Store, _ *store.Base) error {
		ids = append(ids, s.Manifest.BaseID)
		for _, n := range s.Manifest.Merges {
			if m, err := s.Generation(n); err == nil {
				ids = append(ids, m.BaseID, m.From)
			}
		}
		for i := range s.Manifest.Conflicts {
			ids = append(ids, s.Manifest.Conflicts[i].From, s.Manifest.Conflicts[i].To)
		}
		return nil
	})
	return ids, err
}
