package ufs

import (
	"io/fs"
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
