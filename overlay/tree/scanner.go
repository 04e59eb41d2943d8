package tree

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"cfgd/internal/ctxio"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

const (
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

// scanner is a scan, or the part of it that one goroutine does.
type scanner struct {
	ScanOptions
	tree     *Tree
	began    int64
	workers  *errgroup.Group // nil if one goroutine does all
	subscans []*subscan

	at int // index in Prev where the next name is probably found, because both are in the same order
}

// subscan is the scan of one directory's subtree by another goroutine.
type subscan struct {
	*scanner
	at int // the index in the parent scanner's entries where its entries belong
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

// trouble returns an error of the root. Any other error is recorded for its own path.
func (s *scanner) trouble(ctx context.Context, path string, err error) error {
	if path == "" || ctx.Err() != nil {
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
func (s *scanner) file(ctx context.Context, d *dirfd.Dir, name string, e *Entry, prev *Entry) bool {
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
	err := s.read(ctx, d, name, e)
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

func (s *scanner) read(ctx context.Context, d *dirfd.Dir, name string, e *Entry) error {
	f, err := d.OpenFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if !s.tree.NoXattrs {
		s.xattrs(f, e)
	}
	if e.Digest, err = DigestOf(ctxio.Reader(ctx, f), e.Size); err != nil {
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
