// Package ufs reads FreeBSD's UFS1 and UFS2 filesystems out of an image or a slice, without mounting it: little-endian, in the format since 4.4BSD, as newfs(8)
// and makefs(8) write it. The layout is that of sys/ufs/ffs/fs.h, sys/ufs/ufs/dinode.h and dir.h.
//
// What always holds: an image is hostile. Nothing is read outside of it, nothing takes more memory than it says here, and nothing goes on for ever, whatever it
// claims; an error names the inode. It never writes. Extended attributes, snapshots, quotas and journals are not looked at, and check hashes not verified: what is
// read is compared with what it should be by those who use it.
package ufs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"
)

// Bounds of what an image may make a reader do.
const (
	maxDirSize = 16 << 20 // bytes of one directory
	maxEntries = 1 << 20  // of one walk
	maxDepth   = 128      // of directories
	maxLink    = 4096     // bytes of a symbolic link
)

// ErrFormat is the error for what is no UFS, or a damaged one.
var ErrFormat = errors.New("no filesystem that can be read")

const (
	magic1  = 0x011954
	magic2  = 0x19540119
	rootIno = 2
	direct  = 12
)

// FS is an open filesystem.
type FS struct {
	Label string // fs_volname: tunefs -L
	Bytes int64  // that the filesystem takes

	r    io.ReaderAt
	size int64

	two                   bool // UFS2
	bsize, fsize, frag    int64
	ncg, ipg, fpg         int64
	iblkno, inopb         int64
	cgoffset, cgmask      int64
	maxSymlink, inodeSize int64
}

// Entry is what an inode says of a name.
type Entry struct {
	Path  string // below the directory that was walked
	Ino   uint64
	Mode  fs.FileMode // type and permissions
	Perm  uint32      // the permission bits as they stand there, 07777
	Nlink int
	UID   uint32
	GID   uint32
	Flags uint32 // chflags(2)
	Size  int64
	MTime int64 // nanoseconds since 1970
	Link  string
}

// superblocks are where newfs(8) and makefs(8) put them, in the order of SBLOCKSEARCH.
var superblocks = []int64{65536, 8192}

// Open reads the superblock of a filesystem of so many bytes.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	b := make([]byte, 1376)
	for _, at := range superblocks {
		if at+int64(len(b)) > size {
			continue
		}
		if _, err := r.ReadAt(b, at); err != nil {
			return nil, fmt.Errorf("read the superblock: %w", err)
		}
		m := u32(b, 1372)
		if m != magic2 && (m != magic1 || at != 8192) { // at 65536 a UFS1 may have a spare one, or a file's content
			continue
		}
		return newFS(r, size, b, m == magic2)
	}
	return nil, fmt.Errorf("%w: no superblock of UFS", ErrFormat)
}

func u16(b []byte, at int) uint16 { return binary.LittleEndian.Uint16(b[at:]) }
func u32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
func u64(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

func i32(b []byte, at int) int64 { return int64(int32(u32(b, at))) }

func newFS(r io.ReaderAt, size int64, b []byte, two bool) (*FS, error) {
	f := &FS{r: r, size: size, two: two, bsize: i32(b, 48), fsize: i32(b, 52), frag: i32(b, 56), ncg: i32(b, 44), ipg: i32(b, 184), fpg: i32(b, 188),
		iblkno: i32(b, 16), inopb: i32(b, 120), cgoffset: i32(b, 24), cgmask: i32(b, 28), maxSymlink: i32(b, 1320), inodeSize: 128}
	if label, _, _ := bytes.Cut(b[680:712], []byte{0}); utf8.Valid(label) {
		f.Label = string(label)
	}
	if two {
		f.inodeSize, f.cgoffset = 256, 0
	}
	f.Bytes = int64(u32(b, 36)) * f.fsize
	if two {
		f.Bytes = int64(u64(b, 1080)&(1<<40-1)) * f.fsize
	}
	switch {
	case f.bsize < 4096 || f.bsize > 65536 || f.bsize&(f.bsize-1) != 0, f.fsize < 512 || f.fsize > f.bsize || f.fsize&(f.fsize-1) != 0, f.frag != f.bsize/f.fsize:
		return nil, fmt.Errorf("%w: blocks of %d bytes in %d fragments of %d", ErrFormat, f.bsize, f.frag, f.fsize)
	case f.ncg < 1 || f.ipg < 1 || f.fpg < 1 || f.iblkno < 1 || f.ipg > 1<<24 || f.ncg*f.ipg > 1<<40:
		return nil, fmt.Errorf("%w: %d groups of %d inodes and %d fragments", ErrFormat, f.ncg, f.ipg, f.fpg)
	case f.inopb != f.bsize/f.inodeSize:
		return nil, fmt.Errorf("%w: %d inodes a block", ErrFormat, f.inopb)
	case !two && u32(b, 1324) != 2:
		return nil, fmt.Errorf("%w: inodes in the format of 4.2BSD", ErrFormat)
	case f.maxSymlink < 0 || f.maxSymlink > 120:
		return nil, fmt.Errorf("%w: symbolic links of %d bytes in inodes", ErrFormat, f.maxSymlink)
	}
	return f, nil
}

// inode is an inode as it is read.
type inode struct {
	Entry
	addrs [direct + 3]int64
	short []byte // where the addresses stand: the text of a short link
	held  uint64 // blocks
}

func (f *FS) bad(ino uint64, format string, args ...any) error {
	return fmt.Errorf("%w: inode %d: %s", ErrFormat, ino, fmt.Sprintf(format, args...))
}

// read reads bytes of the image.
func (f *FS) read(ino uint64, b []byte, at int64) error {
	if at < 0 || at > f.size || int64(len(b)) > f.size-at {
		return f.bad(ino, "bytes %d to %d of an image of %d", at, at+int64(len(b)), f.size)
	}
	if _, err := f.r.ReadAt(b, at); err != nil {
		return fmt.Errorf("inode %d: read at %d: %w", ino, at, err)
	}
	return nil
}

func (f *FS) inode(ino uint64) (*inode, error) {
	if ino < rootIno || ino >= uint64(f.ncg*f.ipg) {
		return nil, f.bad(ino, "there are %d", f.ncg*f.ipg)
	}
	cg, i := int64(ino)/f.ipg, int64(ino)%f.ipg
	start := f.fpg*cg + f.cgoffset*(cg&^f.cgmask)
	at := (start+f.iblkno+i/f.inopb*f.frag)*f.fsize + i%f.inopb*f.inodeSize
	b := make([]byte, f.inodeSize)
	if err := f.read(ino, b, at); err != nil {
		return nil, err
	}
	n := &inode{Entry: Entry{Ino: ino, Perm: uint32(u16(b, 0)) & 0o7777, Nlink: int(int16(u16(b, 2)))}}
	if f.two {
		n.UID, n.GID, n.Size, n.held = u32(b, 4), u32(b, 8), int64(u64(b, 16)), u64(b, 24)
		n.MTime, n.Flags, n.short = int64(u64(b, 40))*1e9+i32(b, 64), u32(b, 88), b[112:232]
		for i := range n.addrs {
			n.addrs[i] = int64(u64(b, 112+8*i))
		}
	} else {
		n.UID, n.GID, n.Size, n.held = u32(b, 112), u32(b, 116), int64(u64(b, 8)), uint64(u32(b, 104))
		n.MTime, n.Flags, n.short = i32(b, 24)*1e9+i32(b, 28), u32(b, 100), b[40:100]
		for i := range n.addrs {
			n.addrs[i] = i32(b, 40+4*i)
		}
	}
	return n, f.kind(n, u16(b, 0))
}

var kinds = map[uint16]fs.FileMode{0o040000: fs.ModeDir, 0o100000: 0, 0o120000: fs.ModeSymlink, 0o020000: fs.ModeDevice | fs.ModeCharDevice, 0o060000: fs.ModeDevice,
	0o010000: fs.ModeNamedPipe, 0o140000: fs.ModeSocket}

func (f *FS) kind(n *inode, mode uint16) error {
	kind, ok := kinds[mode&0o170000]
	switch {
	case !ok:
		return f.bad(n.Ino, "type %#o", mode&0o170000)
	case n.Size < 0 || n.Size > 1<<50:
		return f.bad(n.Ino, "%d bytes", n.Size)
	case kind == fs.ModeDir && n.Size > maxDirSize:
		return f.bad(n.Ino, "a directory of %d bytes", n.Size)
	}
	n.Mode = kind | fs.FileMode(n.Perm&0o777)
	if kind != fs.ModeSymlink {
		return nil
	}
	if n.Size > maxLink {
		return f.bad(n.Ino, "a link of %d bytes", n.Size)
	}
	text := make([]byte, n.Size)
	if n.Size < f.maxSymlink || f.maxSymlink == 0 && n.held == 0 {
		if n.Size > int64(len(n.short)) {
			return f.bad(n.Ino, "a short link of %d bytes", n.Size)
		}
		copy(text, n.short)
	} else if _, err := io.ReadFull(io.NewSectionReader(&content{f, n}, 0, n.Size), text); err != nil {
		return err
	}
	if n.Link = string(text); strings.ContainsRune(n.Link, 0) || n.Link == "" {
		return f.bad(n.Ino, "a link with a NUL, or to nothing")
	}
	return nil
}

// block is where a block of a file is in the image, in bytes; 0 for a hole.
func (f *FS) block(n *inode, lbn int64) (int64, error) {
	if lbn < direct {
		return f.place(n, n.addrs[lbn])
	}
	width := f.bsize / 4
	if f.two {
		width = f.bsize / 8
	}
	lbn -= direct
	span := int64(1)
	for level := range 3 {
		if span *= width; lbn >= span {
			lbn -= span
			continue
		}
		addr := n.addrs[direct+level]
		for ; ; lbn %= span {
			at, err := f.place(n, addr)
			if err != nil || at == 0 {
				return 0, err
			}
			if span == 1 {
				return at, nil
			}
			span /= width
			if addr, err = f.pointer(n, at, lbn/span); err != nil {
				return 0, err
			}
		}
	}
	return 0, f.bad(n.Ino, "more blocks than a file can have")
}

// pointer reads one address of an indirect block.
func (f *FS) pointer(n *inode, at, i int64) (int64, error) {
	b := make([]byte, 8)
	if f.two {
		err := f.read(n.Ino, b, at+8*i)
		return int64(u64(b, 0)), err
	}
	err := f.read(n.Ino, b[:4], at+4*i)
	return i32(b, 0), err
}

func (f *FS) place(n *inode, addr int64) (int64, error) {
	if addr < 0 || addr > f.size/f.fsize {
		return 0, f.bad(n.Ino, "a block at fragment %d of an image of %d", addr, f.size/f.fsize)
	}
	return addr * f.fsize, nil
}

// content is a file's content.
type content struct {
	f *FS
	n *inode
}

func (c *content) ReadAt(p []byte, at int64) (int, error) {
	done := 0
	for done < len(p) {
		if at >= c.n.Size {
			return done, io.EOF
		}
		off := at % c.f.bsize
		n := min(int64(len(p)-done), c.f.bsize-off, c.n.Size-at)
		where, err := c.f.block(c.n, at/c.f.bsize)
		if err != nil {
			return done, err
		}
		if where == 0 {
			clear(p[done : done+int(n)])
		} else if err := c.f.read(c.n.Ino, p[done:done+int(n)], where+off); err != nil {
			return done, err
		}
		done, at = done+int(n), at+n
	}
	return done, nil
}

// name is a name of a directory.
type name struct {
	ino  uint64
	name string
}

func (f *FS) names(n *inode) ([]name, error) {
	if n.Mode.Type() != fs.ModeDir {
		return nil, f.bad(n.Ino, "no directory")
	}
	b := make([]byte, n.Size)
	if _, err := (&content{f, n}).ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, err
	}
	var all []name
	for at := 0; at < len(b); {
		if at+8 > len(b) {
			return nil, f.bad(n.Ino, "a directory that ends in an entry, at %d", at)
		}
		length, namlen := int(u16(b, at+4)), int(b[at+7])
		if length < 8 || length%4 != 0 || at+length > len(b) || 8+namlen > length {
			return nil, f.bad(n.Ino, "an entry of %d bytes with a name of %d, at %d", length, namlen, at)
		}
		ino, text := uint64(u32(b, at)), string(b[at+8:at+8+namlen])
		at += length
		if ino == 0 || text == "." || text == ".." {
			continue
		}
		if text == "" || strings.ContainsAny(text, "/\x00") {
			return nil, f.bad(n.Ino, "a name %q", text)
		}
		all = append(all, name{ino, text})
	}
	return all, nil
}

// find follows a path from the root. No link is followed.
func (f *FS) find(p string) (*inode, error) {
	n, err := f.inode(rootIno)
	if err != nil {
		return nil, err
	}
	for _, part := range strings.Split(p, "/") {
		if part == "" {
			continue
		}
		all, err := f.names(n)
		if err != nil {
			return nil, err
		}
		ino := uint64(0)
		for _, x := range all {
			if x.name == part {
				ino = x.ino
			}
		}
		if ino == 0 {
			return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
		}
		if n, err = f.inode(ino); err != nil {
			return nil, err
		}
	}
	n.Path = p
	return n, nil
}

// Stat is the entry at a path from the root, "" for the root itself.
func (f *FS) Stat(p string) (*Entry, error) {
	n, err := f.find(p)
	if err != nil {
		return nil, err
	}
	return &n.Entry, nil
}

// Open opens a regular file.
func (f *FS) Open(e *Entry) (*io.SectionReader, error) {
	n, err := f.inode(e.Ino)
	if err != nil {
		return nil, err
	}
	if !n.Mode.IsRegular() {
		return nil, f.bad(e.Ino, "no regular file")
	}
	return io.NewSectionReader(&content{f, n}, 0, n.Size), nil
}

// At is where a byte of a regular file is in the image; 0 in a hole.
func (f *FS) At(e *Entry, offset int64) (int64, error) {
	n, err := f.inode(e.Ino)
	if err != nil {
		return 0, err
	}
	if !n.Mode.IsRegular() || offset < 0 || offset >= n.Size {
		return 0, f.bad(e.Ino, "no byte %d of a regular file", offset)
	}
	at, err := f.block(n, offset/f.bsize)
	if err != nil || at == 0 {
		return 0, err
	}
	return at + offset%f.bsize, nil
}

// Walk calls do for all below a directory, parents first, in the order of the directories.
func (f *FS) Walk(ctx context.Context, dir string, do func(*Entry) error) error {
	n, err := f.find(dir)
	if err != nil {
		return err
	}
	w := &walker{ctx: ctx, f: f, do: do, open: map[uint64]bool{}}
	return w.walk(n, "", 0)
}

type walker struct {
	ctx  context.Context
	f    *FS
	do   func(*Entry) error
	n    int
	open map[uint64]bool // directories that we are in
}

func (w *walker) walk(n *inode, at string, depth int) error {
	if depth > maxDepth || w.open[n.Ino] {
		return w.f.bad(n.Ino, "directories that never end")
	}
	w.open[n.Ino] = true
	defer delete(w.open, n.Ino)
	all, err := w.f.names(n)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, x := range all {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if w.n++; w.n > maxEntries || seen[x.name] {
			return w.f.bad(n.Ino, "too many names, or %q twice", x.name)
		}
		seen[x.name] = true
		c, err := w.f.inode(x.ino)
		if err != nil {
			return err
		}
		c.Path = path.Join(at, x.name)
		if err := w.do(&c.Entry); err != nil {
			return err
		}
		if c.Mode.IsDir() {
			if err := w.walk(c, c.Path, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
