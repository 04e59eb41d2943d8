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

// maxBase bounds what is taken out of an image: a hundred times what /etc of a system with many packages is.
const maxBase = 2 << 30

// ExtractBase takes /conf/base/etc out of the slice of an image into a new directory below dir, with modes, owners and times, and returns its path. Devices, sockets
// and fifos are left out.
func ExtractBase(ctx context.Context, r io.ReaderAt, size int64, dir string) (string, error) {
	f, _, err := filesystem(r, size)
	if err != nil {
		return "", err
	}
	top := filepath.Join(dir, "etc")
	if err := os.Mkdir(top, 0o755); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(top) // a name leads nowhere else, whatever links the image holds
	if err != nil {
		return "", err
	}
	defer root.Close()
	x := &extractor{f: f, root: root}
	if err := f.Walk(ctx, baseEtc, x.entry); err != nil {
		return "", fmt.Errorf("/%s of the image: %w", baseEtc, err)
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
	for bit, mode := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
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

// finish gives directories what making files in them would change again.
func (x *extractor) finish() error {
	for i := len(x.dirs) - 1; i >= 0; i-- {
		e := x.dirs[i]
		if err := errors.Join(x.owned(e), x.root.Chtimes(e.Path, time.Unix(0, e.MTime), time.Unix(0, e.MTime)), x.root.Chmod(e.Path, e.Mode.Perm()|special(e.Perm))); err != nil {
			return err
		}
	}
	return nil
}

// ExtractImage takes /conf/base/etc out of an image, of a slice or of a whole medium, into a new directory below dir. A packed one is unpacked into dir on
// the way.
func ExtractImage(ctx context.Context, from *os.File, dir string) (string, error) {
	im, err := openImage(from)
	if err != nil {
		return "", err
	}
	defer im.end()
	if st, err := from.Stat(); err == nil && st.Mode().IsRegular() && im.form == "plain" {
		return ExtractBase(ctx, io.NewSectionReader(from, im.start, st.Size()-im.start), st.Size()-im.start, dir)
	}
	f, err := os.CreateTemp(dir, "image")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	size, err := io.Copy(f, readerWith(ctx, im.body))
	if err != nil {
		return "", err
	}
	return ExtractBase(ctx, f, size, dir)
}

// readerWith is a reader that ends with a context.
func readerWith(ctx context.Context, r io.Reader) io.Reader { return ctxReader{ctx, r} }

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
