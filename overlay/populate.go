package overlay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"sync"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Population is what Populate did.
type Population struct {
	Entries    int
	BaseID     string
	OldBaseID  string // the base that the overrides were made against
	Generation int
	// Merge is the result of the merge, if cfg was made against another base. It is nil if there was no merge
	// or it failed.
	Merge *merge.Result
	// Unmerged says why cfg was laid unmerged over other defaults than it was made against. It is nil if it
	// was not.
	Unmerged error
	// Hiding lists overrides that hide a changed default: the default is not the one they were made against.
	Hiding  []string
	Notices []string
	Adopted []string
}

// ErrNotEmpty says that a live tree that is to be populated holds something that cfgd did not put there.
var ErrNotEmpty = errors.New("not empty")

// Populate fills the empty live tree from base and cfg. It replaces the tree's old record; the new one says
// populating until all is there. memory names what holds the tree, for the record.
func (o *Overlay) Populate(ctx context.Context, memory, device string) (*Population, error) {
	unlock, err := o.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	base, err := o.Bases.get(ctx, o, o.Next(), false)
	if err != nil {
		return nil, err
	}
	live, err := o.OpenLive()
	if err != nil {
		return nil, err
	}
	defer live.Close()
	if names, err := live.Names(); err != nil || len(names) > 0 {
		return nil, errors.Join(err, fmt.Errorf("live: %s: %w", o.Target.Live, ErrNotEmpty))
	}
	s, merged, failed, err := o.mergedStore(ctx, base)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	p, err := o.populate(ctx, s, live, &Record{
		BasePath:   o.Target.Base,
		BaseID:     base.ID,
		Generation: s.Manifest.Generation,
		Memory:     memory,
		Device:     device,
	})
	if err != nil {
		return nil, err
	}
	p.Merge, p.Unmerged = merged, failed
	return p, nil
}

func (o *Overlay) populate(
	ctx context.Context, s *store.Store, live *dirfd.Dir, r *Record,
) (*Population, error) {
	id, err := live.Identity()
	if err != nil {
		return nil, err
	}
	r.Identity, r.State, r.Time = id, Populating, o.now().UTC()
	// the directory may have been hidden as an earlier start's
	if err := errors.Join(o.WriteRecord(r), o.DropHidden(id)); err != nil {
		return nil, err
	}
	saved := tree.Saved(s.Base.Tree, store.WithManifest(s.Base.Tree, s.Plain, s.Manifest),
		s.Manifest.Removals)
	p := &populator{ctx: ctx, saved: saved, plain: s.Plain, live: live, cfg: s.Cfg}
	if p.base, err = s.Base.Open(); err != nil {
		return nil, err
	}
	defer p.base.Close()
	if err := p.run(); err != nil {
		return nil, fmt.Errorf("populate %s: %w", o.Target.Live, err)
	}
	r.State, r.Lacks = Populated, p.lacks
	if err := o.WriteRecord(r); err != nil {
		return nil, err
	}
	out := &Population{
		Entries:    len(saved.Entries),
		BaseID:     s.Base.ID,
		OldBaseID:  s.Manifest.BaseID,
		Generation: s.Manifest.Generation,
		Notices:    s.Notices,
		Adopted:    s.Adopted,
	}
	if len(p.lacks) > 0 {
		out.Notices = append(out.Notices, o.lacksNotice(p.lacks))
	}
	out.Hiding, err = s.Hiding()
	if err != nil {
		return nil, err
	}
	return out, s.TakeHeld(ctx)
}

// lacksNotice says what live's filesystem can't hold.
func (o *Overlay) lacksNotice(lacks []lack) string {
	path, _ := lacks[0].Name()
	return fmt.Sprintf("%s: its filesystem can't hold all flags and attributes of what is saved:"+
		" %d paths lack some, such as %s; they stay saved",
		o.Target.Live, len(lacks), pathname.Quote(path))
}

// populator copies a saved tree to an empty directory, in this order: directories, topmost first; files, by a
// few workers, each one directory at a time; hard links; then the directories' metadata, deepest first,
// because files made in them change their times. Flags of chflags(1) come after all that they forbid: a
// file's after its links, a directory's after its files.
type populator struct {
	ctx             context.Context
	saved, plain    *tree.Tree
	base, cfg, live *dirfd.Dir

	whole  bool                 // attributes that can't be read are an error
	early  bool                 // workers set the directories' metadata themselves
	linked map[*tree.Entry]bool // files that get another name later, and their flags after that

	mu    sync.Mutex // guards first and lacks
	first error
	lacks []lack // what live's filesystem can't hold
}

// dirFiles is one piece of work: the files directly in a directory.
type dirFiles struct {
	path    string
	entries []*tree.Entry

	self *tree.Entry // the directory; nil for the root
	// The owners that new files in the directory get by themselves, once known.
	uid, gid uint32
	known    bool
}

// weight estimates the work in bytes to copy. Making a file costs as much as copying perFile bytes.
func (r *dirFiles) weight() int64 {
	const perFile = 32 << 10
	n := int64(len(r.entries)) * perFile
	for _, e := range r.entries {
		n += e.Size
	}
	return n
}

func (p *populator) run() error {
	for i := range p.saved.Entries {
		if e := &p.saved.Entries[i]; p.whole && e.Unlisted != "" {
			return fmt.Errorf("%s: %s", p.base.Display(e.Path), e.Unlisted)
		}
	}
	dirs, links, err := p.makeDirs()
	if err != nil {
		return err
	}
	// nothing is made in a directory after its files are done, and root ignores its mode
	p.early = tree.Privileged && len(links) == 0
	p.linked = map[*tree.Entry]bool{}
	for _, l := range links {
		p.linked[l[0]] = true
	}
	p.copyFiles(dirs)
	if p.first != nil {
		return p.first
	}
	if err := p.link(links); err != nil {
		return err
	}
	return p.finishDirs()
}

// makeDirs makes all directories and sorts the rest by directory. links are pairs of an entry and the file
// whose inode it shares.
func (p *populator) makeDirs() (dirs []*dirFiles, links [][2]*tree.Entry, err error) {
	byPath := map[string]*dirFiles{"": {}}
	dirs = append(dirs, byPath[""])
	first := map[source]*tree.Entry{}
	parents := &trail{root: p.live}
	defer parents.close()
	for i := range p.saved.Entries {
		e := &p.saved.Entries[i]
		switch {
		case e.Kind == dirfd.KindDir:
			if err := parents.mkdir(e.Path); err != nil {
				return nil, nil, err
			}
			r := &dirFiles{path: e.Path, self: e}
			byPath[e.Path], dirs = r, append(dirs, r)
			continue
		case e.Kind == dirfd.KindFile && e.Nlink() > 1:
			src := source{p.fromCfg(e), e.Ino()}
			if f := first[src]; f != nil {
				links = append(links, [2]*tree.Entry{f, e})
				continue
			}
			first[src] = e
		}
		r := byPath[pathname.Parent(e.Path)]
		if r == nil {
			return nil, nil, fmt.Errorf("%s: its directory is not in the saved tree", pathname.Quote(e.Path))
		}
		r.entries = append(r.entries, e)
	}
	return dirs, links, nil
}

// source identifies a file of base or cfg by its inode.
type source struct {
	cfg bool
	ino uint64
}

func (p *populator) fromCfg(e *tree.Entry) bool { return p.plain.Has(e.Path) }

// trail keeps the directories above the last one that was made open, because the next one is mostly near.
type trail struct {
	root *dirfd.Dir
	open []*dirfd.Dir
}

// mkdir makes a directory and leaves it open.
func (t *trail) mkdir(name string) error {
	for len(t.open) > 0 && !pathname.Within(name, t.last().Path()) {
		t.last().Close()
		t.open = t.open[:len(t.open)-1]
	}
	d := t.last()
	if d.Path() != pathname.Parent(name) {
		return fmt.Errorf("%s: its directory is not in the saved tree", pathname.Quote(name))
	}
	if err := d.Mkdir(path.Base(name)); err != nil {
		return err
	}
	sub, err := d.Dir(path.Base(name))
	if err != nil {
		return err
	}
	t.open = append(t.open, sub)
	return nil
}

func (t *trail) last() *dirfd.Dir {
	if len(t.open) == 0 {
		return t.root
	}
	return t.open[len(t.open)-1]
}

func (t *trail) close() {
	for _, d := range t.open {
		d.Close()
	}
}

func (p *populator) copyFiles(dirs []*dirFiles) {
	// The largest first, so that no worker is left alone with a large one at the end.
	slices.SortStableFunc(dirs, func(a, b *dirFiles) int { return cmp.Compare(b.weight(), a.weight()) })
	work := make(chan *dirFiles)
	var wg sync.WaitGroup
	for range min(max(runtime.NumCPU(), 2), 8) {
		wg.Go(func() {
			for r := range work {
				if err := p.copyDirFiles(r); err != nil {
					p.fail(err)
				}
			}
		})
	}
	for _, r := range dirs {
		if len(r.entries) > 0 || p.early {
			work <- r
		}
	}
	close(work)
	wg.Wait()
}

func (p *populator) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == nil {
		p.first = err
	}
}

func (p *populator) failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first != nil || p.ctx.Err() != nil
}

func (p *populator) copyDirFiles(r *dirFiles) error {
	to, err := p.live.Walk(r.path)
	if err != nil {
		return err
	}
	defer to.Close()
	var base, cfg *dirfd.Dir // opened when the first entry needs it
	defer func() { base.Close(); cfg.Close() }()
	for _, e := range r.entries {
		if p.failed() {
			return p.ctx.Err()
		}
		from, tree := &base, p.base
		if p.fromCfg(e) {
			from, tree = &cfg, p.cfg
		}
		if *from == nil && e.Kind == dirfd.KindFile {
			if *from, err = tree.Walk(r.path); err != nil {
				return err
			}
		}
		if err := p.copy(*from, to, r, e); err != nil {
			return err
		}
	}
	if p.early && r.self != nil {
		return p.finishDir(to, r.self)
	}
	return nil
}

func (p *populator) copy(from, to *dirfd.Dir, r *dirFiles, e *tree.Entry) error {
	if e.Kind == dirfd.KindSymlink {
		return p.copyLink(to, e)
	}
	name := path.Base(e.Path)
	open := from.OpenPlain
	if p.fromCfg(e) {
		open = from.OpenFile
	}
	in, err := open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := to.Create(name)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := tree.CopyContent(out, io.LimitReader(in, e.Size), e.Size, e.Sparse(), nil); err != nil {
		return err
	}
	x := *e
	if !p.fromCfg(e) {
		if x.Xattrs, err = p.xattrs(in); err != nil {
			return err
		}
	}
	if err := r.own(out, e); err != nil {
		return err
	}
	var lacks lack
	if err := store.SetMode(out, &x, lacks.refused); err != nil {
		return err
	}
	if err := to.Utimes(name, e.MTime); err != nil {
		return err
	}
	if !p.linked[e] {
		if err := setFlags(to, name, e); err != nil {
			return err
		}
	}
	if err := p.note(lacks, to, name, e); err != nil {
		return err
	}
	return out.Close()
}

func (p *populator) copyLink(to *dirfd.Dir, e *tree.Entry) error {
	name := path.Base(e.Path)
	if err := store.MakeLink(to, name, e); err != nil {
		return err
	}
	if err := setFlags(to, name, e); err != nil {
		return err
	}
	return p.note(lack{}, to, name, e)
}

// setFlags gives a new name the entry's flags.
func setFlags(d *dirfd.Dir, name string, e *tree.Entry) error {
	if e.Flags == 0 {
		return nil
	}
	return d.SetFlags(name, e.Flags)
}

// own gives a new file its owner, unless it has it already.
func (r *dirFiles) own(f *dirfd.File, e *tree.Entry) error {
	if !tree.Privileged {
		return nil
	}
	if !r.known {
		st, err := f.Stat()
		if err != nil {
			return err
		}
		r.uid, r.gid, r.known = st.UID, st.GID, true
	}
	if r.uid == e.UID && r.gid == e.GID {
		return nil
	}
	return f.Chown(e.UID, e.GID)
}

// xattrs reads the attributes of a default, because a scan with NoContent does not know them. Attributes that
// can't be read do not stop a start.
func (p *populator) xattrs(in *dirfd.File) (string, error) {
	if p.saved.NoXattrs {
		return "", nil
	}
	x, err := in.Xattrs()
	if p.whole && !dirfd.NoXattr(err) {
		return tree.PackXattrs(x), err
	}
	return tree.PackXattrs(x), nil
}

func (p *populator) link(links [][2]*tree.Entry) error {
	for _, l := range links {
		from, a, err := p.live.Parent(l[0].Path)
		if err != nil {
			return err
		}
		to, b, err := p.live.Parent(l[1].Path)
		if err == nil {
			err = from.Link(a, to, b)
			to.Close()
		}
		from.Close()
		if err != nil {
			return err
		}
	}
	for e := range p.linked {
		if err := p.flagLinked(e); err != nil {
			return err
		}
	}
	return nil
}

// flagLinked gives a file its flags after it has all its names.
func (p *populator) flagLinked(e *tree.Entry) error {
	if e.Flags == 0 {
		return nil
	}
	d, name, err := p.live.Parent(e.Path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := setFlags(d, name, e); err != nil {
		return err
	}
	return p.noteNow(lack{}, d, name, e, true)
}

func (p *populator) finishDirs() error {
	for i := len(p.saved.Entries) - 1; i >= 0 && !p.early; i-- {
		e := &p.saved.Entries[i]
		if e.Kind != dirfd.KindDir {
			continue
		}
		d, err := p.live.Walk(e.Path)
		if err != nil {
			return err
		}
		err = p.finishDir(d, e)
		d.Close()
		if err != nil {
			return err
		}
	}
	root := p.saved.Root
	return store.SetDir(p.live, &root, nil)
}

func (p *populator) finishDir(d *dirfd.Dir, e *tree.Entry) error {
	var lacks lack
	if err := store.SetDir(d, e, lacks.refused); err != nil {
		return err
	}
	if err := setFlags(d, "", e); err != nil {
		return err
	}
	return p.note(lacks, d, "", e)
}

// note records what the live filesystem refused of an entry that has everything else.
func (p *populator) note(l lack, d *dirfd.Dir, name string, e *tree.Entry) error {
	later := p.linked[e] // flagLinked sets its flags and notes the result
	if len(l.Names) == 0 && (e.Flags == 0 || later) {
		return nil
	}
	return p.noteNow(l, d, name, e, !later)
}

func (p *populator) noteNow(l lack, d *dirfd.Dir, name string, e *tree.Entry, flagged bool) error {
	stat := d.Self
	if name != "" {
		stat = func() (dirfd.Stat, error) { return d.Stat(name) }
	}
	st, err := stat()
	if err != nil {
		return err
	}
	if flagged {
		l.Flags = e.Flags &^ st.Flags
	}
	if len(l.Names) == 0 && l.Flags == 0 {
		return nil
	}
	l.JSON, l.Ino = pathname.FromPath(e.Path), st.Ino
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lacks = append(p.lacks, l)
	return nil
}
