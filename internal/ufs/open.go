package ufs

import (
	"io"
	"io/fs"
	"strings"
)

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
	n := parse1
	if f.two {
		n = parse2
	}
	return f.sound(n(ino, b), u16(b, 0))
}

var kinds = map[uint16]fs.FileMode{0o040000: fs.ModeDir, 0o100000: 0, 0o120000: fs.ModeSymlink,
	0o020000: fs.ModeDevice | fs.ModeCharDevice, 0o060000: fs.ModeDevice,
	0o010000: fs.ModeNamedPipe, 0o140000: fs.ModeSocket}

// sound checks that an inode is possible, and adds its type and its link.
func (f *FS) sound(n *inode, mode uint16) (*inode, error) {
	kind, ok := kinds[mode&0o170000]
	n.Perm = uint32(mode) & 0o7777
	n.Mode = kind | fs.FileMode(n.Perm&0o777)
	switch {
	case !ok:
		return nil, f.bad(n.Ino, "type %#o", mode&0o170000)
	case n.Size < 0 || n.Size > maxSize:
		return nil, f.bad(n.Ino, "%d bytes", n.Size)
	case n.secs < -maxSeconds || n.secs > maxSeconds:
		return nil, f.bad(n.Ino, "changed %d seconds after 1970", n.secs)
	case kind == fs.ModeDir && n.Size > maxDirSize:
		return nil, f.bad(n.Ino, "a directory of %d bytes", n.Size)
	case kind == fs.ModeSymlink:
		return n, f.link(n)
	}
	return n, nil
}

// link reads the target of a symbolic link. A short one is in the inode (ufs_readlink in
// sys/ufs/ufs/ufs_vnops.c).
func (f *FS) link(n *inode) error {
	if n.Size > maxLink {
		return f.bad(n.Ino, "a link of %d bytes", n.Size)
	}
	text := make([]byte, n.Size)
	if n.Size < f.maxSymlink || f.maxSymlink == 0 && n.blocks == 0 {
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

// Open opens a regular file. Its holes are read as zeros, and its size may claim to be much larger than
// the image.
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

// At returns where a byte of a regular file is in the image, 0 in a hole.
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
