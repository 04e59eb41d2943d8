package ufs

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
)

// mini is an image of one cylinder group with blocks of 4096 bytes in fragments of 512, written here and
// not by makefs(8): it can say what no honest image says.
type mini struct {
	t    testing.TB
	b    []byte
	two  bool
	next int64 // the fragment that is given out next
}

const (
	miniBlock  = 4096
	miniFrag   = 512
	miniInodes = 256
)

func (m *mini) superblock() int {
	if m.two {
		return 65536
	}
	return 8192
}

func (m *mini) iblkno() int64 { return int64(m.superblock()+8192)/miniFrag + miniBlock/miniFrag }

func (m *mini) inodeSize() int {
	if m.two {
		return 256
	}
	return 128
}

// newMini is a filesystem of an empty root.
func newMini(t testing.TB, two bool, size int64) *mini {
	m := &mini{t: t, b: make([]byte, size), two: two}
	m.next = m.iblkno() + int64(miniInodes*m.inodeSize())/miniFrag
	sb := m.b[m.superblock():]
	for at, v := range map[int]int{16: int(m.iblkno()), 28: -1, 36: int(size / miniFrag), 44: 1,
		48: miniBlock, 52: miniFrag, 56: miniBlock / miniFrag, 120: miniBlock / m.inodeSize(),
		184: miniInodes, 188: int(size / miniFrag), 1320: 60, 1324: 2, 1372: magic1} {
		m.put32(sb, at, v)
	}
	if two {
		m.put32(sb, 1320, 120)
		m.put32(sb, 1372, magic2)
		binary.LittleEndian.PutUint64(sb[1000:], 65536)
		binary.LittleEndian.PutUint64(sb[1080:], uint64(size/miniFrag))
	}
	copy(sb[680:], "mini")
	m.dir(rootIno)
	return m
}

func (m *mini) put32(b []byte, at, v int) { binary.LittleEndian.PutUint32(b[at:], uint32(v)) }

// inode is where an inode stands.
func (m *mini) inode(ino uint64) []byte {
	return m.b[m.iblkno()*miniFrag+int64(ino)*int64(m.inodeSize()):]
}

// block gives out a block with a content, and says which fragment it begins at.
func (m *mini) block(content []byte) int64 {
	m.t.Helper()
	at := m.next
	if at*miniFrag+miniBlock > int64(len(m.b)) || len(content) > miniBlock {
		m.t.Fatal("the image is full")
	}
	copy(m.b[at*miniFrag:], content)
	m.next += miniBlock / miniFrag
	return at
}

// pointers gives out a block of addresses.
func (m *mini) pointers(addrs ...int64) int64 {
	var b []byte
	for _, a := range addrs {
		if m.two {
			b = binary.LittleEndian.AppendUint64(b, uint64(a))
		} else {
			b = binary.LittleEndian.AppendUint32(b, uint32(a))
		}
	}
	return m.block(b)
}

// make writes an inode, of user 1001 and group 70000, nodump, changed at 1700000000.123456789.
func (m *mini) make(ino uint64, mode uint16, size int64, addrs ...int64) {
	b := m.inode(ino)
	binary.LittleEndian.PutUint16(b, mode)
	binary.LittleEndian.PutUint16(b[2:], 1)
	at := 40
	if m.two {
		at = 112
		binary.LittleEndian.PutUint64(b[16:], uint64(size))
		for at, v := range map[int]int{4: 1001, 8: 70000, 40: 1700000000, 64: 123456789, 88: 1} {
			m.put32(b, at, v)
		}
	} else {
		binary.LittleEndian.PutUint64(b[8:], uint64(size))
		for at, v := range map[int]int{24: 1700000000, 28: 123456789, 100: 1, 112: 1001, 116: 70000} {
			m.put32(b, at, v)
		}
	}
	for i, a := range addrs {
		if m.two {
			binary.LittleEndian.PutUint64(b[at+8*i:], uint64(a))
		} else {
			m.put32(b, at+4*i, int(a))
		}
	}
}

// file makes a regular file in direct blocks.
func (m *mini) file(ino uint64, content string) { m.made(ino, 0o100644, content) }

func (m *mini) made(ino uint64, mode uint16, content string) {
	m.t.Helper()
	var addrs []int64
	for rest := content; rest != ""; rest = rest[min(len(rest), miniBlock):] {
		addrs = append(addrs, m.block([]byte(rest[:min(len(rest), miniBlock)])))
	}
	m.make(ino, mode, int64(len(content)), addrs...)
}

// symlink makes a link, short ones in the inode.
func (m *mini) symlink(ino uint64, to string) {
	at, short := 40, 60
	if m.two {
		at, short = 112, 120
	}
	if len(to) >= short {
		m.made(ino, 0o120777, to)
		return
	}
	m.make(ino, 0o120777, int64(len(to)))
	copy(m.inode(ino)[at:], to)
}

// dir makes a directory of names and no more.
func (m *mini) dir(ino uint64, all ...name) {
	m.made(ino, 0o040755, string(listing(append([]name{{ino, "."}, {rootIno, ".."}}, all...))))
}

// listing is what a directory holds: blocks of 512 bytes, each filled by its last entry.
func listing(all []name) []byte {
	var b []byte
	last := -1
	for _, x := range all {
		length := (8 + len(x.name) + 1 + 3) &^ 3
		if left := 512 - len(b)%512; last < 0 || left < length || left == 512 {
			b = fill(b, last)
		}
		last = len(b)
		b = append(b, make([]byte, length)...)
		binary.LittleEndian.PutUint32(b[last:], uint32(x.ino))
		binary.LittleEndian.PutUint16(b[last+4:], uint16(length))
		b[last+7] = byte(len(x.name))
		copy(b[last+8:], x.name)
	}
	return fill(b, last)
}

// fill lengthens the last entry to the end of its block.
func fill(b []byte, last int) []byte {
	if more := (512 - len(b)%512) % 512; more > 0 {
		b = append(b, make([]byte, more)...)
		binary.LittleEndian.PutUint16(b[last+4:], uint16(len(b)-last))
	}
	return b
}

// disk is an image that is read in its bounds, or not at all.
type disk struct {
	b    []byte
	read int64
}

func (d *disk) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(p)) > int64(len(d.b)) {
		return 0, fmt.Errorf("a read of %d bytes at %d of a disk of %d", len(p), at, len(d.b))
	}
	d.read += int64(len(p))
	return copy(p, d.b[at:]), nil
}

// open opens the image as a disk.
func (m *mini) open() (*FS, *disk) {
	m.t.Helper()
	d := &disk{b: m.b}
	f, err := Open(d, int64(len(m.b)))
	if err != nil {
		m.t.Fatal(err)
	}
	return f, d
}

// walked is the error of a walk of all.
func (m *mini) walked() error {
	f, _ := m.open()
	return f.Walk(context.Background(), "", func(*Entry) error { return nil })
}

// big makes a directory of blocks that others have too.
func (m *mini) big(ino uint64, first int64, shared []int64) {
	width := miniBlock / 8
	addrs := make([]int64, direct+3)
	addrs[0] = first
	n := copy(addrs[1:direct], shared)
	var level []int64
	for rest := shared[n:]; len(rest) > 0; rest = rest[min(len(rest), width):] {
		level = append(level, m.pointers(rest[:min(len(rest), width)]...))
	}
	addrs[direct] = level[0]
	addrs[direct+1] = m.pointers(level[1:]...)
	m.make(ino, 0o040755, int64(1+len(shared))*miniBlock, addrs...)
}
