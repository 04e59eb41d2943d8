package nano

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// stream is an image on its way in, unpacked, with the digest of what came in.
type stream struct {
	io.Reader
	form  string // plain, gzip, xz or zstd
	n     int64  // bytes that were read, unpacked
	raw   *counted
	mu    sync.Mutex  // held while it is read or closed
	over  atomic.Bool // end was called
	close func()
}

// errEnded says that a stream is read after its end was called for.
var errEnded = errors.New("read after the end")

func (s *stream) Read(p []byte) (int, error) {
	defer s.tidy()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over.Load() {
		return 0, errEnded
	}
	n, err := s.Reader.Read(p)
	s.n += int64(n)
	return n, err
}

// end gives back what unpacking took. It does not wait for a read that is under way: that may be from a pipe
// through which nothing comes. Then Read gives it back when it returns.
func (s *stream) end() {
	s.over.Store(true)
	s.tidy()
}

// tidy closes a stream that is over, unless another call reads or closes it.
func (s *stream) tidy() {
	if !s.over.Load() || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	if s.close != nil {
		s.close()
		s.close, s.Reader = nil, nil
	}
}

// counted counts and digests what is read.
type counted struct {
	r io.Reader
	h hash.Hash
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.h.Write(p[:n])
	return n, err
}

// forms are the packings, told by their first bytes.
var forms = []struct {
	name, magic string
	open        func(*bufio.Reader) (io.Reader, func(), error)
}{
	{"gzip", "\x1f\x8b", func(r *bufio.Reader) (io.Reader, func(), error) {
		z, err := gzip.NewReader(r)
		return z, func() {}, err
	}},
	{"xz", "\xfd7zXZ\x00", func(r *bufio.Reader) (io.Reader, func(), error) {
		z, err := xz.ReaderConfig{DictCap: lzma.MinDictCap}.NewReader(newXZGuard(r)) // no less than a block says
		return z, func() {}, err
	}},
	{"zstd", "\x28\xb5\x2f\xfd", func(r *bufio.Reader) (io.Reader, func(), error) {
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxDictionary), zstd.WithDecoderMaxMemory(1<<40),
			zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}},
}

// maxDictionary bounds the memory that an image may ask for to be unpacked: 64 MiB is what xz -9 and zstd
// --long=26 take.
const maxDictionary = 64 << 20

// frugal lets the garbage of unpacking pile up to a fifth of what is in use, and not to as much again: a
// dictionary of 64 MiB would take 128. What it returns undoes that.
func frugal() (undo func()) {
	old := debug.SetGCPercent(20)
	return func() { debug.SetGCPercent(old) }
}

// errCut says that an image ends before it is whole.
var errCut = errors.New("it ends in the middle: a download that was cut off?")

// unpack finds out how an image is packed.
func unpack(r io.Reader) (*stream, error) {
	s := &stream{form: "plain", raw: &counted{r: r, h: sha256.New()}, close: func() {}}
	b := bufio.NewReaderSize(s.raw, blockSize)
	s.Reader = b
	head, err := b.Peek(8)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for _, f := range forms {
		if !bytes.HasPrefix(head, []byte(f.magic)) {
			continue
		}
		z, end, err := f.open(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, cut(err))
		}
		s.form, s.Reader, s.close = f.name, named{z, f.name}, end
	}
	return s, nil
}

// named says of an error which packing it is of.
type named struct {
	io.Reader
	form string
}

func (n named) Read(p []byte) (int, error) {
	k, err := n.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: %w", n.form, cut(err))
	}
	return k, err
}

// cut says in words what a packing's reader says in its own.
func cut(err error) error {
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return fmt.Errorf("it takes a window of more than %d MiB to unpack it: "+
			"pack it with zstd --long=26 or less (%w)", maxDictionary>>20, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errCut
	}
	return err
}

// finish reads to the end of what comes in, so that the packing's own checks and the digest are of all of it.
func (s *stream) finish() (digest [sha256.Size]byte, err error) {
	if _, err := io.Copy(io.Discard, s); err != nil {
		return digest, err
	}
	if _, err := io.Copy(io.Discard, s.raw); err != nil {
		return digest, err
	}
	s.raw.h.Sum(digest[:0])
	return digest, nil
}

// chunk is a part of a stream.
type chunk struct {
	data []byte
	err  error // what ended the stream behind data; io.EOF at its end
}

// ahead reads a stream in whole blocks beside whoever writes them. It ends with ctx; the buffers go back by
// the second channel.
func ahead(ctx context.Context, r io.Reader) (<-chan chunk, chan<- []byte) {
	const buffers = 4
	full, empty := make(chan chunk), make(chan []byte, buffers)
	for range buffers {
		empty <- make([]byte, blockSize)
	}
	go func() {
		defer close(full)
		for {
			var buf []byte
			select {
			case buf = <-empty:
			case <-ctx.Done():
				return
			}
			n, err := io.ReadFull(r, buf)
			if errors.Is(err, io.ErrUnexpectedEOF) && err == io.ErrUnexpectedEOF { // of ReadFull: a last block that is not whole
				err = io.EOF
			}
			select {
			case full <- chunk{buf[:n], err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return full, empty
}
