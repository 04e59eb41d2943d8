package nano

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"cfgd/internal/disk"
)

// blockSize is how much is written at once, and how much of a slice is written last: the boot blocks, the label and the first superblock of its
// filesystem lie in it, so that without it no slice can be booted.
const blockSize = 1 << 20

// sector is the least that a disk writes.
const sector = 512

var zeros [blockSize]byte

// ErrTooLarge says that an image does not fit.
var ErrTooLarge = errors.New("the image is larger than the slice")

// pour writes an image into a slice of some size. The order:
//
//  1. the first block is overwritten with zeros and brought to stable storage: from now on the slice does not boot;
//  2. all blocks but the first are written, and brought to stable storage;
//  3. they are read back and compared;
//  4. whole decides whether the image is what it should be, and may change what is still in memory of it: nothing that is not gets a first block;
//  5. the first block is written, brought to stable storage, read back and compared.
//
// Whatever fails leaves a slice that does not boot, and is said to be so; before step 1 nothing was touched.
func pour(ctx context.Context, dst disk.Device, size int64, src io.Reader, whole func(first []byte, end int64) error, progress func(n int64)) (n int64, err error) {
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

// put writes and syncs.
func put(dst disk.Device, b []byte, at int64) error {
	if _, err := dst.WriteAt(b, at); err != nil {
		return err
	}
	return dst.Sync()
}

// pourRest writes what follows the first block, from an offset on, and returns where it ends and its digest.
func pourRest(ctx context.Context, dst disk.Device, size, at int64, src io.Reader, progress func(int64)) (int64, uint32, error) {
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

// castagnoli finds what a disk does to data; whether the data are the right ones, SHA-256 says.
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
