package nano

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"cfgd/internal/disk"
	"cfgd/internal/ufs"
)

// ErrImage is the error for a file that is no image of NanoBSD.
var ErrImage = errors.New("no image of NanoBSD")

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
	im.size = s.Size
	return nil
}
