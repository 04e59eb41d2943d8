package nano

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cfgd/internal/ufs"
)

// maxBase bounds what is taken out of an image, in bytes: a hundred times the /etc of a system with many
// packages.
const maxBase = 2 << 30

// ExtractBase takes /conf/base/etc out of the slice of an image into a new directory below dir, with modes,
// owners and times, and returns its path. Devices, sockets and fifos are left out.
func ExtractBase(ctx context.Context, r io.ReaderAt, size int64, dir string) (string, error) {
	f, err := filesystem(r, size)
	if err != nil {
		return "", err
	}
	return (&Base{fsys: f.FS}).Extract(ctx, dir)
}

// Base is /conf/base/etc of an image, ready to be taken out.
type Base struct {
	Bytes  int64 // about its size in a filesystem
	Passes int   // how often a packed image was read

	fsys *ufs.FS
}

// OpenBase finds the defaults in an image of a slice, of a whole medium or of a bare filesystem. It reads a
// plain file in place. It reads a packed file several times as a stream, and keeps the needed parts in
// memory, so it takes no room on a disk. A pipe is refused.
func OpenBase(ctx context.Context, from *os.File) (*Base, error) {
	defer frugal()()
	st, err := from.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file that can be read more than once: copy it into one", from.Name())
	}
	f := &imageFile{from, 0, st.Size(), maxSieve}
	b := &Base{}
	_, err = eachSlice(func(nth int) error { return b.open(ctx, f, nth) })
	return b, err
}

// open reads the base of the nth slice of a medium, or of another image.
func (b *Base) open(ctx context.Context, f *imageFile, nth int) error {
	im, err := f.open(nth)
	if err != nil {
		return err
	}
	defer im.drop()
	if im.form == "plain" {
		size := f.size - im.start
		var x *found
		if x, err = filesystem(io.NewSectionReader(f, im.start, size), size); err == nil {
			b.fsys = x.FS
		}
	} else {
		im.drop()
		b.fsys, b.Passes, err = f.sieve(ctx, im, nth, []string{baseEtc}, nil)
	}
	if err != nil {
		return err
	}
	if _, err := b.fsys.Stat(baseEtc); errors.Is(err, fs.ErrNotExist) {
		return noSystem{err}
	}
	return b.measure(ctx)
}

// measure adds up the size of the base: for each name its content in whole blocks, and an inode.
func (b *Base) measure(ctx context.Context) error {
	const block, inode = 4096, 256
	return b.walk(ctx, func(e *ufs.Entry) error {
		b.Bytes += inode
		if e.Mode.IsRegular() || e.Mode.IsDir() {
			b.Bytes += (e.Size + block - 1) / block * block
		}
		return nil
	})
}

func (b *Base) walk(ctx context.Context, do func(*ufs.Entry) error) error {
	if err := b.fsys.Walk(ctx, baseEtc, do); err != nil {
		return fmt.Errorf("/%s of the image: %w", baseEtc, err)
	}
	return nil
}

// Extract makes a directory below dir with it, and returns its path.
func (b *Base) Extract(ctx context.Context, dir string) (string, error) {
	top := filepath.Join(dir, "etc")
	if err := os.Mkdir(top, 0o755); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(top) // no link of the image leads out of it
	if err != nil {
		return "", err
	}
	defer root.Close()
	x := &extractor{f: b.fsys, root: root}
	if err := b.walk(ctx, x.entry); err != nil {
		return "", err
	}
	return top, x.finish()
}

type extractor struct {
	f    *ufs.FS
	root *os.Root
	dirs []*ufs.Entry
	sum  int64
}

func (x *extractor) entry(e *ufs.Entry) error {
	switch {
	case e.Mode.IsDir():
		x.dirs = append(x.dirs, e)
		return x.root.Mkdir(e.Path, 0o700)
	case e.Mode&fs.ModeSymlink != 0:
		if err := x.root.Symlink(e.Link, e.Path); err != nil {
			return err
		}
		return x.owned(e)
	case e.Mode.IsRegular():
		return x.file(e)
	}
	return nil
}

func (x *extractor) file(e *ufs.Entry) error {
	if x.sum += e.Size; x.sum > maxBase {
		return fmt.Errorf("%w: more than %d bytes", ErrImage, maxBase)
	}
	in, err := x.f.Open(e)
	if err != nil {
		return err
	}
	out, err := x.root.OpenFile(e.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := x.owned(e); err != nil {
		return err
	}
	if err := x.root.Chmod(e.Path, e.Mode.Perm()|special(e.Perm)); err != nil {
		return err
	}
	return errors.Join(out.Close(), x.root.Chtimes(e.Path, time.Unix(0, e.MTime), time.Unix(0, e.MTime)))
}

func special(perm uint32) (m fs.FileMode) {
	for bit, mode := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid,
		0o1000: fs.ModeSticky} {
		if perm&bit != 0 {
			m |= mode
		}
	}
	return m
}

func (x *extractor) owned(e *ufs.Entry) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return x.root.Lchown(e.Path, int(e.UID), int(e.GID))
}

// finish sets the modes and times of directories, which the files made in them have changed.
func (x *extractor) finish() error {
	for i := len(x.dirs) - 1; i >= 0; i-- {
		e := x.dirs[i]
		if err := errors.Join(x.owned(e),
			x.root.Chtimes(e.Path, time.Unix(0, e.MTime), time.Unix(0, e.MTime)),
			x.root.Chmod(e.Path, e.Mode.Perm()|special(e.Perm))); err != nil {
			return err
		}
	}
	return nil
}
