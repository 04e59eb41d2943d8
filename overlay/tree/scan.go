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

	"cfgd/internal/ctxio"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

const (
	// granularity is how far apart two changes of a file must be to get different times on every supported
	// filesystem. UFS takes times from kern.hz unless vfs.timestamp_precision is set. FAT is not supported. A
	// file that changed less than this before the scan is read again next time.
	granularity = 20 * time.Millisecond
	// coarse is the granularity of filesystems that store whole seconds (vfs.timestamp_precision=0).
	coarse = 1100 * time.Millisecond

	MaxDepth  = 128 // directories; each level holds one descriptor open
	manyDirty = 64  // with more dirty directories a whole scan is cheaper

	// maxDirPath bounds a directory's path, in bytes, so that pathname.Valid accepts the path of every name
	// in it.
	maxDirPath = 4096 - 1 - 255
)

// Names at the top of a tree that are never part of it.
const (
	MetaName   = ".cfgd"   // the store's own
	IgnoreName = ".ignore" // NanoBSD's marks
)

// TopNames are these two names and those that a filesystem makes for itself: newfs(8) makes .snap, and
// .sujournal if soft updates are journaled; fsck(8) and mke2fs(8) make lost+found.
var TopNames = map[string]bool{
	MetaName:     true,
	IgnoreName:   true,
	".snap":      true,
	".sujournal": true,
	"lost+found": true,
}

// ScanOptions say how much a scan reads. The zero value reads everything.
type ScanOptions struct {
	// Prev is an earlier scan of the same root. Content is read again only if the file's stamp changed.
	Prev *Tree
	// Dirty lists the directories to read; everything else is taken from Prev, which must be set. Nil means
	// all.
	Dirty map[string]bool
	// Rehash reads every file, even if its stamp did not change.
	Rehash bool
	// StillXattrs reads extended attributes even if the stamp did not change. It is for filesystems where a
	// change of an attribute changes no time (dirfd.Space).
	StillXattrs bool
	// NoContent reads no file. All digests are zero.
	NoContent bool
	// MaxFile is the size in bytes above which content is not read; 0 means no bound.
	MaxFile int64
	// Ignore leaves out a path and all below it. Its result must depend on its arguments alone, and Prev must
	// have been made with the same function.
	Ignore func(path string, kind dirfd.Kind) bool
	// Whole includes TopNames in the scan.
	Whole bool
	// Names is a tree whose path strings are reused to save memory.
	Names *Tree
	// Now is the clock to compare stamps with; nil means time.Now.
	Now func() time.Time
}

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
	s := &scanner{ScanOptions: o, ctx: ctx, began: o.Now().UnixNano()}
	s.tree = &Tree{dev: self.Dev, rootID: self.Ino, Root: EntryOf("", self)}
	if o.Prev != nil {
		s.tree.Entries = entriesFor(len(o.Prev.Entries) + 16)
		s.tree.NoXattrs = o.Prev.NoXattrs
	}
	if o.Prev == nil { // everything is read, so all cores help
		s.semaphore = newSemaphore()
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

type scanner struct {
	ScanOptions
	ctx       context.Context
	tree      *Tree
	began     int64
	semaphore semaphore
	subscans  []*subscan
	wait      sync.WaitGroup

	at int // index in Prev where the next name is probably found, because both are in the same order
}

// dir adds what is in the directory at path. If all is false, it reads only what is dirty and takes the rest
// from the earlier scan. unmoved says that the directory's own stamp did not change, so its names did not
// either.
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

// name adds one name of the open directory at path.
func (s *scanner) name(d *dirfd.Dir, dir, name string, depth int, all bool) error {
	path, prev := s.prev(dir, name)
	st, err := d.Stat(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed since the directory was listed
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
		// If the directory is new, or has another inode, everything in it is read.
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

// prev returns the path of a name and its entry in the earlier scan, or nil.
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

// isName reports whether path is the path of name in dir.
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
	if depth < subscanDepth && s.semaphore.tryAcquire() {
		s.startSubscan(sub, e.Path, depth+1)
		return nil
	}
	defer sub.Close()
	return s.dir(sub, e.Path, depth+1, all, unmoved)
}

// xattrs reads the attributes of an open file or directory. If some can't be read, the content is still kept.
func (s *scanner) xattrs(f interface{ Xattrs() ([]dirfd.Xattr, error) }, e *Entry) {
	x, err := f.Xattrs()
	e.Xattrs = PackXattrs(x)
	if dirfd.NoXattr(err) {
		s.tree.NoXattrs = true
	} else if err != nil {
		e.Unlisted, e.Excess = WhyUnlisted(err), dirfd.XattrsTooLarge(err)
	}
}

// readXattrs reads the attributes of a file whose content is known. If the file is gone or can't be opened,
// the attributes stay as they are; the next scan decides.
func (s *scanner) readXattrs(d *dirfd.Dir, name string, e *Entry) {
	f, err := d.OpenFile(name)
	if err != nil {
		return
	}
	defer f.Close()
	e.Unlisted, e.Excess = "", false
	s.xattrs(f, e)
}

// WhyUnlisted says why some attributes are not known. It leaves out the path, because the caller prints it.
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

// gone drops an error that means that a name was removed or replaced after it was listed. The next scan sees
// the result.
func (s *scanner) gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || NotSame(err) {
		return nil
	}
	return err
}

// NotSame reports whether an error means that a name is not what it was a moment ago: a link in place of a
// directory or file (EMLINK on FreeBSD), a fifo in place of a file.
func NotSame(err error) bool {
	return errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EMLINK) ||
		errors.Is(err, dirfd.ErrNotRegular)
}

// trouble returns an error of the root. Any other error is recorded for its own path.
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

// file sets the content's digest, taken from the earlier scan if the stamp allows. It returns false if the
// name is gone.
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
	// the time counts from the scan's start, because stat came before the read
	e.stamp.fresh = e.fresh(s.began)
	return true
}

// settled reports whether the content is certainly the same in the earlier scan's e and the present now.
func (e *Entry) settled(now *Entry) bool {
	return e.Kind == dirfd.KindFile && e.Unread == "" && !e.stamp.fresh && e.Digest != (Digest{}) &&
		e.stamp.ino == now.stamp.ino && e.stamp.ctime == now.stamp.ctime &&
		e.MTime == now.MTime && e.Size == now.Size
}

// settledLink is settled for a symbolic link. The target of a link can't change while the inode stays the
// same.
func (e *Entry) settledLink(now *Entry) bool {
	return e.Kind == dirfd.KindSymlink && !e.stamp.fresh && e.stamp.ino == now.stamp.ino &&
		e.stamp.ctime == now.stamp.ctime
}

// still reports whether a directory's own names and attributes are certainly the same in the earlier scan's e
// and the present now.
func (e *Entry) still(now *Entry) bool {
	return e.Kind == dirfd.KindDir && !e.stamp.fresh && e.stamp.ino == now.stamp.ino &&
		e.stamp.ctime == now.stamp.ctime &&
		e.MTime == now.MTime
}

// fresh reports whether the file changed so shortly before now that a later change could get the same time.
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
	if e.Digest, err = DigestOf(ctxio.Reader(s.ctx, f), e.Size); err != nil {
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

// Unmoved reports whether st shows the file that the entry describes, unchanged.
func Unmoved(e *Entry, st dirfd.Stat) bool {
	return st.Ino == e.stamp.ino && st.Size == e.Size && st.MTime == e.MTime && st.CTime == e.stamp.ctime
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// DigestOf reads at most size bytes and one more, so that a file that keeps growing does not block the scan.
func DigestOf(r io.Reader, size int64) (Digest, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	h := sha256.New()
	bounded := struct{ io.Reader }{io.LimitReader(r, size+1)}
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, bounded, *buf); err != nil {
		return Digest{}, err
	}
	var d Digest
	h.Sum(d[:0])
	return d, nil
}

// Privileged reports whether the process can set owners. Otherwise owners are not compared.
var Privileged = os.Geteuid() == 0

// OwnIDs returns the user and group of the process.
func OwnIDs() (uid, gid uint32) { return uint32(os.Geteuid()), uint32(os.Getegid()) }

// EntryOf returns the entry for a stat, without content and attributes.
func EntryOf(path string, st dirfd.Stat) Entry {
	e := Entry{
		Path:  path,
		Kind:  st.Kind,
		Mode:  st.Mode,
		UID:   st.UID,
		GID:   st.GID,
		Flags: st.Flags,
		MTime: st.MTime,
	}
	if !Privileged { // an ordinary user's copies belong to that user, so owners are no difference
		e.UID, e.GID = OwnIDs()
	}
	if st.Kind == dirfd.KindFile {
		e.Size = st.Size
	}
	e.stamp = stamp{
		ino:    st.Ino,
		ctime:  st.CTime,
		nlink:  uint32(min(st.Nlink, 1<<31)),
		sparse: st.Blocks*512 < st.Size,
	}
	return e
}

// sortSkipped sorts by path and drops duplicates.
func sortSkipped(s []Skipped) []Skipped {
	slices.SortFunc(s, func(a, b Skipped) int { return pathname.Compare(a.Path, b.Path) })
	return slices.CompactFunc(s, func(a, b Skipped) bool { return a.Path == b.Path })
}
