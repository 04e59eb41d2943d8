package tree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"cfgd/internal/dirfd"
)

// Reader opens the content of an entry.
type Reader func(e *Entry) (io.ReadCloser, error)

// ReaderOf returns a reader of content in memory.
func ReaderOf(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

// OpenFile opens the regular file at p below root.
func OpenFile(root *dirfd.Dir, p string) (*dirfd.File, error) {
	dir, name := path.Split(p)
	d, err := root.Walk(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	f, err := d.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	return f, nil
}

// MakeLink makes a symbolic link with its owner and time.
func MakeLink(d *dirfd.Dir, name string, e *Entry) error {
	if err := d.Symlink(e.Link, name); err != nil {
		return err
	}
	if Privileged {
		if err := d.Chown(name, e.UID, e.GID); err != nil {
			return err
		}
	}
	return d.Utimes(name, e.MTime)
}

// CopyFile makes a new file with the entry's metadata except chflags(1)'s flags, syncs it, and returns the
// digest of what it copied. It calls refused, unless nil, with each attribute that the filesystem refused.
func CopyFile(
	in io.Reader, to *dirfd.Dir, name string, e *Entry, refused func(name string),
) (Digest, error) {
	out, err := to.Create(name)
	if err != nil {
		return Digest{}, err
	}
	defer out.Close()
	var got Digest
	h := sha256.New()
	if err := CopyContent(out, in, e.Size, e.Sparse(), h); err != nil {
		return got, err
	}
	h.Sum(got[:0])
	if err := setFile(out, e, refused); err != nil {
		return got, err
	}
	if err := to.Utimes(name, e.MTime); err != nil {
		return got, err
	}
	if err := out.Sync(); err != nil {
		return got, err
	}
	return got, out.Close()
}

// setFile gives a new file its owner, mode and attributes. The owner comes first, because chown(2) clears
// setuid.
func setFile(f *dirfd.File, e *Entry, refused func(name string)) error {
	if Privileged {
		if err := f.Chown(e.UID, e.GID); err != nil {
			return err
		}
	}
	return SetMode(f, e, refused)
}

// SetMode gives a new file its attributes and mode; its owner must be set. The mode comes last: setting user
// attributes needs write permission, and an ACL changes the bits of the mode.
func SetMode(f *dirfd.File, e *Entry, refused func(name string)) error {
	if err := setXattrs(e.Xattrs, f.SetXattr, refused); err != nil {
		return err
	}
	return f.Chmod(e.Mode)
}

// SetDir gives a directory its owner, mode, attributes and time. It leaves attributes that the entry does not
// have. It calls refused, unless nil, with each attribute that the filesystem refused.
func SetDir(d *dirfd.Dir, e *Entry, refused func(name string)) error {
	if Privileged {
		if err := d.Chown("", e.UID, e.GID); err != nil {
			return err
		}
	}
	if err := setXattrs(e.Xattrs, d.SetXattr, refused); err != nil {
		return err
	}
	if err := d.Utimes("", e.MTime); err != nil {
		return err
	}
	return d.Chmod(e.Mode)
}

// ResetDir is SetDir for a directory that was there before: it also removes the attributes that the entry
// does not have. The entry must come from a filesystem that has attributes.
func ResetDir(d *dirfd.Dir, e *Entry, refused func(name string)) error {
	want, err := UnpackXattrs(e.Xattrs)
	if err != nil {
		return err
	}
	have, _ := d.Xattrs() // attributes that can't be read stay: a save must not fail because of them
	for _, h := range have {
		if !slices.ContainsFunc(want, func(w dirfd.Xattr) bool { return w.Name == h.Name }) {
			if err := d.RemoveXattr(h.Name); err != nil {
				return err
			}
		}
	}
	return SetDir(d, e, refused)
}

// OpenUp lets an ordinary user change names in a directory of that user whose mode forbids it. The meta step
// that follows every change in a directory sets the mode again.
func OpenUp(d *dirfd.Dir) error {
	if Privileged {
		return nil
	}
	st, err := d.Self()
	if err != nil || st.Mode&0o300 == 0o300 {
		return err
	}
	return d.Chmod(st.Mode | 0o700)
}

// RemoveFile unlinks a name that is not a directory.
func RemoveFile(d *dirfd.Dir, name string) error {
	st, err := d.Stat(name)
	if err != nil || st.Kind == dirfd.KindDir {
		return err
	}
	return d.Unlink(name)
}

// IgnoreGone drops the errors that mean that a name is gone or a directory is not empty.
func IgnoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || NotSame(err) {
		return nil
	}
	return err
}

// MakeDir makes a directory, and replaces a file of that name.
func MakeDir(d *dirfd.Dir, name string) error {
	st, err := d.Stat(name)
	switch {
	case err == nil && st.Kind == dirfd.KindDir:
		return nil
	case err == nil:
		if err := RemoveFile(d, name); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return d.Mkdir(name)
}

// SetFlags gives a new name the entry's flags.
func SetFlags(d *dirfd.Dir, name string, e *Entry) error {
	if e.Flags == 0 {
		return nil
	}
	return d.SetFlags(name, e.Flags)
}
