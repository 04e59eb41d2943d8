package tree

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

// Copy says what to copy: a saved tree, into an empty directory.
type Copy struct {
	Saved *Tree
	Base  *dirfd.Dir // holds the contents of Saved
	Plain *Tree      // the entries of Saved whose contents are in Cfg instead; nil means none
	Cfg   *dirfd.Dir
	To    *dirfd.Dir
	Whole bool // attributes that can't be read are an error
}

// Run copies in this order: directories, topmost first; files, by a few workers, each one directory at a
// time; hard links; then the directories' metadata, deepest first, because files made in them change
// their times. Flags of chflags(1) come after all that they forbid: a file's after its links, a
// directory's after its files. It returns what the filesystem of To refused.
func (c Copy) Run(ctx context.Context) ([]Refused, error) {
	for i := range c.Saved.Entries {
		if e := &c.Saved.Entries[i]; c.Whole && e.Unlisted != "" {
			return nil, fmt.Errorf("%s: %s", c.Base.Display(e.Path), e.Unlisted)
		}
	}
	p := &copier{Copy: c, linked: map[*Entry]bool{}}
	dirs, links, err := p.makeDirs()
	if err != nil {
		return nil, err
	}
	// nothing is made in a directory after its files are done, and root ignores its mode
	p.early = Privileged && len(links) == 0
	for _, l := range links {
		p.linked[l[0]] = true
	}
	if err := p.copyFiles(ctx, dirs); err != nil {
		return nil, err
	}
	if err := p.link(links); err != nil {
		return nil, err
	}
	err = p.finishDirs()
	return p.refused, err
}

// copier is a Copy at work.
type copier struct {
	Copy
	early  bool            // workers set the directories' metadata themselves
	linked map[*Entry]bool // files that get another name later, and their flags after that

	mu      sync.Mutex // guards refused
	refused []Refused
}

// dirFiles is one piece of work: the files directly in a directory.
type dirFiles struct {
	path    string
	entries []*Entry

	self *Entry // the directory; nil for the root
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

// makeDirs makes all directories and sorts the rest by directory. links are pairs of an entry and the file
// whose inode it shares.
func (c *copier) makeDirs() (dirs []*dirFiles, links [][2]*Entry, err error) {
	byPath := map[string]*dirFiles{"": {}}
	dirs = append(dirs, byPath[""])
	first := map[source]*Entry{}
	parents := &trail{root: c.To}
	defer parents.close()
	for i := range c.Saved.Entries {
		e := &c.Saved.Entries[i]
		switch {
		case e.Kind == dirfd.KindDir:
			if err := parents.mkdir(e.Path); err != nil {
				return nil, nil, err
			}
			r := &dirFiles{path: e.Path, self: e}
			byPath[e.Path], dirs = r, append(dirs, r)
			continue
		case e.Kind == dirfd.KindFile && e.Nlink() > 1:
			src := source{c.fromCfg(e), e.Ino()}
			if f := first[src]; f != nil {
				links = append(links, [2]*Entry{f, e})
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

func (c *copier) fromCfg(e *Entry) bool { return c.Plain.Has(e.Path) }

func (c *copier) copyFiles(ctx context.Context, dirs []*dirFiles) error {
	// The largest first, so that no worker is left alone with a large one at the end.
	slices.SortStableFunc(dirs, func(a, b *dirFiles) int { return cmp.Compare(b.weight(), a.weight()) })
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(min(max(runtime.NumCPU(), 2), 8))
	for _, r := range dirs {
		if len(r.entries) > 0 || c.early {
			workers.Go(func() error { return c.copyDirFiles(ctx, r) })
		}
	}
	return workers.Wait()
}

func (c *copier) copyDirFiles(ctx context.Context, r *dirFiles) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	to, err := c.To.Walk(r.path)
	if err != nil {
		return err
	}
	defer to.Close()
	var base, cfg *dirfd.Dir // opened when the first entry needs it
	defer func() { base.Close(); cfg.Close() }()
	for _, e := range r.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, root := &base, c.Base
		if c.fromCfg(e) {
			from, root = &cfg, c.Cfg
		}
		if *from == nil && e.Kind == dirfd.KindFile {
			if *from, err = root.Walk(r.path); err != nil {
				return err
			}
		}
		if err := c.copy(*from, to, r, e); err != nil {
			return err
		}
	}
	if c.early && r.self != nil {
		return c.finishDir(to, r.self)
	}
	return nil
}

func (c *copier) copy(from, to *dirfd.Dir, r *dirFiles, e *Entry) error {
	if e.Kind == dirfd.KindSymlink {
		return c.copyLink(to, e)
	}
	name := path.Base(e.Path)
	open := from.OpenPlain
	if c.fromCfg(e) {
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
	if err := CopyContent(out, io.LimitReader(in, e.Size), e.Size, e.Sparse(), nil); err != nil {
		return err
	}
	x := *e
	if !c.fromCfg(e) {
		if x.Xattrs, err = c.xattrs(in); err != nil {
			return err
		}
	}
	if err := r.own(out, e); err != nil {
		return err
	}
	var refused Refused
	if err := SetMode(out, &x, refused.add); err != nil {
		return err
	}
	if err := to.Utimes(name, e.MTime); err != nil {
		return err
	}
	if !c.linked[e] {
		if err := SetFlags(to, name, e); err != nil {
			return err
		}
	}
	if err := c.note(refused, to, name, e); err != nil {
		return err
	}
	return out.Close()
}

func (c *copier) copyLink(to *dirfd.Dir, e *Entry) error {
	name := path.Base(e.Path)
	if err := MakeLink(to, name, e); err != nil {
		return err
	}
	if err := SetFlags(to, name, e); err != nil {
		return err
	}
	return c.note(Refused{}, to, name, e)
}

// own gives a new file its owner, unless it has it already.
func (r *dirFiles) own(f *dirfd.File, e *Entry) error {
	if !Privileged {
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
func (c *copier) xattrs(in *dirfd.File) (string, error) {
	if c.Saved.NoXattrs {
		return "", nil
	}
	x, err := in.Xattrs()
	if c.Whole && !dirfd.NoXattr(err) {
		return PackXattrs(x), err
	}
	return PackXattrs(x), nil
}

func (c *copier) link(links [][2]*Entry) error {
	for _, l := range links {
		from, a, err := c.To.Parent(l[0].Path)
		if err != nil {
			return err
		}
		to, b, err := c.To.Parent(l[1].Path)
		if err == nil {
			err = from.Link(a, to, b)
			to.Close()
		}
		from.Close()
		if err != nil {
			return err
		}
	}
	for e := range c.linked {
		if err := c.flagLinked(e); err != nil {
			return err
		}
	}
	return nil
}

// flagLinked gives a file its flags after it has all its names.
func (c *copier) flagLinked(e *Entry) error {
	if e.Flags == 0 {
		return nil
	}
	d, name, err := c.To.Parent(e.Path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := SetFlags(d, name, e); err != nil {
		return err
	}
	return c.noteNow(Refused{}, d, name, e, true)
}

func (c *copier) finishDirs() error {
	for i := len(c.Saved.Entries) - 1; i >= 0 && !c.early; i-- {
		e := &c.Saved.Entries[i]
		if e.Kind != dirfd.KindDir {
			continue
		}
		d, err := c.To.Walk(e.Path)
		if err != nil {
			return err
		}
		err = c.finishDir(d, e)
		d.Close()
		if err != nil {
			return err
		}
	}
	root := c.Saved.Root
	return SetDir(c.To, &root, nil)
}

func (c *copier) finishDir(d *dirfd.Dir, e *Entry) error {
	var refused Refused
	if err := SetDir(d, e, refused.add); err != nil {
		return err
	}
	if err := SetFlags(d, "", e); err != nil {
		return err
	}
	return c.note(refused, d, "", e)
}

// note records what the filesystem refused of an entry that has everything else.
func (c *copier) note(l Refused, d *dirfd.Dir, name string, e *Entry) error {
	later := c.linked[e] // flagLinked sets its flags and notes the result
	if len(l.Names) == 0 && (e.Flags == 0 || later) {
		return nil
	}
	return c.noteNow(l, d, name, e, !later)
}

func (c *copier) noteNow(l Refused, d *dirfd.Dir, name string, e *Entry, flagged bool) error {
	st, err := statOf(d, name)
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
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = append(c.refused, l)
	return nil
}

// statOf returns the Stat of a name, or of the directory itself for "".
func statOf(d *dirfd.Dir, name string) (dirfd.Stat, error) {
	if name == "" {
		return d.Self()
	}
	return d.Stat(name)
}
