package tree

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

// Scan reads the tree below root. If nothing changed since Prev, it returns Prev itself. A change made during
// the scan is seen as a whole or not at all: a file that changed while it was read is Unread. A name that
// cannot be read is Unread too. An error means that the tree as a whole could not be read.
func Scan(ctx context.Context, root *dirfd.Dir, o ScanOptions) (*Tree, error) {
	self, err := root.Self()
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Prev != nil && (o.Prev.rootID != self.Ino || o.Prev.dev != self.Dev) {
		o.Prev, o.Dirty = nil, nil
	}
	if len(o.Dirty) > manyDirty || o.Prev == nil {
		o.Dirty = nil
	}
	s := &scanner{ScanOptions: o, began: o.Now().UnixNano()}
	s.tree = &Tree{dev: self.Dev, rootID: self.Ino, Root: EntryOf("", self)}
	if o.Prev != nil {
		s.tree.Entries = entriesFor(len(o.Prev.Entries) + 16)
		s.tree.NoXattrs = o.Prev.NoXattrs
	}
	s.tree.Root.stamp.fresh = s.tree.Root.fresh(s.began)
	all, unmoved := o.Dirty == nil, o.Prev != nil && o.Prev.Root.still(&s.tree.Root)
	if !s.listed("", all, unmoved) {
		s.tree.Root.stamp.fresh = true
	}
	if err := s.run(ctx, root, all, unmoved); err != nil {
		return nil, err
	}
	s.tree.Skipped = sortSkipped(s.tree.Skipped)
	s.tree.markUnread()
	s.tree.boundXattrs()
	if o.Prev.same(s.tree) {
		giveBack(s.tree.Entries)
		// results computed from Prev stay valid, and an idle daemon keeps one tree, not two
		return o.Prev, nil
	}
	return s.tree, nil
}

// arrays holds the entry arrays of scans that returned Prev, for reuse.
var arrays sync.Pool

func entriesFor(n int) []Entry {
	r, ok := arrays.Get().(*[]Entry)
	// a much larger array would stay allocated for a small tree
	if ok && cap(*r) >= n && cap(*r) <= n+n/4+64 {
		return (*r)[:0]
	}
	return make([]Entry, 0, n)
}

func giveBack(r []Entry) {
	clear(r)
	arrays.Put(&r)
}

// subscanDepth is how many levels below the root a directory may be to get a goroutine of its own.
const subscanDepth = 3

// run scans below root. Without an earlier scan everything is read, so all cores help.
func (s *scanner) run(ctx context.Context, root *dirfd.Dir, all, unmoved bool) error {
	if s.Prev != nil {
		return errors.Join(s.dir(ctx, root, "", 0, all, unmoved), ctx.Err())
	}
	workers, within := errgroup.WithContext(ctx)
	workers.SetLimit(min(runtime.NumCPU(), 8))
	s.workers = workers
	workers.Go(func() error { return s.dir(within, root, "", 0, all, unmoved) })
	if err := errors.Join(workers.Wait(), ctx.Err()); err != nil {
		return err
	}
	s.join()
	return nil
}

// startSubscan scans below an open directory in another goroutine, and then closes the directory. It returns
// false if no goroutine is free.
func (s *scanner) startSubscan(ctx context.Context, d *dirfd.Dir, path string, depth int) bool {
	if s.workers == nil || depth > subscanDepth {
		return false
	}
	b := &subscan{at: len(s.tree.Entries)}
	b.scanner = &scanner{ScanOptions: s.ScanOptions, began: s.began, workers: s.workers}
	b.tree = &Tree{dev: s.tree.dev, rootID: s.tree.rootID, NoXattrs: s.tree.NoXattrs}
	started := s.workers.TryGo(func() error {
		defer d.Close()
		return b.dir(ctx, d, path, depth, true, false)
	})
	if started {
		s.subscans = append(s.subscans, b)
	}
	return started
}

// join inserts what the subscans found, after all of them have ended.
func (s *scanner) join() {
	n := len(s.tree.Entries)
	for _, b := range s.subscans {
		b.join()
		n += len(b.tree.Entries)
	}
	all := make([]Entry, 0, n) // exactly this long, because the tree may be kept for long
	from := 0
	for _, b := range s.subscans {
		all = append(append(all, s.tree.Entries[from:b.at]...), b.tree.Entries...)
		from = b.at
		s.tree.Skipped = append(s.tree.Skipped, b.tree.Skipped...)
		s.tree.NoXattrs = s.tree.NoXattrs || b.tree.NoXattrs
	}
	s.tree.Entries = append(all, s.tree.Entries[from:]...)
}

// dir adds what is in the directory at path. If all is false, it reads only what is dirty and takes the rest
// from the earlier scan. unmoved says that the directory's own stamp did not change, so its names did not
// either.
func (s *scanner) dir(ctx context.Context, d *dirfd.Dir, path string, depth int, all, unmoved bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !all && !s.Dirty[path] {
		return s.known(ctx, d, path, depth)
	}
	names, err := s.names(d, path, unmoved)
	if err != nil {
		return s.trouble(ctx, path, err)
	}
	for _, name := range names {
		if path == "" && !s.Whole && TopNames[name] {
			continue
		}
		if err := s.name(ctx, d, path, name, depth, all); err != nil {
			return err
		}
	}
	return nil
}

// listed reports whether the scan reads all names of a directory. A directory that changed and is not read
// must not get its new stamp, because the next scan would then trust the old names.
func (s *scanner) listed(path string, all, unmoved bool) bool { return all || unmoved || s.Dirty[path] }

// names lists a directory. If the directory did not change, the names come from the earlier scan, unless that
// scan skipped something.
func (s *scanner) names(d *dirfd.Dir, path string, unmoved bool) ([]string, error) {
	if !unmoved || s.Rehash || len(s.Prev.Skipped) > 0 {
		return d.Names()
	}
	var names []string
	below := s.Prev.Below(path)
	for i := 0; i < len(below); {
		p := below[i].Path
		names = append(names, p[len(p)-nameLen(p):])
		for i++; i < len(below) && pathname.Within(below[i].Path, p); i++ {
		}
	}
	return names, nil
}

// known takes the directory's own names from the earlier scan and descends only to what is dirty.
func (s *scanner) known(ctx context.Context, d *dirfd.Dir, path string, depth int) error {
	below := s.Prev.Below(path)
	for i := 0; i < len(below); {
		e := below[i]
		n := 1
		for i+n < len(below) && pathname.Within(below[i+n].Path, e.Path) {
			n++
		}
		if e.Kind != dirfd.KindDir || !s.dirtyBelow(e.Path) {
			s.tree.Entries = append(s.tree.Entries, below[i:i+n]...)
			s.keepSkipped(e.Path)
		} else if err := s.name(ctx, d, path, e.Path[len(e.Path)-nameLen(e.Path):], depth,
			false); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// name adds one name of the open directory at path.
func (s *scanner) name(
	ctx context.Context, d *dirfd.Dir, dir, name string, depth int, all bool,
) error {
	path, prev := s.prev(dir, name)
	st, err := d.Stat(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed since the directory was listed
		}
		return s.trouble(ctx, path, err)
	}
	if s.Ignore != nil && (prev == nil || prev.Kind != st.Kind) && s.Ignore(path, st.Kind) {
		return nil
	}
	if prev == nil {
		path = s.intern(path)
	}
	e := EntryOf(path, st)
	switch st.Kind {
	case dirfd.KindDir:
		if st.Dev != s.tree.dev {
			s.skip(path, elsewhere)
			s.tree.Entries = append(s.tree.Entries, e)
			return nil
		}
		// If the directory is new, or has another inode, everything in it is read.
		all = all || prev == nil || prev.Kind != dirfd.KindDir || prev.stamp.ino != e.stamp.ino
		return s.subdir(ctx, d, name, e, prev, depth, all)
	case dirfd.KindSymlink:
		if prev != nil && !s.Rehash && prev.settledLink(&e) {
			e.Link = prev.Link
			break
		}
		if e.Link, err = d.Readlink(name); err != nil {
			return s.gone(err)
		}
		e.stamp.fresh = e.fresh(s.began)
	case dirfd.KindFile:
		if !s.file(ctx, d, name, &e, prev) {
			return nil
		}
	}
	s.tree.Entries = append(s.tree.Entries, e)
	return nil
}

func (s *scanner) subdir(
	ctx context.Context, d *dirfd.Dir, name string, e Entry, prev *Entry, depth int, all bool,
) error {
	if depth >= MaxDepth || len(e.Path) > maxDirPath {
		s.skip(e.Path, TooDeep)
		s.tree.Entries = append(s.tree.Entries, e)
		return nil
	}
	sub, err := d.Dir(name)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			s.skip(e.Path, "no permission to read the directory")
			s.tree.Entries = append(s.tree.Entries, e)
			return nil
		}
		return s.gone(err)
	}
	e.stamp.fresh = e.fresh(s.began)
	unmoved := prev != nil && prev.still(&e)
	if unmoved && !s.StillXattrs && !(s.Rehash && prev.Unlisted != "") {
		e.Xattrs, e.Unlisted, e.Excess = prev.Xattrs, prev.Unlisted, prev.Excess
	} else {
		s.xattrs(sub, &e)
	}
	if !s.listed(e.Path, all, unmoved) {
		e.stamp.fresh = true
	}
	s.tree.Entries = append(s.tree.Entries, e)
	if s.startSubscan(ctx, sub, e.Path, depth+1) {
		return nil
	}
	defer sub.Close()
	return s.dir(ctx, sub, e.Path, depth+1, all, unmoved)
}
