package nano

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"cfgd/internal/disk"
)

var zeros [blockSize]byte

// ErrTooLarge is the error for an image that does not fit.
var ErrTooLarge = errors.New("the image is larger than the slice")

// pour writes an image into a slice of some size. The order:
//
//  1. overwrite the first block with zeros, and bring it to stable storage: now the slice does not boot;
//  2. write all blocks but the first, and bring them to stable storage;
//  3. read them back and compare;
//  4. let whole check the image. It may change the blocks that are still in memory. If it refuses the image,
//     the first block is not written;
//  5. write the first block, bring it to stable storage, read it back and compare.
//
// After a failure the slice does not boot, and the error says so. Before step 1 nothing is touched.
func pour(
	ctx context.Context, dst disk.Device, size int64, src io.Reader,
	whole func(first []byte, end int64) error, progress func(n int64),
) (n int64, err error) {
	first := make([]byte, blockSize)
	k, err := io.ReadFull(src, first)
	if err != nil && !(err == io.ErrUnexpectedEOF || err == io.EOF) {
		return 0, err
	}
	switch first = first[:k]; {
	case int64(k) > size:
		return 0, ErrTooLarge
	case k == 0 || k%sector != 0:
		return 0, errCut
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := put(dst, zeros[:min(size, blockSize)], 0); err != nil {
		return 0, fmt.Errorf("clear the boot blocks: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w; the slice does not boot until it is installed again", err)
		}
	}()
	n, sum, err := pourRest(ctx, dst, size, int64(k), src, progress)
	if err != nil {
		return n, err
	}
	if err := compare(ctx, dst, int64(k), n, sum); err != nil {
		return n, err
	}
	if err := whole(first, n); err != nil {
		return n, err
	}
	if err := ctx.Err(); err != nil {
		return n, err
	}
	if err := put(dst, first, 0); err != nil {
		return n, fmt.Errorf("write the boot blocks: %w", err)
	}
	return n, compare(ctx, dst, 0, int64(k), crc32.Checksum(first, castagnoli))
}

// put writes a block and brings it to stable storage.
func put(dst disk.Device, b []byte, at int64) error {
	if _, err := dst.WriteAt(b, at); err != nil {
		return err
	}
	return dst.Sync()
}

// pourRest writes what follows the first block, from an offset on. It returns the end and a checksum.
func pourRest(
	ctx context.Context, dst disk.Device, size, at int64, src io.Reader, progress func(int64),
) (int64, uint32, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	full, empty := ahead(ctx, src)
	sum := uint32(0)
	for c := range full {
		if at+int64(len(c.data)) > size {
			return at, sum, ErrTooLarge
		}
		if len(c.data)%sector != 0 {
			return at, sum, errCut
		}
		if _, err := dst.WriteAt(c.data, at); err != nil {
			return at, sum, fmt.Errorf("write at %d: %w", at, err)
		}
		sum = crc32.Update(sum, castagnoli, c.data)
		at += int64(len(c.data))
		if progress != nil {
			progress(at)
		}
		if c.err == io.EOF {
			return at, sum, dst.Sync()
		}
		if c.err != nil {
			return at, sum, c.err
		}
		empty <- c.data[:cap(c.data)]
	}
	return at, sum, ctx.Err()
}

// castagnoli is the checksum that finds errors of the disk. That the image is the right one is checked by
// SHA-256.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// compare reads a part of a slice back and compares it with the checksum of what was written.
func compare(ctx context.Context, src disk.Device, from, to int64, want uint32) error {
	sum := uint32(0)
	buf := make([]byte, blockSize)
	for at := from; at < to; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := src.ReadAt(buf[:min(blockSize, to-at)], at)
		if n == 0 && err != nil {
			return fmt.Errorf("read back at %d: %w", at, err)
		}
		sum = crc32.Update(sum, castagnoli, buf[:n])
		at += int64(n)
	}
	if sum != want {
		return errors.New("what was read back is not what was written: the disk is failing")
	}
	return nil
}
