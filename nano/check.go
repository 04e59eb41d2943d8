package nano

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"cfgd/internal/ctxio"
	"cfgd/internal/ufs"
)

// This file checks an image that can be read twice, before anything is written. In an image from a pipe some
// faults are found too late. Here they are found while the slice still holds its old system.

// seekable returns the image as a file, with the offset where it begins; nil for a pipe.
func seekable(r io.Reader) (*os.File, int64) {
	f, ok := r.(*os.File)
	if !ok {
		return nil, 0
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return nil, 0
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, 0
	}
	return f, at
}

// imageFile is an image in a file.
type imageFile struct {
	*os.File
	at    int64 // where it begins
	size  int64 // bytes from there on
	limit int64 // bytes of memory for the needed parts of a packed image
}

func newImageFile(f *os.File, at int64) (*imageFile, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return &imageFile{f, at, st.Size() - at, maxSieve}, nil
}

// open opens the image from its beginning. nth is as in openImage.
func (f *imageFile) open(nth int) (*image, error) {
	if _, err := f.Seek(f.at, io.SeekStart); err != nil {
		return nil, err
	}
	return openImage(f.File, nth)
}

// eachSlice calls try with 0, 1 and so on, for the slices of a medium, until one holds a system.
func eachSlice(try func(nth int) error) (nth int, err error) {
	var first error
	for ; ; nth++ {
		err := try(nth)
		var none noSystem
		switch {
		case errors.Is(err, errNoMore):
			return 0, first
		case !errors.As(err, &none):
			return nth, err
		case first == nil:
			first = err
		}
	}
}

// check looks for faults that would make Install fail after it has begun to write. It returns which slice of
// a medium holds the system. It reads a packed image two or three times. If looking into its filesystem takes
// too much memory, it checks only the length and the digest.
func (i *installation) check(ctx context.Context, f *imageFile) (int, error) {
	s := &i.done.Slice
	return eachSlice(func(nth int) error {
		im, err := f.open(nth)
		if err != nil {
			return err
		}
		defer im.drop()
		if err := i.fit(ctx, im); err != nil {
			return err
		}
		if im.size > s.Size {
			return tooLarge(im, s)
		}
		total, fsys := f.size, (*ufs.FS)(nil)
		if im.form == "plain" {
			fsys, err = ufs.Open(io.NewSectionReader(f, f.at+im.at, f.size-im.at), f.size-im.at)
			if err == nil && i.SHA256 != "" {
				_, err = f.through(ctx, nth, i.SHA256)
			}
		} else {
			im.drop()
			fsys, total, err = f.packed(ctx, im, nth, i.SHA256)
		}
		if err != nil {
			return err
		}
		if err := im.complete(total, s); err != nil || fsys == nil {
			return err
		}
		room := s.Size
		if im.room > 0 {
			room = im.room
		}
		_, err = plan(i.disk.layout(), fsys, im.room > 0, room, *s)
		return err
	})
}

func tooLarge(im *image, s *Slice) error {
	return fmt.Errorf("%w: %d bytes, and %s has %d", ErrTooLarge, im.size, s.Name, s.Size)
}

// complete returns an error unless an image of so many bytes, unpacked, is complete and fits.
func (im *image) complete(total int64, s *Slice) error {
	length := total - im.start
	switch {
	case total < im.at+im.fs:
		return fmt.Errorf("%w: its filesystem is of %d bytes, and %d come", errCut, im.fs, total-im.at)
	case im.size > 0 && length < im.size && !im.full:
		return errCut
	case !im.limited && length%sector != 0:
		return errCut
	case !im.limited && length > s.Size:
		return fmt.Errorf("%w: %d bytes, and %s has %d", ErrTooLarge, length, s.Name, s.Size)
	}
	return nil
}

// through reads an image to its end, and returns how many bytes it has, unpacked.
func (f *imageFile) through(ctx context.Context, nth int, sum string) (int64, error) {
	im, err := f.open(nth)
	if err != nil {
		return 0, err
	}
	defer im.drop()
	return im.through(ctx, sum)
}

// through reads on to the end, and compares the digest if one was given. It returns the length of the whole
// image in bytes, unpacked.
func (im *image) through(ctx context.Context, sum string) (int64, error) {
	if _, err := io.Copy(io.Discard, ctxio.Reader(ctx, im.stream)); err != nil {
		return 0, err
	}
	digest, err := im.finish()
	if err != nil {
		return 0, err
	}
	return im.stream.n, sameDigest(hex.EncodeToString(digest[:]), sum)
}

func sameDigest(got, want string) error {
	if want != "" && !strings.EqualFold(want, got) {
		return fmt.Errorf("SHA-256 is %s and not %s: another image, or a damaged one", got, want)
	}
	return nil
}

// packed reads the needed parts of the filesystem of a packed image. The first pass reads the image to its
// end.
func (f *imageFile) packed(ctx context.Context, im *image, nth int, sum string) (*ufs.FS, int64, error) {
	total, whole := int64(0), error(nil)
	toEnd := func(again *image) error {
		total, whole = again.through(ctx, sum)
		return whole
	}
	fsys, _, err := f.sieve(ctx, im, nth, fstabs, toEnd)
	if errors.Is(err, ufs.ErrSieve) {
		return nil, total, whole
	}
	return fsys, total, err
}

// sieve reads a packed image until all that is needed of paths is in memory. It returns how often it read the
// image. If atFirst is not nil, it is called with the image after the first pass.
func (f *imageFile) sieve(
	ctx context.Context, im *image, nth int, paths []string, atFirst func(*image) error,
) (*ufs.FS, int, error) {
	s, err := ufs.NewSieve(im.head[im.at-im.begins:], f.limit)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrImage, err)
	}
	fsys, err := s.Take(ctx, paths, func() (io.ReadCloser, error) {
		debug.FreeOSMemory() // free the dictionary of the last pass before another one is allocated
		again, err := f.open(nth)
		if err != nil {
			return nil, err
		}
		if _, err := io.CopyN(io.Discard, again.body, again.part); err != nil {
			again.drop()
			return nil, err
		}
		o := opened{again, atFirst}
		atFirst = nil
		return o, nil
	})
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errCut
	}
	return fsys, s.Passes(), err
}

// opened is the filesystem of an image, read as a stream. Each pass ends before the next begins.
type opened struct {
	im  *image
	end func(*image) error
}

func (o opened) Read(p []byte) (int, error) { return o.im.body.Read(p) }

func (o opened) Close() error {
	defer o.im.drop()
	if o.end == nil {
		return nil
	}
	return o.end(o.im)
}
