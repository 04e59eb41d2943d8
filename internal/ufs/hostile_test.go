package ufs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

// far is a block of a file that is reached through the triple indirect block alone.
const far = 12 + 1024 + 1024*1024 + 5

// everything is an image of one of each.
func everything(t testing.TB, two bool) *mini {
	m := newMini(t, two, 512<<10)
	m.file(3, "hello\n")
	m.symlink(4, "hello")
	m.symlink(5, strings.Repeat("l", 200))
	m.dir(6, name{3, "same"}, name{10, "far"})
	m.make(7, 0o020600, 0)
	m.make(8, 0o010600, 0)
	m.make(9, 0o100600, 3*miniBlock, 0, m.block([]byte("in the midst")), 0)
	m.distant(10, far)
	m.file(11, "")
	m.dir(2, name{3, "hello"}, name{4, "fast"}, name{5, "slow"}, name{6, "dir"}, name{0, "gone"},
		name{whiteIno, "hidden"}, name{7, "null"}, name{8, "fifo"},
		name{9, "sparse"}, name{11, "empty"})
	return m
}

// distant makes a file that holds nothing but its last block.
func (m *mini) distant(ino uint64, lbn int64) {
	width := int64(1024)
	if m.two {
		width = 512
	}
	addr := m.block([]byte("far"))
	rest := lbn - direct - width - width*width
	for _, i := range []int64{rest % width, rest / width % width, rest / width / width} {
		addrs := make([]int64, width)
		addrs[i] = addr
		addr = m.pointers(addrs...)
	}
	addrs := make([]int64, direct+3)
	addrs[direct+2] = addr
	m.make(ino, 0o100600, lbn*miniBlock+3, addrs...)
}

func TestReadsOneOfEach(t *testing.T) {
	t.Parallel()
	for _, two := range []bool{false, true} {
		f, d := everything(t, two).open()
		if f.Label != "mini" || f.Bytes != int64(len(d.b)) {
			t.Errorf("label %q, %d bytes", f.Label, f.Bytes)
		}
		var got []string
		if err := f.Walk(t.Context(), "", func(e *Entry) error {
			if e.UID != 1001 || e.GID != 70000 || e.Flags != 1 || e.Nlink != 1 ||
				e.MTime != 1700000000123456789 {
				t.Errorf("%+v", e)
			}
			got = append(got, fmt.Sprintf("%s %v %d %s", e.Path, e.Mode, e.Size, e.Link))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		want := []string{"hello -rw-r--r-- 6 ", "fast Lrwxrwxrwx 5 hello", "slow Lrwxrwxrwx 200 " +
			strings.Repeat("l", 200), "dir drwxr-xr-x 512 ", "dir/same -rw-r--r-- 6 ",
			fmt.Sprintf("dir/far -rw------- %d ", far*miniBlock+3), "null Dcrw------- 0 ",
			"fifo prw------- 0 ", "sparse -rw------- 12288 ", "empty -rw-r--r-- 0 "}
		if !slices.Equal(got, want) {
			t.Errorf("%q,\nand not %q", got, want)
		}
		holes(t, f)
	}
}

// holes reads the ends of what is not there.
func holes(t *testing.T, f *FS) {
	t.Helper()
	for _, c := range []struct {
		path string
		at   int64
		want string
	}{
		{"dir/far", far*miniBlock - 4, "\x00\x00\x00\x00far"},
		{"dir/far", 0, "\x00\x00\x00\x00"},
		{"sparse", miniBlock - 2, "\x00\x00in the midst\x00\x00"},
		{"sparse", 3*miniBlock - 4, "\x00\x00\x00\x00"},
	} {
		e, err := f.Stat(c.path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := f.Open(e)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len(c.want))
		if _, err := r.ReadAt(b, c.at); err != nil || string(b) != c.want {
			t.Errorf("%s at %d: %q, %v", c.path, c.at, b, err)
		}
	}
	e, _ := f.Stat("sparse")
	if at, err := f.At(e, 5); at != 0 || err != nil {
		t.Errorf("a byte of a hole is at %d, %v", at, err)
	}
}

// What no honest image says is refused, and the inode named.
func TestRefusesInodes(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		spoil func(m *mini)
		want  string
	}{
		"itself below itself": {
			func(m *mini) { m.dir(6, name{6, "again"}) }, "inode 6: a directory below itself",
		},
		"the root below": {
			func(m *mini) { m.dir(6, name{2, "root"}) }, "inode 2: a directory below itself",
		},
		"a directory twice": {
			func(m *mini) { m.dir(12); m.dir(6, name{12, "a"}, name{12, "b"}) },
			"inode 12: a directory below itself, or with two names",
		},
		"a name twice": {
			func(m *mini) { m.dir(6, name{3, "a"}, name{11, "a"}) }, `inode 6: the name "a" twice`,
		},
		"a slash": {
			func(m *mini) { m.dir(6, name{3, "../etc"}) }, `inode 6: a name "../etc", at 24`,
		},
		"a NUL":   {func(m *mini) { m.dir(6, name{3, "a\x00b"}) }, `inode 6: a name "a\x00b"`},
		"no name": {func(m *mini) { m.dir(6, name{3, ""}) }, `inode 6: a name ""`},
		"an inode too many": {
			func(m *mini) { m.dir(6, name{miniInodes, "x"}) }, "inode 256: there are 256",
		},
		"an inode unused": {func(m *mini) { m.dir(6, name{100, "x"}) }, "inode 100: type 0"},
		"a large directory": {
			func(m *mini) { m.make(6, 0o040755, maxDirSize+1) }, "inode 6: a directory of 16777217 bytes",
		},
		"a directory of holes": {
			func(m *mini) { m.make(6, 0o040755, 1<<20) }, "inode 6: an entry of 0 bytes",
		},
		"a part of an entry": {
			func(m *mini) { m.make(6, 0o040755, 516, m.block(listing([]name{{3, "a"}}))) },
			"inode 6: a directory that ends in an entry, at 512",
		},
		"a file of no size": {func(m *mini) { m.make(3, 0o100644, -1) }, "inode 3: -1 bytes"},
		"a file of any size": {
			func(m *mini) { m.make(3, 0o100644, 1<<62) }, "inode 3: 4611686018427387904 bytes",
		},
		"a long link": {
			func(m *mini) { m.make(4, 0o120777, maxLink+1) }, "inode 4: a link of 4097 bytes",
		},
		"a link to nothing": {
			func(m *mini) { m.make(4, 0o120777, 0) }, "inode 4: a link with a NUL, or to nothing",
		},
		"a link with a NUL": {func(m *mini) { m.symlink(4, "a\x00b") }, "inode 4: a link with a NUL"},
		"a link of no block": {
			func(m *mini) { m.make(5, 0o120777, 200, 0) }, "inode 5: a link with a NUL",
		},
		"a link outside": {
			func(m *mini) { m.make(5, 0o120777, 200, 1<<20) },
			"inode 5: a block at fragment 1048576 of an image of 1024",
		},
		"a directory before": {
			func(m *mini) { m.make(6, 0o040755, 512, -8) }, "inode 6: a block at fragment -8",
		},
		"a directory at the end": {
			func(m *mini) { m.make(6, 0o040755, 4096, 1022) },
			"inode 6: 4096 bytes at 523264 of an image of 524288",
		},
		"an entry over the end of its block": {func(m *mini) {
			b := append(listing([]name{{3, "a"}}), listing([]name{{3, "b"}})...)
			binary.LittleEndian.PutUint16(b[4:], 1024)
			m.made(6, 0o040755, string(b))
		}, "inode 6: an entry of 1024 bytes with a name of 1, at 0"},
		"a name longer than its entry": {func(m *mini) {
			b := listing([]name{{3, "a"}, {3, "b"}})
			b[7] = 200
			m.made(6, 0o040755, string(b))
		}, "inode 6: an entry of 12 bytes with a name of 200, at 0"},
		"a long path": {func(m *mini) {
			for i := range uint64(17) {
				m.dir(20+i, name{21 + i, strings.Repeat("d", 255)})
			}
			m.dir(37)
			m.dir(6, name{20, "d"})
		}, "inode 36: a path of 4101 bytes"},
		"deep directories": {func(m *mini) {
			for i := range uint64(130) {
				m.made(20+i, 0o040755, string(listing([]name{{21 + i, "d"}})))
				m.next -= miniBlock/miniFrag - 1 // a fragment each
			}
			m.dir(150)
			m.dir(6, name{20, "d"})
		}, "more than 128 directories one in another"},
	} {
		for _, two := range []bool{false, true} {
			if c.want == "inode 3: 4611686018427387904 bytes" && !two {
				continue
			}
			m := everything(t, two)
			c.spoil(m)
			if err := m.walked(); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func TestRefusesTimesThatDoNotFit(t *testing.T) {
	t.Parallel()
	m := everything(t, true)
	binary.LittleEndian.PutUint64(m.inode(3)[40:], 1<<40)
	if err := m.walked(); !errors.Is(err, ErrFormat) ||
		!strings.Contains(err.Error(), "inode 3: changed 1099511627776 seconds") {
		t.Error(err)
	}
}

// Addresses that lead outside are an error of the file that has them, wherever in it they stand; those
// that lead in a circle end.
func TestRefusesAddresses(t *testing.T) {
	t.Parallel()
	m := everything(t, true)
	self := m.next
	m.pointers(self, -1, 1<<60, 1023)
	addrs := make([]int64, direct+3)
	addrs[direct+2] = self
	m.make(3, 0o100644, 1<<40, addrs...)
	f, _ := m.open()
	e, err := f.Stat("hello")
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Open(e)
	if err != nil {
		t.Fatal(err)
	}
	first := int64(direct+512+512*512) * miniBlock
	for i, want := range []string{
		"", "inode 3: a block at fragment -1 ", "inode 3: a block at fragment 1152921504606846976 ",
		"inode 3: 4096 bytes at 523776 of an image of 524288",
	} {
		_, err := r.ReadAt(make([]byte, miniBlock), first+int64(i)*miniBlock)
		if want == "" && err != nil || want != "" &&
			(!errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%d: %v", i, err)
		}
	}
	m.make(3, 0o100644, 1<<49, addrs...)
	e.Size = 1 << 49
	if r, err = f.Open(e); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadAt(make([]byte, 1), 1<<49-1); !errors.Is(err, ErrFormat) {
		t.Errorf("a block that no address leads to: %v", err)
	}
}

func TestRefusesSuperblocks(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		at, v int
		want  string
	}{
		"block size":          {48, 3000, "blocks of 3000 bytes"},
		"negative block size": {48, -4096, "blocks of -4096 bytes"},
		"fragment size":       {52, 256, "fragments of 256"},
		"no fragment":         {52, 0, "fragments of 0"},
		"fragments":           {56, 4, "in 4 fragments"},
		"no group":            {44, 0, "0 groups"},
		"groups":              {44, 5, "fragments in 5 groups"},
		"inodes":              {184, -1, "of -1 inodes"},
		"inodes a block":      {120, 0, "0 inodes a block"},
		"short links":         {1320, 1 << 20, "symbolic links of 1048576 bytes"},
		"magic":               {1372, 0, "no superblock"},
	} {
		for _, two := range []bool{false, true} {
			m := everything(t, two)
			m.put32(m.b[m.superblock():], c.at, c.v)
			if _, err := Open(&disk{b: m.b}, int64(len(m.b))); !errors.Is(err, ErrFormat) ||
				!strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	m := everything(t, true)
	// once only the low bits were looked at
	binary.LittleEndian.PutUint64(m.b[m.superblock()+1080:], 1<<40+uint64(len(m.b)/miniFrag))
	if _, err := Open(&disk{b: m.b}, int64(len(m.b))); !errors.Is(err, ErrFormat) {
		t.Errorf("size: %v", err)
	}
	m = everything(t, true)
	m.put32(m.b[m.superblock():], 1000, 8192)
	if _, err := Open(&disk{b: m.b}, int64(len(m.b))); !errors.Is(err, ErrFormat) {
		t.Errorf("a spare superblock: %v", err)
	}
	m = everything(t, false)
	m.put32(m.b[m.superblock():], 1324, -1)
	if _, err := Open(&disk{b: m.b}, int64(len(m.b))); !errors.Is(err, ErrFormat) ||
		!strings.Contains(err.Error(), "4.2BSD") {
		t.Errorf("old inodes: %v", err)
	}
}

// The kernel takes the first of two names.
func TestFirstOfTwoNames(t *testing.T) {
	t.Parallel()
	m := everything(t, true)
	m.dir(2, name{3, "a"}, name{11, "a"})
	f, _ := m.open()
	if e, err := f.Stat("a"); err != nil || e.Ino != 3 {
		t.Errorf("%v, %v", e, err)
	}
}

// empty is a block of a directory of which all is free.
func empty() []byte {
	b := make([]byte, miniBlock)
	for at := 0; at < len(b); at += 512 {
		binary.LittleEndian.PutUint16(b[at+4:], 512)
	}
	return b
}

// full is a block of a directory that begins with names.
func full(all ...name) []byte {
	b := empty()
	copy(b, listing(all))
	return b
}

// Directories that hold the same million names at every level: what is read of them is bounded, not only
// what is walked.
func TestManyNamesAtEveryLevel(t *testing.T) {
	t.Parallel()
	m := newMini(t, true, 24<<20)
	var shared []int64
	for i := range 4000 {
		var all []name
		for j := range 200 {
			all = append(all, name{200, fmt.Sprintf("%x", i*200+j)})
		}
		shared = append(shared, m.block(full(all...)))
	}
	for i := range uint64(12) {
		m.big(10+i, m.block(full(name{11 + i, "down"})), shared)
	}
	m.dir(2, name{10, "down"})
	f, d := m.open()
	n := 0
	err := f.Walk(t.Context(), "", func(*Entry) error { n++; return nil })
	if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "inode 11: more than 1048576 names") {
		t.Error(err)
	}
	if n > 2 || d.read > 4*maxDirSize {
		t.Errorf("%d entries, %d bytes read", n, d.read)
	}
}

// Directories that are large and hold nothing cost time alone.
func TestManyLargeDirectories(t *testing.T) {
	t.Parallel()
	m := newMini(t, true, 1<<20)
	shared := make([]int64, maxDirSize/miniBlock-1)
	free := m.block(empty())
	for i := range shared {
		shared[i] = free
	}
	m.big(10, free, shared)
	var all []name
	for i := range uint64(100) {
		copy(m.inode(10 + i)[:m.inodeSize()], m.inode(10))
		all = append(all, name{10 + i, fmt.Sprint(i)})
	}
	m.dir(2, all...)
	f, d := m.open()
	err := f.Walk(t.Context(), "", func(*Entry) error { return nil })
	if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(),
		"more than 268435456 bytes of directories") {
		t.Error(err)
	}
	if d.read > 3*maxDirs {
		t.Errorf("%d bytes read", d.read)
	}
}

// Long names of one file add up.
func TestMuchText(t *testing.T) {
	t.Parallel()
	m := newMini(t, true, 24<<20)
	var blocks []int64
	for i := range 4000 {
		var all []name
		for j := range 8 {
			all = append(all, name{200, fmt.Sprintf("%0250d", i*8+j)})
		}
		blocks = append(blocks, m.block(full(all...)))
	}
	m.file(200, "")
	at := uint64(2) // many levels down, where paths are long
	for i := range uint64(15) {
		m.dir(at, name{20 + i, strings.Repeat("d", 200)})
		at = 20 + i
	}
	m.big(at, blocks[0], blocks[1:])
	if err := m.walked(); !errors.Is(err, ErrFormat) ||
		!strings.Contains(err.Error(), "more than 67108864 bytes of names") {
		t.Error(err)
	}
}

func TestWalkEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f, _ := everything(t, true).open()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	if err := f.Walk(ctx, "", func(*Entry) error { n++; cancel(); return nil }); !errors.Is(err,
		context.Canceled) || n != 1 {
		t.Errorf("%d entries, %v", n, err)
	}
}

// eof is a reader that says with the last byte that it was the last.
type eof struct{ *disk }

func (d eof) ReadAt(p []byte, at int64) (int, error) {
	n, err := d.disk.ReadAt(p, at)
	if err == nil && at+int64(n) == int64(len(d.b)) {
		err = io.EOF
	}
	return n, err
}

// An image may end with its last fragment, whole or not, and with the reader's EOF.
func TestLastFragment(t *testing.T) {
	t.Parallel()
	m := everything(t, true)
	last := int64(len(m.b)/miniFrag - 1)
	copy(m.b[last*miniFrag:], "last")
	m.make(3, 0o100644, 4, last)
	for _, cut := range []int{0, miniFrag - 4} {
		b := m.b[:len(m.b)-cut]
		f, err := Open(eof{&disk{b: b}}, int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		e, err := f.Stat("hello")
		if err != nil {
			t.Fatal(err)
		}
		r, err := f.Open(e)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != "last" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := Open(&disk{}, 1<<20); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a disk that does not answer: %v", err)
	}
}
