package overlay

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

// maxArchive is the size in bytes of all contents of an archive that is brought back: it is held in memory.
const maxArchive = 256 << 20

// Unrescue brings back into live what an archive of Rescue holds, and saves it as a generation. What the
// archive lists as removed is removed. Nothing in it is believed: names stay below live, and kinds are file,
// directory and symbolic link.
func (o *Overlay) Unrescue(ctx context.Context, r io.Reader, message string) (done *Restored, err error) {
	x := &extract{contents: map[Digest][]byte{}, only: []string{}}
	if err := x.read(r); err != nil {
		return nil, err
	}
	err = o.atWork(ctx, func(s *Store, v *View) error {
		if v.NotPopulated != nil {
			return v.NotPopulated
		}
		done, err = o.unrescue(ctx, s, v, x, message)
		return err
	})
	return done, err
}

func (o *Overlay) unrescue(ctx context.Context, s *Store, v *View, x *extract, message string) (*Restored, error) {
	rs := &restorer{want: x.over(v.Live), read: x.open, touched: map[string]bool{}}
	rs.choose(v, x.only)
	live, err := o.OpenLive()
	if err != nil {
		return nil, err
	}
	defer live.Close()
	if err := rs.run(ctx, live); err != nil {
		return nil, fmt.Errorf("bring back: %w", err)
	}
	done := &Restored{Changes: rs.changes, Generation: s.Manifest.Generation}
	if v, err = o.view(ctx, v.Base, s, LookOptions{}); err != nil {
		return done, err
	}
	saved, err := o.save(ctx, s, v, SaveOptions{Paths: x.only, Force: true, Message: message})
	if saved != nil {
		done.Generation = saved.Generation
	}
	return done, err
}

// extract is an archive that was read.
type extract struct {
	entries  []Entry
	removed  []string
	only     []string // all paths that it is about
	contents map[Digest][]byte
	bytes    int64
}

func (x *extract) read(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("archive: %w", err)
		}
		if x.bytes += h.Size; x.bytes > maxArchive {
			return fmt.Errorf("archive: more than %d MiB", maxArchive>>20)
		}
		b, err := io.ReadAll(t)
		if err != nil {
			return fmt.Errorf("archive: %s: %w", pathname.Quote(h.Name), err)
		}
		if err := x.member(h, b); err != nil {
			return fmt.Errorf("archive: %s: %w", pathname.Quote(h.Name), err)
		}
	}
	slices.SortFunc(x.entries, func(a, b Entry) int { return pathname.Compare(a.Path, b.Path) })
	for i := range x.entries {
		x.only = append(x.only, x.entries[i].Path)
	}
	x.only = append(x.only, x.removed...)
	return nil
}

func (x *extract) member(h *tar.Header, b []byte) error {
	switch h.Name {
	case RescueLeft:
		return nil
	case RescueRemoved:
		for text := range strings.SplitSeq(strings.TrimSuffix(string(b), "\n"), "\n") {
			path, err := pathname.Unquote(text)
			if err == nil {
				err = pathname.Valid(path)
			}
			if err != nil {
				return fmt.Errorf("%q: %w", text, err)
			}
			x.removed = append(x.removed, path)
		}
		return nil
	}
	e := Entry{Path: strings.TrimSuffix(h.Name, "/"), Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid), MTime: h.ModTime.UnixNano()}
	if err := pathname.Valid(e.Path); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		e.Kind, e.Size, e.Digest = dirfd.KindFile, int64(len(b)), sumOf(b)
		x.contents[e.Digest] = b
	case tar.TypeDir:
		e.Kind = dirfd.KindDir
	case tar.TypeSymlink:
		e.Kind, e.Link = dirfd.KindSymlink, h.Linkname
	default:
		return errors.New("neither file, directory nor symbolic link")
	}
	if !privileged {
		e.UID, e.GID = ownIDs()
	}
	if err := dress(&e, h); err != nil {
		return err
	}
	x.entries = append(x.entries, e)
	return nil
}

// over is live with the archive's entries laid over it, and without what it removed.
func (x *extract) over(live *Tree) *Tree {
	// An archive of an older program knows no attributes: those of live stay then.
	known := slices.ContainsFunc(x.entries, func(e Entry) bool { return e.Xattrs != "" })
	t := Saved(live, &Tree{Entries: x.entries, NoXattrs: !known}, nil)
	t.Entries = slices.DeleteFunc(t.Entries, func(e Entry) bool {
		return slices.ContainsFunc(x.removed, func(p string) bool { return within(e.Path, p) })
	})
	return t
}

func (x *extract) open(e *Entry) (io.ReadCloser, error) {
	b, ok := x.contents[e.Digest]
	if !ok {
		return nil, fmt.Errorf("%s: not in the archive", pathname.Quote(e.Path))
	}
	return readerOf(b), nil
}
