package tree

import (
	"crypto/sha256"
	"hash"
	"io"
	"sync"

	"cfgd/internal/dirfd"
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// DigestOf reads at most size bytes and one more, so that a file that keeps growing does not block the scan.
func DigestOf(r io.Reader, size int64) (Digest, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	h := sha256.New()
	bounded := struct{ io.Reader }{io.LimitReader(r, size+1)}
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, bounded, *buf); err != nil {
		return Digest{}, err
	}
	var d Digest
	h.Sum(d[:0])
	return d, nil
}

const holeSize = 4096 // in a sparse file, a block of this many zero bytes stays a hole

// CopyContent copies at most size bytes and one more, so that the caller sees a file that grew. It leaves
// holes if the source is sparse, and writes what it read to h unless h is nil.
func CopyContent(out *dirfd.File, in io.Reader, size int64, sparse bool, h hash.Hash) error {
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	in = io.LimitReader(in, size+1)
	for {
		n, err := io.ReadFull(in, *bp)
		chunk := (*bp)[:n]
		if h != nil {
			h.Write(chunk)
		}
		if werr := writeChunk(out, chunk, sparse); werr != nil {
			return werr
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if sparse {
		if err := out.Truncate(); err != nil {
			return err
		}
	}
	return nil
}

func writeChunk(out *dirfd.File, b []byte, sparse bool) error {
	if !sparse {
		if len(b) == 0 {
			return nil
		}
		_, err := out.Write(b)
		return err
	}
	for len(b) > 0 {
		n := min(holeSize, len(b))
		if zero(b[:n]) {
			out.Skip(int64(n))
		} else if _, err := out.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
