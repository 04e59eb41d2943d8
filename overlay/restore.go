package overlay

import (
	"context"
	"fmt"
	"io"
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
	Notices    []string     // what is made of changed files and could not be made anew, and what to run
}

// Restore puts live paths, and all below them, back to a state. If that is base or a generation, the result
// is saved as a new generation. Each file is replaced whole, by a rename.
func (o *Overlay) Restore(
	ctx context.Context, from From, paths []string, message string,
) (done *Restored, err error) {
	err = o.atWork(ctx, func(w *opened) error {
		if w.v.NotPopulated != nil {
			return w.v.NotPopulated
		}
		done, err = w.restore(ctx, from, paths, message)
		return err
	})
	return done, err
}

func (w *opened) restore(ctx context.Context, from From, paths []string, message string) (*Restored, error) {
	want, read, err := w.state(from)
	if err != nil {
		return nil, err
	}
	if err := refuseUnknown(paths, want, w.v); err != nil {
		return nil, err
	}
	r := newRestorer(want, read)
	r.choose(w.v, paths)
	notices, made, err := w.remake(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if err := w.putBack(ctx, r); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	done := &Restored{
		Changes: r.changes, Generation: w.s.Manifest.Generation, Left: r.omitted, Notices: notices,
	}
	if err := w.look(ctx, w.v.Base, LookOptions{}); err != nil {
		return done, err
	}
	if from == (From{}) {
		so := SaveOptions{Paths: paths}
		_, p := w.plan(so, nil, nil)
		if err := w.dropTaken(ctx, p, so); err != nil || len(made) == 0 {
			return done, err
		}
		paths, message = made, "made anew: "+listed(made) // unless they equal what is saved
	} else if len(paths) > 0 {
		paths = append(slices.Clone(paths), made...)
	}
	saved, err := w.save(ctx, SaveOptions{Paths: paths, Force: from != From{}, Message: message})
	if saved != nil {
		done.Generation, done.Released = saved.Generation, saved.Released
	}
	return done, err
}

// putBack changes live as the restorer says.
func (w *opened) putBack(ctx context.Context, r *restorer) error {
	live, err := w.o.OpenLive()
	if err != nil {
		return err
	}
	defer live.Close()
	return r.run(ctx, live)
}

// refuseUnknown refuses a path that neither want nor live has, because a mistyped path must not look like
// success.
func refuseUnknown(paths []string, want *tree.Tree, v *View) error {
	for _, p := range paths {
		if p == "" {
			continue
		}
		if e, ok := v.Base.Tree.Get(p); ok && e.Kind.Special() && !want.Has(p) {
			return fmt.Errorf("%s: the default is a %s, and fifos, sockets and devices are not made",
				pathname.Quote(p), e.Kind)
		}
		if !want.Has(p) && !v.Live.Has(p) {
			return fmt.Errorf("%s: neither in live nor in what it should be put back to", pathname.Quote(p))
		}
	}
	return nil
}

// state returns the tree that From names, and the function that reads its contents.
func (w *opened) state(from From) (*tree.Tree, tree.Reader, error) {
	base := w.v.Base
	if from.Base {
		read := func(e *tree.Entry) (io.ReadCloser, error) { return base.File(e.Path) }
		return tree.Saved(base.Tree, &tree.Tree{}, nil), read, nil
	}
	plain, m := w.v.diffs.completed, w.s.Manifest
	if from.Generation != 0 {
		var err error
		if m, err = w.s.Generation(from.Generation); err != nil {
			return nil, nil, fmt.Errorf("generation %d is not kept: cfgd log %s lists those that are: %w",
				from.Generation, w.o.Target.Name, err)
		}
		plain = m.Plain(base.Tree, &tree.Tree{})
	}
	read := func(e *tree.Entry) (io.ReadCloser, error) { return savedContent(w.s, base, plain, e) }
	return tree.Saved(base.Tree, plain, m.Removals), read, nil
}

// savedContent reads the content of e from the plain tree, or from base if the plain tree does not have it.
func savedContent(s *store.Store, base *store.Base, plain *tree.Tree, e *tree.Entry) (io.ReadCloser, error) {
	if !plain.Has(e.Path) {
		return base.File(e.Path)
	}
	b, err := s.Content(e)
	return tree.ReaderOf(b), err
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

func newRestorer(want *tree.Tree, read tree.Reader) *restorer {
	return &restorer{want: want, read: read, touched: map[string]bool{}}
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
		if v.neverShown(c.Path) || v.Live.WhySkipped(c.Path) != "" ||
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
		if above[c.Path] && !only(c.Path) && c.Kind != tree.Mode && c.New != nil {
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
		if c.New == nil || c.Kind == tree.Type {
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
