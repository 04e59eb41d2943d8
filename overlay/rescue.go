package overlay

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"cfgd/config"
	"cfgd/internal/ctxio"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// RescueRemoved is the member of a rescue archive that lists the defaults that live had removed: one path on
// each line, quoted as in .cfgd/removed.
const RescueRemoved = ".cfgd-removed"

// RescueLeft is the member that lists what the archive leaves out: what is no file, directory or link, and
// attributes that do not fit. Each line has a path and the reason.
const RescueLeft = ".cfgd-left-out"

// RescueDamaged is the member that lists the files of which a part could not be read. In the archive they are
// filled up with zeros. They are not brought back.
const RescueDamaged = ".cfgd-damaged"

// maxArchive bounds an archive, in bytes. What is brought back from one is held in memory, and a file with
// holes, of any size, must not fill the host's disk.
const maxArchive = 256 << 20

// RescueOptions says what goes into a rescue archive.
type RescueOptions struct {
	Only []string // these paths alone; nil is all
	// Room is how many bytes the archive may take, at most maxArchive, which 0 means too. Files larger than
	// max_file go last, as far as they fit.
	Room int64
}

// MissedError says what a rescue archive lacks, and why. The archive is whole otherwise: it must be kept,
// and so must the live tree.
type MissedError struct{ Missed []error }

func (e *MissedError) Error() string {
	return strings.ReplaceAll(errors.Join(e.Missed...).Error(), "\n", "; ")
}

// Rescue writes to w, as a tar(5) archive, all of live that differs from base, or all of live if base can't
// be read. It needs no cfg: it is for a live tree that must go and can't be saved. It returns the number of
// entries in the archive. The error is a MissedError if something could not be read or had no room; then the
// archive of the rest is complete.
func (o *Overlay) Rescue(ctx context.Context, w io.Writer, ro RescueOptions) (int, error) {
	live, err := o.OpenLive()
	if err != nil {
		return 0, err
	}
	defer live.Close()
	if _, err := o.populated(live); err != nil {
		return 0, err
	}
	t, err := tree.Scan(ctx, live, tree.ScanOptions{MaxFile: o.Target.MaxFile, Now: o.Now})
	if err != nil {
		return 0, fmt.Errorf("scan live: %w", err)
	}
	defaults := &tree.Tree{}
	if base, err := o.base(ctx); err == nil {
		defaults = base.Tree
	}
	a := tarArchive{w: tar.NewWriter(w), live: live, seen: !t.NoXattrs,
		room: min(cmp.Or(ro.Room, maxArchive), maxArchive)}
	for _, k := range t.Unseen() {
		if ro.Only != nil {
			break // it is not asked for
		}
		a.missed = append(a.missed, fmt.Errorf("%s: %s", pathname.Quote(k.Path), k.Reason))
	}
	for _, c := range tree.Delta(defaults, t) {
		if err := ctx.Err(); err != nil {
			return a.n, err
		}
		if class, _ := o.Target.Classes.Of(c.Path); class == config.Volatile || class == config.Ignore ||
			ro.Only != nil && !slices.Contains(ro.Only, c.Path) {
			continue
		}
		if c.New == nil && t.WhySkipped(c.Path) != "" {
			continue // not seen, and so perhaps not gone
		}
		if c.New == nil && c.Old.Kind.Special() {
			continue // never made, and so not removed
		}
		if err := a.add(c); err != nil {
			return a.n, err
		}
	}
	return a.end(ctx)
}

// tarArchive is a tar archive while it is written.
type tarArchive struct {
	w       *tar.Writer
	live    *dirfd.Dir
	seen    bool // live's filesystem has attributes
	room    int64
	bytes   int64
	n       int
	removed strings.Builder
	left    strings.Builder
	damaged strings.Builder
	large   []*tree.Entry // files larger than max_file
	missed  []error
}

// add writes one changed path. Only an error of the writer stops it.
func (a *tarArchive) add(c tree.Change) error {
	if c.New == nil {
		a.removed.WriteString(pathname.Quote(c.Path) + "\n")
		return nil
	}
	if c.New.Kind.Special() {
		a.left.WriteString(pathname.Quote(c.Path) + " a " + c.New.Kind.String() + "\n")
		return nil
	}
	if c.New.Unread == tree.TooLarge {
		a.large = append(a.large, c.New)
		return nil
	}
	if c.New.Unlisted != "" {
		a.left.WriteString(pathname.Quote(c.Path) + " " + c.New.Unlisted + "\n")
	}
	content, err := a.content(c.New)
	if err != nil {
		a.missed = append(a.missed, err)
		return nil
	}
	h, err := a.header(c.New, int64(len(content)))
	if err != nil {
		return err
	}
	return a.write(h, content)
}

// header counts an entry, and returns its header.
func (a *tarArchive) header(e *tree.Entry, size int64) (*tar.Header, error) {
	h, over, err := tree.TarHeader(e, size, a.seen)
	if err != nil {
		return nil, err
	}
	for _, name := range over {
		fmt.Fprintf(&a.left, "%s its extended attribute %s: too large for an archive\n",
			pathname.Quote(e.Path), pathname.Quote(name))
	}
	a.n++
	a.bytes += size + frameBytes
	return h, nil
}

// frameBytes is about what an entry takes in an archive beside its content, and what the end takes.
const frameBytes = 4096

// stream writes a file that is too large to be held in memory. Its size is that of the beginning, whatever
// becomes of it. What can't be read of it is filled up with zeros, so that the archive stays whole.
func (a *tarArchive) stream(ctx context.Context, e *tree.Entry) error {
	name := pathname.Quote(e.Path)
	if need := e.Size + 2*frameBytes; need > a.room-a.bytes {
		a.missed = append(a.missed, fmt.Errorf("%s: its %d KiB have no room in the archive, which can take "+
			"%d KiB more", name, e.Size>>10, max(0, a.room-a.bytes)>>10))
		return nil
	}
	d, err := a.live.Walk(pathname.Parent(e.Path))
	if err != nil {
		a.missed = append(a.missed, err)
		return nil
	}
	defer d.Close()
	f, err := d.Open(path.Base(e.Path))
	if err != nil {
		a.missed = append(a.missed, err)
		return nil
	}
	defer f.Close()
	full := *e // the scan has not read its attributes
	if x, err := f.Xattrs(); err == nil {
		full.Xattrs = tree.PackXattrs(x)
	} else if !dirfd.NoXattr(err) {
		full.Unlisted = tree.WhyUnlisted(err)
		a.left.WriteString(name + " " + full.Unlisted + "\n")
	}
	h, err := a.header(&full, e.Size)
	if err != nil {
		return err
	}
	if err := a.w.WriteHeader(h); err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	in := &source{r: io.LimitReader(f, e.Size)}
	n, err := io.Copy(a.w, ctxio.Reader(ctx, in))
	if ctx.Err() != nil || err != nil && in.err == nil {
		return cmp.Or(err, ctx.Err())
	}
	if n == e.Size {
		return nil
	}
	a.damaged.WriteString(name + "\n")
	a.missed = append(a.missed, fmt.Errorf("%s: only %d of %d bytes could be read: %w", name, n, e.Size,
		cmp.Or(in.err, io.ErrUnexpectedEOF)))
	_, err = io.CopyN(a.w, zeros{}, e.Size-n)
	return err
}

// source remembers an error of reading, which io.Copy does not distinguish from one of writing.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// content reads a whole file first, so that the size in the header is right even if the file grows meanwhile.
func (a *tarArchive) content(e *tree.Entry) ([]byte, error) {
	if e.Kind != dirfd.KindFile {
		return nil, nil
	}
	d, err := a.live.Walk(pathname.Parent(e.Path))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadFile(path.Base(e.Path), max(e.Size*2, 1<<20))
}

func (a *tarArchive) write(h *tar.Header, content []byte) error {
	if err := a.w.WriteHeader(h); err != nil {
		return fmt.Errorf("archive %s: %w", pathname.Quote(h.Name), err)
	}
	_, err := a.w.Write(content)
	return err
}

// end writes the large files and the lists, and closes the archive.
func (a *tarArchive) end(ctx context.Context) (int, error) {
	for _, e := range a.large {
		if err := a.stream(ctx, e); err != nil {
			return a.n, err
		}
	}
	for _, list := range []struct{ name, text string }{
		{RescueRemoved, a.removed.String()}, {RescueLeft, a.left.String()},
		{RescueDamaged, a.damaged.String()},
	} {
		if list.text == "" {
			continue
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: list.name, Mode: 0o600, Size: int64(len(list.text))}
		if err := a.write(h, []byte(list.text)); err != nil {
			return a.n, err
		}
	}
	if err := a.w.Close(); err != nil {
		return a.n, err
	}
	if len(a.missed) > 0 {
		return a.n, &MissedError{a.missed}
	}
	return a.n, nil
}
