package nano

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"cfgd/internal/disk"
)

// fit turns an image into one that a slice of this disk can boot. It writes nothing; it changes what reading
// the image returns. A partition of a GPT holds only a filesystem: of an image with a BSD label it gets
// partition a. A slice of an MBR boots by its own boot blocks, which need a BSD label (dskread of
// stand/i386/boot2/boot2.c): before a bare filesystem go the boot blocks and the label of the running slice,
// and an image with a label must have its own boot blocks.
func (i *installation) fit(ctx context.Context, im *image) error {
	t, d := i.table, i.disk
	switch {
	case t.Scheme == "GPT" && im.room > 0:
		return im.unlabel()
	case t.Scheme == "GPT":
		return nil
	case im.room > 0 && !boots(im.head) && t.Honours() != disk.Nothing:
		return fmt.Errorf("%w for this disk: its first sector does not end with 55aa, so it has no boot "+
			"blocks, by which a slice of an MBR is booted", ErrImage)
	case im.room > 0:
		return nil
	}
	f, _, err := d.open(ctx, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	running, ok := t.Slice(d.Running)
	if !ok {
		return fmt.Errorf("no slice %d: %w", d.Running, disk.ErrTable)
	}
	r := &part{f, running.Start, running.Size}
	parts, err := disk.ReadLabel(r, running.Size)
	if errors.Is(err, disk.ErrNoLabel) {
		return im.bare(r)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.Name(d.Running), err)
	}
	for _, p := range parts {
		if p.Letter == 'a' {
			return im.wrap(r, p.Start, i.done.Slice.Size)
		}
	}
	return fmt.Errorf("%s has a label without a partition a: a bare filesystem cannot be given its "+
		"boot blocks",
		d.Name(d.Running))
}

// bootBlocks is how many bytes a filesystem leaves free at its beginning, for boot1, a BSD label and boot2.
const bootBlocks = 8192

// unlabel takes partition a out of a slice with a label. If the partition begins where the slice does, the
// label is in the bytes that the filesystem leaves free. unlabel removes it there, because in a partition of
// its own it would be taken for the label of a slice.
func (im *image) unlabel() error {
	if _, err := io.CopyN(io.Discard, im.body, im.part); err != nil {
		return fmt.Errorf("%w before its partition a begins", errCut)
	}
	im.body, im.size, im.limited = io.LimitReader(im.body, im.room), im.room, true
	if im.part == 0 {
		b := make([]byte, bootBlocks)
		if _, err := io.ReadFull(im.body, b); err != nil {
			return fmt.Errorf("%w in its boot blocks", errCut)
		}
		clear(b[sector : 2*sector])
		im.body = io.MultiReader(bytes.NewReader(b), im.body)
	}
	im.start, im.part, im.room = im.start+im.part, 0, 0
	return nil
}

// bare accepts a filesystem without a label if the running slice has no label either. If the running slice
// has boot blocks, the image must have some too.
func (im *image) bare(running io.ReaderAt) error {
	b := make([]byte, sector)
	if _, err := running.ReadAt(b, 0); err != nil {
		return err
	}
	if boots(b) && !boots(im.head) {
		return fmt.Errorf("%w for this disk: it is a bare filesystem without boot blocks, "+
			"by which a slice of an MBR is booted", ErrImage)
	}
	return nil
}

// boots reports whether a sector ends with 55aa, as a BIOS requires.
func boots(b []byte) bool { return b[510] == 0x55 && b[511] == 0xaa }

// wrap puts the boot blocks and the label of the running slice before a bare filesystem, or into the bytes
// that the filesystem leaves free, if the running slice has them there.
func (im *image) wrap(running io.ReaderAt, before, size int64) error {
	// boot1, the label and boot2
	if before > 0 && before < bootBlocks || before > headSize/2 || before%sector != 0 {
		return fmt.Errorf("%w for this disk: it is a bare filesystem, and the running slice has its own "+
			"at %d, which leaves no room for boot blocks", ErrImage, before)
	}
	if before+im.fs > size {
		return fmt.Errorf("%w: boot blocks and a filesystem of %d bytes", ErrTooLarge, im.fs)
	}
	b := make([]byte, max(before, bootBlocks))
	if _, err := running.ReadAt(b, 0); err != nil {
		return err
	}
	if err := disk.Relabel(b[sector:2*sector], size/sector, before/sector, im.fs/sector); err != nil {
		return err
	}
	inside := int64(len(b)) - before
	if _, err := io.CopyN(io.Discard, im.body, inside); err != nil {
		return fmt.Errorf("%w in its boot blocks", errCut)
	}
	im.body = io.MultiReader(bytes.NewReader(b), io.LimitReader(im.body, im.fs-inside))
	im.size, im.part, im.room = before+im.fs, before, im.fs
	im.start, im.limited = im.start-before, true
	return nil
}
