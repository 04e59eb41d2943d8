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

	"cfgd/internal/xzguard"
)

// stream reads an image, unpacks it, and computes the digest of the input.
type stream struct {
	io.Reader
	form  string // plain, gzip, xz or zstd
	n     int64  // bytes that were read, unpacked
	raw   *counted
	mu    sync.Mutex  // held while it is read or closed
	over  atomic.Bool // end was called
	close func()
}

// errEnded is the error for a read after end was called.
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

// end frees the memory of unpacking. It does not wait for a read in progress, because that may block on a
// pipe. In that case Read frees the memory when it returns.
func (s *stream) end() {
	s.over.Store(true)
	s.tidy()
}

// tidy closes a stream that has ended, unless another call reads or closes it.
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

// forms are the packings, recognized by their first bytes.
var forms = []struct {
	name, magic string
	open        func(*bufio.Reader) (io.Reader, func(), error)
}{
	{"gzip", "\x1f\x8b", func(r *bufio.Reader) (io.Reader, func(), error) {
		z, err := gzip.NewReader(r)
		return z, func() {}, err
	}},
	{"xz", "\xfd7zXZ\x00", func(r *bufio.Reader) (io.Reader, func(), error) {
		// a block's own value counts if it is larger
		z, err := xz.ReaderConfig{DictCap: lzma.MinDictCap}.NewReader(xzguard.New(r))
		return z, func() {}, err
	}},
	{"zstd", "\x28\xb5\x2f\xfd", func(r *bufio.Reader) (io.Reader, func(), error) {
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(xzguard.MaxDictionary),
			zstd.WithDecoderMaxMemory(1<<40),
			zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}},
}

// frugal makes the garbage collector run when there is a fifth of garbage, because a dictionary of 64 MiB
// would otherwise take 128 MiB. The function that it returns undoes that.
func frugal() (undo func()) {
	old := debug.SetGCPercent(20)
	return func() { debug.SetGCPercent(old) }
}

// errCut is the error for an image that ends too early.
var errCut = errors.New("it ends in the middle: a download that was cut off?")

// unpack finds out how an image is packed, and unpacks it.
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

// named puts the name of the packing before an error.
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

// cut turns the errors of the packings' readers for an early end into errCut.
func cut(err error) error {
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return fmt.Errorf("it takes a window of more than %d MiB to unpack it: "+
			"pack it with zstd --long=26 or less (%w)", xzguard.MaxDictionary>>20, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errCut
	}
	return err
}

// finish reads the input to its end, so that the packing's own checks and the digest cover all of it.
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
	err  error // what ended the stream after data; io.EOF at its end
}

// ahead reads a stream in whole blocks, while its user writes them. It ends when ctx ends. The second channel
// takes used buffers back.
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
			// ReadFull returns exactly this error for a last block that is short
			if errors.Is(err, io.ErrUnexpectedEOF) && err == io.ErrUnexpectedEOF {
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

// blockSize is how many bytes are written at once, and how many at the beginning of a slice are written last.
// The first block has the boot blocks, the label and the first superblock, so no slice can be booted without
// it.
const blockSize = 1 << 20

// sector is the smallest number of bytes that a disk writes.
const sector = 512
