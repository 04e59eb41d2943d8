package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

const (
	// granularity is how far apart two changes of a file must be to bear different times on every
	// filesystem served: UFS stamps at kern.hz without vfs.timestamp_precision, FAT-like ones are not served.
	// A file whose change time is not older than the look by this much is read again.
	granularity = 20 * time.Millisecond
	// coarse is the same for filesystems that stamp whole seconds (vfs.timestamp_precision=0).
	coarse = 1100 * time.Millisecond

	MaxDepth  = 128 // of directories: one descriptor is held open a level
	manyDirty = 64  // above it a whole scan is cheaper than picking

	// maxDirPath bounds a directory's path, in bytes: that of a name in it is then one that pathname.Valid takes.
	maxDirPath = 4096 - 1 - 255
)

// Names at the top of a tree that are never part of it.
const (
	MetaName   = ".cfgd"   // the store's own
	IgnoreName = ".ignore" // NanoBSD's marks
)

// TopNames are these, and what a filesystem has for itself: newfs(8) makes .snap, and .sujournal where soft updates are
// journaled; fsck(8) and mke2fs(8) make lost+found.
var TopNames = map[string]bool{MetaName: true, IgnoreName: true, ".snap": true, ".sujournal": true, "lost+found": true}

// ScanOptions say how much a scan looks at; the zero value reads everything.
type ScanOptions struct {
	// Prev is an earlier scan of the same root: content is read again only where the file's stamp moved.
	Prev *Tree
	// Dirty are the directories to look at, of which Prev tells the rest; nil is all of them. Needs Prev.
	Dirty map[string]bool
	// Rehash reads every file, stamp or not.
	Rehash bool
	// StillXattrs reads the extended attributes of what is looked at, stamp or not: of filesystems where a change of
	// them moves no time (dirfd.Space).
	StillXattrs bool
	// NoContent reads no file at all: digests stay zero.
	NoContent bool
	// MaxFile is the size in bytes above which content is not read; 0 is no bound.
	MaxFile int64
	// Ignore leaves a path out, and all below it. It must depend on its arguments alone, and be the one that Prev was made with.
	Ignore func(path string, kind dirfd.Kind) bool
	// Whole takes in what is the store's, NanoBSD's and a filesystem's own at the top.
	Whole bool
	// Names is a tree whose path strings are used again where they are the same, to save memory.
	Names *Tree
	// Now is the clock that stamps are compared with; nil is time.Now.
	Now func() time.Time
}

// Scan looks at the tree below root; where it finds all as Prev says, it returns Prev. Changes that are made meanwhile are seen or not, but never half:
// a file that moved on while it was read is Unread.
// A single name that cannot be read is Unread; an error means that the tree as a whole could not be looked at.
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
	s := &scanner{ScanOptions: o, ctx: ctx, began: o.Now().UnixNano()}
	s.tree = &Tree{dev: self.Dev, rootID: self.Ino, Root: EntryOf("", self)}
	if o.Prev != nil {
		s.tree.Entries = entriesFor(len(o.Prev.Entries) + 16)
		s.tree.NoXattrs = o.Prev.NoXattrs
	}
	if o.Prev == nil { // all is to be read: by all cores
		s.hands = newHands()
	}
	s.tree.Root.stamp.fresh = s.tree.Root.fresh(s.began)
	all, unmoved := o.Dirty == nil, o.Prev != nil && o.Prev.Root.still(&s.tree.Root)
	if !s.listed("", all, unmoved) {
		s.tree.Root.stamp.fresh = true
	}
	err = s.dir(root, "", 0, all, unmoved)
	if err := errors.Join(err, s.join(), ctx.Err()); err != nil {
		return nil, err
	}
	s.tree.Skipped = sortSkipped(s.tree.Skipped)
	s.tree.markUnread()
	s.tree.boundXattrs()
	if o.Prev.same(s.tree) {
		giveBack(s.tree.Entries)
		return o.Prev, nil // what was computed from it still holds, and an idle daemon keeps one tree and not two
	}
	return s.tree, nil
}

// arrays are those of scans of which nothing remained but that all is as before.
var arrays sync.Pool

func entriesFor(n int) []Entry {
	r, ok := arrays.Get().(*[]Entry)
	if ok && cap(*r) >= n && cap(*r) <= n+n/4+64 { // a much larger one would be kept with a small tree
		return (*r)[:0]
	}
	return make([]Entry, 0, n)
}

func giveBack(r []Entry) {
	clear(r)
	arrays.Put(&r)
}

type scanner struct {
	ScanOptions
	ctx      context.Context
	tree     *Tree
	began    int64
	hands    hands
	branches []*branch
	wait     sync.WaitGroup

	at int // where in Prev the next name is likely to be: both go in the same order
}

// dir adds what is in the directory at path: all of it, or where nothing dirty lies in it, what the scan before found.
// unmoved says that the directory is as the scan before saw it, by its own stamp: then so are the names in it.
func (s *scanner) dir(d *dirfd.Dir, path string, depth int, all, unmoved bool) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if !all && !s.Dirty[path] {
		return s.known(d, path, depth)
	}
	names, err := s.names(d, path, unmoved)
	if err != nil {
		return s.trouble(path, err)
	}
	for _, name := range names {
		if path == "" && !s.Whole && TopNames[name] {
			continue
		}
		if err := s.name(d, path, name, depth, all); err != nil {
			return err
		}
	}
	return nil
}

// listed reports whether the scan will know all names in a directory. One that moved and is not looked at must not bear its new stamp
// as if it had been: the next scan would take its names for known.
func (s *scanner) listed(path string, all, unmoved bool) bool { return all || unmoved || s.Dirty[path] }

// names lists a directory; where it did not move, from the scan before, unless that could not look at all there was.
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

// known takes the directory's own names from the scan before and goes down only to what is dirty.
func (s *scanner) known(d *dirfd.Dir, path string, depth int) error {
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
		} else if err := s.name(d, path, e.Path[len(e.Path)-nameLen(e.Path):], depth, false); err != nil {
			return err
		}
		i += n
	}
	return nil
}

func nameLen(path string) int { return len(path) - 1 - strings.LastIndexByte(path, '/') }

func (s *scanner) dirtyBelow(path string) bool {
	for d := range s.Dirty {
		if pathname.Within(d, path) {
			return true
		}
	}
	return false
}

func (s *scanner) keepSkipped(path string) {
	for _, k := range s.Prev.Skipped {
		if pathname.Within(k.Path, path) {
			s.tree.Skipped = append(s.tree.Skipped, k)
		}
	}
}

// name looks at one name of the open directory at path.
func (s *scanner) name(d *dirfd.Dir, dir, name string, depth int, all bool) error {
	path, prev := s.prev(dir, name)
	st, err := d.Stat(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone between the listing and the look
		}
		return s.trouble(path, err)
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
		// A directory that is new, or another of the same name, is dirty all through.
		all = all || prev == nil || prev.Kind != dirfd.KindDir || prev.stamp.ino != e.stamp.ino
		return s.subdir(d, name, e, prev, depth, all)
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
		if !s.file(d, name, &e, prev) {
			return nil
		}
	}
	s.tree.Entries = append(s.tree.Entries, e)
	return nil
}

// prev is the path of a name and what the scan before found there, or nil.
func (s *scanner) prev(dir, name string) (string, *Entry) {
	if s.Prev != nil && s.at < len(s.Prev.Entries) {
		if e := &s.Prev.Entries[s.at]; isName(e.Path, dir, name) {
			s.at++
			return e.Path, e
		}
	}
	path := name
	if dir != "" {
		path = dir + "/" + name
	}
	if s.Prev == nil {
		return path, nil
	}
	i, ok := s.Prev.index(path)
	s.at = i
	if !ok {
		return path, nil
	}
	s.at++
	return s.Prev.Entries[i].Path, &s.Prev.Entries[i]
}

// isName reports whether path is that of a name in dir.
func isName(path, dir, name string) bool {
	if dir == "" {
		return path == name
	}
	n := len(dir)
	return len(path) == n+1+len(name) && path[n] == '/' && path[n+1:] == name && path[:n] == dir
}

func (s *scanner) intern(path string) string {
	if s.Names != nil {
		if e, ok := s.Names.Get(path); ok {
			return e.Path
		}
	}
	return path
}

func (s *scanner) subdir(d *dirfd.Dir, name string, e Entry, prev *Entry, depth int, all bool) error {
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
	if depth < branchDepth && s.hands.take() {
		s.fork(sub, e.Path, depth+1)
		return nil
	}
	defer sub.Close()
	return s.dir(sub, e.Path, depth+1, all, unmoved)
}

// xattrs reads the attributes of an open file or directory. Those that can't be read are no reason to leave
// out what it holds.
func (s *scanner) xattrs(f interface{ Xattrs() ([]dirfd.Xattr, error) }, e *Entry) {
	x, err := f.Xattrs()
	e.Xattrs = PackXattrs(x)
	if dirfd.NoXattr(err) {
		s.tree.NoXattrs = true
	} else if err != nil {
		e.Unlisted, e.Excess = WhyUnlisted(err), dirfd.XattrsTooLarge(err)
	}
}

// readXattrs reads the attributes of a file whose contents are known. One that went, or cannot be opened, keeps what it
// had: the next scan sees what it is.
func (s *scanner) readXattrs(d *dirfd.Dir, name string, e *Entry) {
	f, err := d.OpenFile(name)
	if err != nil {
		return
	}
	defer f.Close()
	e.Unlisted, e.Excess = "", false
	s.xattrs(f, e)
}

// WhyUnlisted says why not all attributes are known. The path is told by whoever tells the reason.
func WhyUnlisted(err error) string {
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	if dirfd.XattrsTooLarge(err) {
		return NotAllXattrs + err.Error()
	}
	return "its extended attributes can't all be read: " + strings.ReplaceAll(err.Error(), "\n", "; ")
}

// gone swallows the error of a name that went, or became something else, after it was listed: the next scan sees what it is.
func (s *scanner) gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || NotSame(err) {
		return nil
	}
	return err
}

// NotSame reports whether an error says that a name is no longer what it was a moment ago:
// a link where a directory or file was (EMLINK on FreeBSD), a fifo where a file was.
func NotSame(err error) bool {
	return errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EMLINK) || errors.Is(err, dirfd.ErrNotRegular)
}

// trouble passes on an error for the root, and keeps any other to its own path.
func (s *scanner) trouble(path string, err error) error {
	if path == "" || s.ctx.Err() != nil {
		return err
	}
	s.skip(path, Reason(err.Error()))
	return nil
}

func (s *scanner) skip(path string, why Reason) {
	s.tree.Skipped = append(s.tree.Skipped, Skipped{path, why})
}

// file fills in the content's digest, from the scan before where the stamp allows. False means that the name is gone.
func (s *scanner) file(d *dirfd.Dir, name string, e *Entry, prev *Entry) bool {
	switch {
	case s.MaxFile > 0 && e.Size > s.MaxFile:
		e.Unread = TooLarge
		return true
	case s.NoContent:
		return true
	case prev != nil && !s.Rehash && prev.settled(e):
		e.Digest, e.Xattrs, e.Unlisted, e.Excess = prev.Digest, prev.Xattrs, prev.Unlisted, prev.Excess
		if s.StillXattrs && !s.tree.NoXattrs {
			s.readXattrs(d, name, e)
		}
		return true
	}
	err := s.read(d, name, e)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist) || NotSame(err):
		return false
	case errors.Is(err, fs.ErrPermission):
		e.Unread = "no permission to read it"
	default:
		e.Unread = Reason(err.Error())
	}
	e.stamp.fresh = e.fresh(s.began) // not by when it was read to its end: it was looked at before
	return true
}

// settled reports whether nothing can have changed the content between the look that made e and now.
func (e *Entry) settled(now *Entry) bool {
	return e.Kind == dirfd.KindFile && e.Unread == "" && !e.stamp.fresh && e.Digest != (Digest{}) &&
		e.stamp.ino == now.stamp.ino && e.stamp.ctime == now.stamp.ctime && e.MTime == now.MTime && e.Size == now.Size
}

// settledLink is settled for a symbolic link, whose target never changes while it is the same inode.
func (e *Entry) settledLink(now *Entry) bool {
	return e.Kind == dirfd.KindSymlink && !e.stamp.fresh && e.stamp.ino == now.stamp.ino && e.stamp.ctime == now.stamp.ctime
}

// still reports whether nothing can have changed in a directory's own names and attributes between the look that made e and now.
func (e *Entry) still(now *Entry) bool {
	return e.Kind == dirfd.KindDir && !e.stamp.fresh && e.stamp.ino == now.stamp.ino && e.stamp.ctime == now.stamp.ctime && e.MTime == now.MTime
}

// fresh reports whether the file changed so shortly before now that a later change could bear the same time.
func (e *Entry) fresh(now int64) bool {
	limit := int64(granularity)
	if e.stamp.ctime%int64(time.Second) == 0 {
		limit = int64(coarse)
	}
	return e.stamp.ctime > now-limit
}

func (s *scanner) read(d *dirfd.Dir, name string, e *Entry) error {
	f, err := d.OpenFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if !s.tree.NoXattrs {
		s.xattrs(f, e)
	}
	if e.Digest, err = DigestOf(stopping{s.ctx, f}, e.Size); err != nil {
		return err
	}
	after, err := f.Stat()
	if err != nil {
		return err
	}
	if !Unmoved(e, after) {
		return ErrMovedOn
	}
	return nil
}

// Unmoved reports whether the file is still the one that the entry describes.
func Unmoved(e *Entry, st dirfd.Stat) bool {
	return st.Ino == e.stamp.ino && st.Size == e.Size && st.MTime == e.MTime && st.CTime == e.stamp.ctime
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// Stopping is a reader that ends with a context, for files whose size somebody else chose.
func Stopping(ctx context.Context, r io.Reader) io.Reader { return stopping{ctx, r} }

type stopping struct {
	ctx context.Context
	io.Reader
}

func (r stopping) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// DigestOf reads at most size bytes and one more, so that a file that grows does not hold the scan.
func DigestOf(r io.Reader, size int64) (Digest, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.LimitReader(r, size+1)}, *buf); err != nil {
		return Digest{}, err
	}
	var d Digest
	h.Sum(d[:0])
	return d, nil
}

// Privileged is whether owners can be set, and so are worth comparing.
var Privileged = os.Geteuid() == 0

func OwnIDs() (uid, gid uint32) { return uint32(os.Geteuid()), uint32(os.Getegid()) }

func EntryOf(path string, st dirfd.Stat) Entry {
	e := Entry{Path: path, Kind: st.Kind, Mode: st.Mode, UID: st.UID, GID: st.GID, Flags: st.Flags, MTime: st.MTime}
	if !Privileged { // what an ordinary user copies is the user's own: owners are no difference then
		e.UID, e.GID = OwnIDs()
	}
	if st.Kind == dirfd.KindFile {
		e.Size = st.Size
	}
	e.stamp = stamp{ino: st.Ino, ctime: st.CTime, nlink: uint32(min(st.Nlink, 1<<31)), sparse: st.Blocks*512 < st.Size}
	return e
}

// sortSkipped puts them in order and drops doubles.
func sortSkipped(s []Skipped) []Skipped {
	slices.SortFunc(s, func(a, b Skipped) int { return pathname.Compare(a.Path, b.Path) })
	return slices.CompactFunc(s, func(a, b Skipped) bool { return a.Path == b.Path })
}
