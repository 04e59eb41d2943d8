package nano

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"cfgd/internal/disk"
	"cfgd/internal/ufs"
)

// ErrImage is the error for what is no image of NanoBSD.
var ErrImage = errors.New("no image of NanoBSD")

// image is an image on its way in: of a code slice, or of a whole medium, of which it is the first one.
type image struct {
	*stream
	head []byte // the first bytes of the slice, which come again from body
	body io.Reader
	size int64 // bytes of the slice; 0 where nothing says
	part int64 // where in the slice its filesystem begins
	room int64 // bytes of the partition that holds its filesystem, as a BSD label says; 0 without a label
	fs   int64 // bytes that its filesystem takes
	full bool

	start int64 // where in what comes in, unpacked, the slice begins
}

// headSize is how much of a slice is looked at before anything is written.
const headSize = blockSize

// openImage looks at the beginning of what comes in.
func openImage(r io.Reader) (*image, error) {
	s, err := unpack(r)
	if err != nil {
		return nil, err
	}
	im := &image{stream: s}
	if err := im.begin(s.Reader, true); err != nil {
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

// begin takes a slice in, or finds the first one of a whole medium.
func (im *image) begin(r io.Reader, first bool) error {
	head, err := readHead(r)
	if err != nil {
		return err
	}
	if len(head) < 2*sector {
		return fmt.Errorf("%w: only %d bytes", ErrImage, len(head))
	}
	at := bytes.NewReader(head)
	parts, err := disk.ReadLabel(at, 1<<50)
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
	case first:
		if s := firstSlice(head); s != nil {
			return im.skip(head, r, s)
		}
	}
	im.head, im.body = head, io.MultiReader(bytes.NewReader(head), r) // a partition of a GPT has no label
	return im.filesystem(1 << 50)
}

// filesystem sees that there is one, and that it was not only named.
func (im *image) filesystem(size int64) error {
	if im.part < 0 || im.part > headSize/2 {
		return fmt.Errorf("%w: its filesystem begins at %d", ErrImage, im.part)
	}
	at := io.NewSectionReader(bytes.NewReader(im.head), im.part, headSize)
	f, err := ufs.Open(at, min(size, int64(len(im.head))-im.part))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrImage, err)
	}
	im.fs = f.Bytes
	return nil
}

// firstSlice is the first code slice of a whole medium. How large the medium is nobody has said yet.
func firstSlice(head []byte) *disk.Slice {
	t, err := disk.Read(bytes.NewReader(head), 1<<50)
	if err != nil {
		return nil
	}
	if code := codeSlices(t); len(code) > 0 {
		return &code[0]
	}
	return nil
}

// skip goes to a slice of a medium.
func (im *image) skip(head []byte, r io.Reader, s *disk.Slice) error {
	all := io.MultiReader(bytes.NewReader(head), r)
	if _, err := io.CopyN(io.Discard, all, s.Start); err != nil {
		return fmt.Errorf("%w before slice %d begins", errCut, s.Index)
	}
	im.full, im.start = true, s.Start
	if err := im.begin(io.LimitReader(all, s.Size), false); err != nil {
		return fmt.Errorf("slice %d of the medium: %w", s.Index, err)
	}
	im.size = s.Size
	return nil
}

// codeSlices are the two of an image of a whole medium that hold systems: the first two of FreeBSD's on an
// MBR, the first two with UFS on a GPT.
func codeSlices(t *disk.Table) []disk.Slice {
	var all []disk.Slice
	for _, s := range t.Slices {
		if isCode(t, s) && len(all) < 2 {
			all = append(all, s)
		}
	}
	return all
}

// isCode reports whether a slice may hold a system.
func isCode(t *disk.Table, s disk.Slice) bool {
	if t.Scheme == "GPT" {
		return s.Type == "freebsd-ufs"
	}
	return s.Type == "freebsd"
}
