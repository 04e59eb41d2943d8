// Package xzguard checks an xz file on its way to the library that unpacks it.
//
// What always holds: a block whose dictionary is larger than MaxDictionary is refused before the library sees
// it, because the library allocates whatever a block asks for. No byte is passed on unchecked, and nothing is
// unpacked here.
package xzguard

import (
	"bufio"
	"errors"
	"fmt"

	"github.com/ulikunitz/xz/lzma"
)

// Reader passes an xz file on. It follows the file from block to block: sections 2 to 4 of the description of
// the .xz format, and the chunks of LZMA2, each of which has its length.
type Reader struct {
	r    *bufio.Reader
	next func(b []byte) error // gets that many bytes
	want int
	buf  []byte
	skip int64 // bytes to pass over
	err  error

	check int64 // bytes of a block's check
	block int64 // bytes of a block, or of an index, so far
	left  int   // numbers of an index that still follow
}

var errFormat = errors.New("no file of xz, or a damaged one")

// New returns a Reader of r.
func New(r *bufio.Reader) *Reader {
	g := &Reader{r: r}
	g.expect(12, g.stream)
	return g
}

// Read returns only bytes that were checked.
func (g *Reader) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.r.Read(p)
	if g.err = g.feed(p[:n]); g.err != nil {
		return 0, g.err
	}
	return n, err
}

func (g *Reader) feed(b []byte) error {
	for len(b) > 0 {
		k := int(min(g.skip, int64(len(b))))
		g.skip, g.block, b = g.skip-int64(k), g.block+int64(k), b[k:]
		if len(b) == 0 {
			return nil
		}
		k = min(g.want-len(g.buf), len(b))
		g.buf, g.block, b = append(g.buf, b[:k]...), g.block+int64(k), b[k:]
		if len(g.buf) < g.want {
			return nil
		}
		if err := g.next(g.buf); err != nil {
			return err
		}
	}
	return nil
}

func (g *Reader) expect(n int, next func([]byte) error) { g.want, g.next, g.buf = n, next, nil }

// stream reads a stream's header.
func (g *Reader) stream(b []byte) error {
	if string(b[:6]) != "\xfd7zXZ\x00" {
		return errFormat
	}
	g.check = [16]int64{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[b[7]&0xf]
	g.expect(1, g.size)
	return nil
}

// size reads the first byte of a block's header, or of the index.
func (g *Reader) size(b []byte) error {
	g.block = 1
	if b[0] == 0 {
		g.left = -1
		g.expect(1, g.number)
		return nil
	}
	g.expect((int(b[0])+1)*4-1, g.header)
	return nil
}

// header reads the rest of a block's header: flags, perhaps two sizes, and the filters, of which LZMA2 has
// the dictionary.
func (g *Reader) header(b []byte) error {
	at := 1
	for _, has := range []byte{0x40, 0x80} {
		if b[0]&has != 0 {
			at += varint(b[min(at, len(b)):])
		}
	}
	for range b[0]&3 + 1 {
		n := varint(b[min(at, len(b)):])
		if at+n+2 > len(b) {
			return errFormat
		}
		const lzma2 = 0x21
		if id, size := b[at], int(b[at+n]); id != lzma2 || size != 1 {
			// the library knows no other filter
			return fmt.Errorf("%w: a filter that is not LZMA2", errFormat)
		}
		dict, err := lzma.DecodeDictCap(b[at+n+1])
		if err != nil {
			return fmt.Errorf("%w: %w", errFormat, err)
		}
		if dict > MaxDictionary {
			return fmt.Errorf("it takes a dictionary of %d MiB to unpack it, and at most %d are used: "+
				"pack it with xz -9 or less", dict>>20, MaxDictionary>>20)
		}
		at += n + 2
	}
	g.block = 0 // a header's size is a multiple of four
	g.expect(1, g.chunk)
	return nil
}

// varint returns the length of a number of xz.
func varint(b []byte) int {
	for i, x := range b {
		if x&0x80 == 0 {
			return i + 1
		}
	}
	return len(b)
}

// chunk reads the first byte of a chunk of LZMA2. A 0 ends the block; its check follows.
func (g *Reader) chunk(b []byte) error {
	switch c := b[0]; {
	case c == 0:
		g.skip = (4-g.block%4)%4 + g.check
		g.expect(1, g.size)
	case c <= 2:
		g.expect(2, g.plain)
	case c >= 0xc0: // with properties
		g.expect(5, g.packed)
	case c >= 0x80:
		g.expect(4, g.packed)
	default:
		return errFormat
	}
	return nil
}

func (g *Reader) plain(b []byte) error { return g.chunkOf(b[0], b[1]) }

func (g *Reader) packed(b []byte) error { return g.chunkOf(b[2], b[3]) }

func (g *Reader) chunkOf(high, low byte) error {
	g.skip = int64(high)<<8 + int64(low) + 1
	g.expect(1, g.chunk)
	return nil
}

// number reads a byte of the index's numbers: the number of blocks, and two numbers for each block.
func (g *Reader) number(b []byte) error {
	if g.left < 0 { // the first
		if g.want > 9 {
			return errFormat
		}
		if b[len(b)-1]&0x80 != 0 {
			g.want++
			return nil
		}
		n := 0
		for i, x := range b {
			n |= int(x&0x7f) << (7 * i)
		}
		if n < 0 || n > 1<<30 {
			return errFormat
		}
		g.left = 2 * n
	} else if b[0]&0x80 == 0 {
		g.left--
	}
	if g.left > 0 {
		g.expect(1, g.number)
		return nil
	}
	g.skip = (4-g.block%4)%4 + 4 + 12 // padding, the check of the index, and the stream's footer
	g.expect(1, g.padding)
	return nil
}

// padding reads a byte after a stream: a zero, or the first byte of another stream.
func (g *Reader) padding(b []byte) error {
	if b[0] == 0 {
		g.expect(1, g.padding)
		return nil
	}
	g.want, g.next = 12, g.stream
	return nil
}

// MaxDictionary bounds the dictionary of a packed image, in bytes. xz -9 and zstd --long=26 use 64 MiB.
const MaxDictionary = 64 << 20
