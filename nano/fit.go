package nano

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"cfgd/config"
	"cfgd/internal/disk"
	"cfgd/internal/ufs"
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

// own adapts a written image to its slice, as updatep2 and NanoBSD's build do.
func own(l *config.Nano, r *patched, s Slice, end int64) ([]string, error) {
	fsys, err := filesystem(r, s.Size)
	if err != nil {
		return nil, err
	}
	if fsys.start+fsys.Bytes > end {
		return nil, fmt.Errorf("%w: its filesystem is of %d bytes, and %d came", errCut, fsys.Bytes,
			end-fsys.start)
	}
	p, err := plan(l, fsys.FS, fsys.labelled, fsys.room, s)
	if err != nil {
		return nil, err
	}
	for _, e := range p.edits {
		if err := r.set(e.Bytes, fsys.start+e.At); err != nil {
			return nil, err
		}
	}
	if p.label != "" {
		back, err := filesystem(r, s.Size)
		if err != nil {
			return nil, err
		}
		if back.Label != p.label {
			return nil, fmt.Errorf("its filesystem has the label %q, and not %s", back.Label, p.label)
		}
	}
	return p.fstabs, nil
}

// ownership is what has to be changed to adapt a system to its slice.
type ownership struct {
	edits  []ufs.Edit // of its filesystem
	fstabs []string   // that are changed
	label  string     // that its filesystem gets, "" for none
}

// plan tells, by the layout of the disk, what to change in a filesystem so that both of its fstabs name
// the slice for /. If they do so by a label of the filesystem, the filesystem gets that label. It refuses
// an image that names another disk, because that would not find its root. labelled is set if the slice
// has a BSD label. room is the size of the partition in bytes.
func plan(l *config.Nano, fsys *ufs.FS, labelled bool, room int64, s Slice) (*ownership, error) {
	source := s.Source
	// the name of the device depends on whether there is a BSD label
	if l.Label() == "" && l.Kind == "s" {
		source = fmt.Sprintf("/dev/%s%s%d", l.Drive, l.Kind, s.Index)
		if labelled {
			source += "a"
		}
	}
	p := &ownership{}
	if err := p.setRoot(l, fsys, source); err != nil {
		return nil, err
	}
	label, ok := strings.CutPrefix(source, "/dev/ufs/")
	if !ok {
		return p, nil
	}
	// GEOM shows the label of a filesystem only if its size is about that of its partition
	// (sys/geom/label/g_label_ufs.c). In a smaller filesystem, the size of the partition is written beside
	// the label, as newfs(8) does.
	edits, err := fsys.Relabel(label, room)
	p.edits, p.label = append(p.edits, edits...), label
	return p, err
}

// setRoot makes a device the root of both fstabs.
func (p *ownership) setRoot(l *config.Nano, fsys *ufs.FS, source string) error {
	rooted := false
	for _, name := range fstabs {
		e, err := fsys.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		text, err := readFstab(fsys, e)
		if err != nil {
			return err
		}
		edited, ok, err := rewrite(l, text, source)
		if err != nil {
			return fmt.Errorf("/%s of the image: %w", name, err)
		}
		rooted = rooted || ok
		if bytes.Equal(edited, text) {
			continue
		}
		if err := p.replace(fsys, e, text, edited); err != nil {
			return fmt.Errorf("/%s of the image: %w", name, err)
		}
		p.fstabs = append(p.fstabs, name)
	}
	// Another filesystem, such as the cfg of a medium, has neither.
	if _, err := fsys.Stat(baseEtc); err != nil && !rooted {
		return noSystem{fmt.Errorf("%w: it has neither /%s nor an fstab that names /", ErrImage, baseEtc)}
	}
	return nil
}

const maxFstab = 64 << 10

func readFstab(fsys *ufs.FS, e *ufs.Entry) ([]byte, error) {
	in, err := fsys.Open(e)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(in, maxFstab))
}

// rewrite puts a device into the line for / of an fstab. It returns false if there is no such line. The text
// keeps its length, because it is changed in place: a shorter name gets more blanks after it, and a longer
// name fewer.
func rewrite(l *config.Nano, text []byte, source string) ([]byte, bool, error) {
	off := 0
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) < 2 || string(f[1]) != "/" || f[0][0] == '#' {
			off += len(line)
			continue
		}
		old := string(f[0])
		n := config.NanoSource(old, l.Drive)
		if n == nil || n.Drive != l.Drive || l.Label() == "" && n.Kind != l.Kind {
			return nil, false, fmt.Errorf("%w for this disk: its / is %s, and not of /dev/%s", ErrImage, old,
				l.Drive)
		}
		at := off + bytes.Index(line, f[0])
		blanks := len(line) - len(bytes.TrimLeft(line[at-off+len(old):], " \t")) - (at - off) - len(old)
		if len(source) > len(old)+blanks-1 {
			return nil, false, fmt.Errorf("its line for / has no room for %s in the place of %s: "+
				"it is changed in place", source, old)
		}
		field := []byte(source)
		if n := len(old) + blanks - len(field); len(field) != len(old) {
			field = append(field, bytes.Repeat([]byte{' '}, n)...)
		}
		edited := bytes.Clone(text)
		copy(edited[at:], field)
		return edited, true, nil
	}
	return text, false, nil
}

// replace changes those bytes of a file that differ, in place.
func (p *ownership) replace(fsys *ufs.FS, e *ufs.Entry, old, new []byte) error {
	for i := range new {
		if old[i] == new[i] {
			continue
		}
		where, err := fsys.At(e, int64(i))
		if err != nil {
			return err
		}
		if where == 0 {
			return errors.New("its line for / cannot be changed in place")
		}
		p.edits = append(p.edits, ufs.Edit{At: where, Bytes: new[i : i+1]})
	}
	return nil
}
