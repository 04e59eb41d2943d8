package nano

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"cfgd/internal/ctxio"
	"cfgd/internal/disk"
	"cfgd/internal/ufs"
)

// noSystem is an ErrImage for a slice without a system. Another slice of the medium may hold one.
type noSystem struct{ error }

func (e noSystem) Unwrap() error { return e.error }

// errNoMore is the error if a medium has no further slice that may hold a system.
var errNoMore = errors.New("no further slice")

// image is an image that is being read: of a slice, or one slice of the image of a whole medium.
type image struct {
	*stream
	head []byte // the first bytes of the slice, which come again from body
	body io.Reader
	size int64 // bytes of the slice; 0 if not known
	part int64 // where in the slice its filesystem begins
	room int64 // bytes of the partition that holds its filesystem, as a BSD label says; 0 without a label
	fs   int64 // bytes that its filesystem takes
	full bool

	// Places in what comes in, unpacked.
	begins  int64 // where head begins
	start   int64 // where begins what body yields; less than 0 where boot blocks were put before it
	at      int64 // where its filesystem begins
	limited bool  // body ends where the slice or its filesystem does, and not with what comes in
}

// headSize is how many bytes of a slice are checked before anything is written.
const headSize = blockSize

// openImage looks at the beginning of the input. Of a whole medium it takes the nth slice that may hold a
// system, counted from 0. The error is errNoMore if there is none.
func openImage(r io.Reader, nth int) (*image, error) {
	s, err := unpack(r)
	if err != nil {
		return nil, err
	}
	im := &image{stream: s}
	if err := im.begin(s, nth, true); err != nil {
		s.end()
		return nil, err
	}
	return im, nil
}

func readHead(r io.Reader) ([]byte, error) {
	b := make([]byte, headSize)
	n, err := io.ReadFull(r, b)
	if err == io.ErrUnexpectedEOF || err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// drop frees what the image uses, when nobody reads it any more.
func (im *image) drop() {
	im.end()
	im.body = nil
}

// begin reads the beginning of a slice, or finds the nth slice of a whole medium.
func (im *image) begin(r io.Reader, nth int, outer bool) error {
	head, err := readHead(r)
	if err != nil {
		return err
	}
	if len(head) < 2*sector {
		return fmt.Errorf("%w: only %d bytes", ErrImage, len(head))
	}
	at := bytes.NewReader(head)
	parts, err := disk.ReadLabel(at, 1<<50)
	if outer && errors.Is(err, disk.ErrNoLabel) {
		if code := codeSlices(head); nth < len(code) {
			return im.skip(head, r, &code[nth])
		}
	}
	if outer && nth > 0 {
		return errNoMore
	}
	switch {
	case err == nil:
		im.size = disk.LabelSize(parts)
		for _, p := range parts {
			if p.Letter == 'a' {
				im.part, im.room = p.Start, p.Size
				im.head, im.body = head, io.MultiReader(bytes.NewReader(head), r)
				return im.filesystem(p.Size)
			}
		}
		return fmt.Errorf("%w: its label has no partition a", ErrImage)
	case !errors.Is(err, disk.ErrNoLabel):
		return err
	}
	im.head, im.body = head, io.MultiReader(bytes.NewReader(head), r) // a partition of a GPT has no label
	return im.filesystem(1 << 50)
}

// filesystem checks that the slice holds a filesystem.
func (im *image) filesystem(size int64) error {
	if im.part < 0 || im.part > headSize/2 {
		return fmt.Errorf("%w: its filesystem begins at %d", ErrImage, im.part)
	}
	at := io.NewSectionReader(bytes.NewReader(im.head), im.part, headSize)
	f, err := ufs.Open(at, min(size, int64(len(im.head))-im.part))
	if err != nil {
		return noSystem{fmt.Errorf("%w: %w", ErrImage, err)}
	}
	if f.Bytes > size {
		return fmt.Errorf("%w: its filesystem is of %d bytes, and its partition of %d", ErrImage, f.Bytes,
			size)
	}
	im.fs, im.at = f.Bytes, im.start+im.part
	return nil
}

// codeSlices returns the slices of a whole medium that may hold a system; none if it is no medium. The first
// sectors do not tell the size of the medium.
func codeSlices(head []byte) []disk.Slice {
	t, err := disk.Read(bytes.NewReader(head), 1<<50)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(t.Slices, func(s disk.Slice) bool { return !isCode(t, s) })
}

// skip reads up to a slice of a medium.
func (im *image) skip(head []byte, r io.Reader, s *disk.Slice) error {
	all := io.MultiReader(bytes.NewReader(head), r)
	if _, err := io.CopyN(io.Discard, all, s.Start); err != nil {
		return fmt.Errorf("%w before slice %d begins", errCut, s.Index)
	}
	im.full, im.limited, im.start, im.begins = true, true, s.Start, s.Start
	if err := im.begin(io.LimitReader(all, s.Size), 0, false); err != nil {
		return fmt.Errorf("slice %d of the medium: %w", s.Index, err)
	}
	if im.part+im.fs > s.Size {
		return fmt.Errorf("%w: slice %d of the medium has %d bytes, and its filesystem ends at %d", ErrImage,
			s.Index, s.Size, im.part+im.fs)
	}
	im.size = s.Size
	return nil
}

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

// maxSieve bounds the memory for the needed parts of a packed image, in bytes: several times the /etc of a
// system with many packages, and what a machine of 512 MB has left beside a dictionary of
// xzguard.MaxDictionary.
const maxSieve = 96 << 20

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

// fstabs of an image name the slice that it was made for.
var fstabs = []string{"etc/fstab", "conf/base/etc/fstab"}
