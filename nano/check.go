package nano

import (
	"context"
	"fmt"
	"io"

	"cfgd/internal/ufs"
)

// This file checks an image that can be read twice, before anything is written. In an image from a pipe some
// faults are found too late. Here they are found while the slice still holds its old system.

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
		if err := im.fits(s); err != nil {
			return err
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
		if _, err = plan(i.disk.layout(), fsys, im.room > 0, room, *s); err != nil || !i.Activate {
			return err
		}
		why, err := lacks(fsys, i.table.Loader)
		if err == nil && why != "" {
			err = fmt.Errorf("%w; --no-activate writes it alone", &CannotBoot{"the system in it", why})
		}
		return err
	})
}

// fits returns an error if the beginning of an image says that it does not fit into a slice. The size of its
// filesystem is known even where that of the image is not.
func (im *image) fits(s *Slice) error {
	if size := max(im.size, im.part+im.fs); size > s.Size {
		return fmt.Errorf("%w: %d bytes, and %s has %d", ErrTooLarge, size, s.Name, s.Size)
	}
	return nil
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
