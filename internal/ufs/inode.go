package ufs

import (
	"io"
	"io/fs"
	"strings"
)

// Entry is a name with the data of its inode.
type Entry struct {
	Path  string // below the directory that was walked
	Ino   uint64
	Mode  fs.FileMode // type and permissions
	Perm  uint32      // the permission bits as stored, 07777
	Nlink int
	UID   uint32
	GID   uint32
	Flags uint32 // chflags(2)
	Size  int64
	MTime int64 // nanoseconds since 1970
	Link  string
}

// ROOTINO, WINO and NDADDR of sys/ufs/ufs/dinode.h.
const (
	rootIno  = 2
	whiteIno = 1 // of a name that a union mount hides
	direct   = 12
)

// inode is an inode with the fields that are needed.
type inode struct {
	Entry
	addrs  [direct + 3]int64
	short  []byte // the bytes of the addresses: the text of a short link
	blocks uint64 // blocks
	secs   int64  // of MTime
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
	n := parse1
	if f.two {
		n = parse2
	}
	return f.sound(n(ino, b), u16(b, 0))
}

// parse1 parses the needed fields of struct ufs1_dinode.
func parse1(ino uint64, b []byte) *inode {
	n := &inode{short: b[40:100], blocks: uint64(u32(b, 104)), secs: i32(b, 24)}
	n.Entry = Entry{
		Ino:   ino,
		Nlink: int(int16(u16(b, 2))),
		UID:   u32(b, 112),
		GID:   u32(b, 116),
		Flags: u32(b, 100),
		Size:  int64(u64(b, 8)),
		MTime: n.secs*1e9 + i32(b, 28),
	}
	for i := range n.addrs {
		n.addrs[i] = i32(n.short, 4*i)
	}
	return n
}

// parse2 parses the needed fields of struct ufs2_dinode.
func parse2(ino uint64, b []byte) *inode {
	n := &inode{short: b[112:232], blocks: u64(b, 24), secs: int64(u64(b, 40))}
	n.Entry = Entry{
		Ino:   ino,
		Nlink: int(int16(u16(b, 2))),
		UID:   u32(b, 4),
		GID:   u32(b, 8),
		Flags: u32(b, 88),
		Size:  int64(u64(b, 16)),
		MTime: n.secs*1e9 + i32(b, 64),
	}
	for i := range n.addrs {
		n.addrs[i] = int64(u64(n.short, 8*i))
	}
	return n
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
