package ufs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Sieve reads a part of a filesystem from a stream, which has no random access. It keeps what is needed
// in memory. It reads the stream from the beginning several times: in the first pass it keeps the inodes
// in use and, as far as they come later, the directories that they name; then the blocks of the requested
// files. A block that comes before the place that refers to it is kept in the next pass. A filesystem of
// makefs(8) needs two or three passes; there are at most sievePasses.
type Sieve struct {
	f    *FS
	head []byte           // the beginning of the stream
	have map[int64][]byte // by the number of a fragment
	// fragments that are needed: the levels of addresses that they hold, 0 for content
	want   map[int64]int
	inodes bool  // they were read
	limit  int64 // bytes
	passes int
}

const sievePasses = 12

// fragmentCost is the cost of a fragment that is kept or wanted: its bytes, and about what a map entry
// takes.
const fragmentCost = 100

// ErrSieve reports that a stream holds more than a Sieve may keep.
var ErrSieve = errors.New("takes too much memory")

// NewSieve returns a Sieve for a filesystem whose first bytes, with the superblock, are head. It keeps at
// most limit bytes.
func NewSieve(head []byte, limit int64) (*Sieve, error) {
	f, err := Open(&short{head}, 1<<50)
	if err != nil {
		return nil, err
	}
	s := &Sieve{f: f, head: head, have: map[int64][]byte{}, want: map[int64]int{}, limit: limit}
	f.r, f.size = s, f.Bytes
	return s, nil
}

// short is the beginning of something longer.
type short struct{ b []byte }

func (s *short) ReadAt(b []byte, at int64) (int, error) {
	if at > int64(len(s.b)) {
		return 0, io.ErrUnexpectedEOF
	}
	return copy(b, s.b[at:]), io.ErrUnexpectedEOF
}

// Take reads the stream until the paths are kept, and returns the filesystem. All names in it can be
// read, but only the content of the paths: of a file its own, of a directory that of everything below it.
// A missing path is left out. open opens the stream at the beginning of the filesystem.
func (s *Sieve) Take(ctx context.Context, paths []string, open func() (io.ReadCloser, error)) (*FS, error) {
	for !s.inodes || len(s.want) > 0 {
		if err := s.pass(ctx, open); err != nil {
			return nil, err
		}
	}
	var err error
	for _, p := range paths {
		if err = s.below(ctx, p); err != nil {
			break
		}
	}
	for err == nil && len(s.want) > 0 {
		err = s.pass(ctx, open)
	}
	return s.f, err
}

// below requests the content of a file, or of all files below a directory.
func (s *Sieve) below(ctx context.Context, p string) error {
	e, err := s.f.Stat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	file := func(e *Entry) error {
		if !e.Mode.IsRegular() {
			return nil
		}
		n, err := s.f.inode(e.Ino)
		if err != nil {
			return err
		}
		return s.file(n)
	}
	if e.Mode.IsDir() {
		return s.f.Walk(ctx, p, file)
	}
	return file(e)
}

// Passes returns how often the stream was read.
func (s *Sieve) Passes() int { return s.passes }

// pass reads the stream once.
func (s *Sieve) pass(ctx context.Context, open func() (io.ReadCloser, error)) (err error) {
	if s.passes++; s.passes > sievePasses {
		return s.f.bad(0, "not read after %d passes", sievePasses)
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer func() {
		if cerr := r.Close(); err == nil {
			err = cerr
		}
	}()
	before := len(s.have)
	b := make([]byte, 1<<20)
	for at := int64(0); at < s.f.Bytes && (!s.inodes || len(s.want) > 0); at += int64(len(b)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		b = b[:min(int64(len(b)), s.f.Bytes-at)]
		if _, err := io.ReadFull(r, b); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read at %d: %w", at, err)
		}
		for off := int64(0); off+s.f.fsize <= int64(len(b)); off += s.f.fsize {
			if err := s.fragment((at+off)/s.f.fsize, b[off:off+s.f.fsize]); err != nil {
				return err
			}
		}
	}
	if s.inodes && len(s.have) == before {
		return s.f.bad(0, "what is needed of it is not in it")
	}
	s.inodes = true
	return nil
}

// fragment keeps a fragment if it is needed.
func (s *Sieve) fragment(n int64, b []byte) error {
	if !s.inodes && s.table(n) {
		return s.inodesIn(n, b)
	}
	level, ok := s.want[n]
	if !ok {
		return nil
	}
	delete(s.want, n)
	s.have[n] = append([]byte(nil), b...)
	if level == 0 {
		return nil
	}
	for at := 0; at < len(b); {
		addr := i32(b, at)
		if at += 4; s.f.two {
			addr, at = int64(u64(b, at-4)), at+4
		}
		if err := s.block(addr, s.f.frag, level-1); err != nil {
			return err
		}
	}
	return nil
}

// table reports whether a fragment is one of a table of inodes.
func (s *Sieve) table(n int64) bool {
	f := s.f
	cg := n / f.fpg
	first := f.fpg*cg + f.cgoffset*(cg&^f.cgmask) + f.iblkno
	return cg < f.ncg && n >= first && n < first+(f.ipg+f.inopb-1)/f.inopb*f.frag
}

// inodesIn keeps a fragment of inodes if one of them is in use, and requests the directories and the long
// links that they name.
func (s *Sieve) inodesIn(n int64, b []byte) error {
	used := false
	for at := int64(0); at < int64(len(b)); at += s.f.inodeSize {
		x := b[at : at+s.f.inodeSize]
		mode := u16(x, 0)
		used = used || mode != 0
		parse := parse1
		if s.f.two {
			parse = parse2
		}
		i := parse(0, x)
		switch kinds[mode&0o170000] {
		case fs.ModeDir:
			if i.Size < 0 || i.Size > maxDirSize {
				continue // Walk refuses such a directory
			}
		case fs.ModeSymlink:
			if i.Size > maxLink || i.Size < s.f.maxSymlink {
				continue
			}
		default:
			continue
		}
		if err := s.file(i); err != nil {
			return err
		}
	}
	if used {
		s.have[n] = append([]byte(nil), b...)
	}
	return s.bounded()
}

// file requests a file's content.
func (s *Sieve) file(n *inode) error {
	for i, addr := range n.addrs[:direct] {
		if left := n.Size - int64(i)*s.f.bsize; left > 0 {
			if err := s.block(addr, min(s.f.frag, (left+s.f.fsize-1)/s.f.fsize), 0); err != nil {
				return err
			}
		}
	}
	if n.Size <= direct*s.f.bsize {
		return nil
	}
	for level, addr := range n.addrs[direct:] {
		if err := s.block(addr, s.f.frag, level+1); err != nil {
			return err
		}
	}
	return nil
}

// block requests a block of so many fragments. It skips an address outside of the filesystem; reading
// such a block later is an error.
func (s *Sieve) block(addr, frags int64, level int) error {
	if addr <= 0 || addr > s.f.Bytes/s.f.fsize-frags {
		return nil
	}
	for n := addr; n < addr+frags; n++ {
		if s.have[n] == nil {
			s.want[n] = max(level, s.want[n])
		}
	}
	return s.bounded()
}

func (s *Sieve) bounded() error {
	if n := int64(len(s.have)+len(s.want)) * (s.f.fsize + fragmentCost); n > s.limit {
		return fmt.Errorf("%w: more than %d bytes of a filesystem", ErrSieve, s.limit)
	}
	return nil
}

// ReadAt reads what was kept. Inodes that are not in use were not kept.
func (s *Sieve) ReadAt(b []byte, at int64) (int, error) {
	for done := 0; done < len(b); {
		n, off := (at+int64(done))/s.f.fsize, (at+int64(done))%s.f.fsize
		switch x, ok := s.have[n]; {
		case ok:
			done += copy(b[done:], x[off:])
		case (n+1)*s.f.fsize <= int64(len(s.head)):
			done += copy(b[done:], s.head[n*s.f.fsize+off:(n+1)*s.f.fsize])
		case s.inodes && s.table(n):
			k := min(int64(len(b)-done), s.f.fsize-off)
			clear(b[done : done+int(k)])
			done += int(k)
		default:
			return done, fmt.Errorf("%w: fragment %d was not taken out of the stream", ErrFormat, n)
		}
	}
	return len(b), nil
}
