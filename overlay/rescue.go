package overlay

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// RescueRemoved is the member of a rescue archive that lists the defaults that live had removed: one path on
// each line, quoted as in .cfgd/removed.
const RescueRemoved = ".cfgd-removed"

// RescueLeft is the member that lists what the archive leaves out, as a save would: files larger than
// max_file, and what is no file, directory or link. Each line has a path and the reason.
const RescueLeft = ".cfgd-left-out"

// Rescue writes to w, as a tar(5) archive, all of live that differs from base, or all of live if base can't
// be read. It needs no cfg: it is for a live tree that must go and can't be saved. It returns the number of
// entries in the archive. What could not be read is left out and named in the error; the archive of the rest
// is complete.
func (o *Overlay) Rescue(ctx context.Context, w io.Writer) (int, error) {
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
	a := archive{w: tar.NewWriter(w), live: live, seen: !t.NoXattrs}
	for _, k := range t.Unseen() {
		a.missed = append(a.missed, fmt.Errorf("%s: %s", pathname.Quote(k.Path), k.Reason))
	}
	for _, c := range tree.Delta(defaults, t) {
		if err := ctx.Err(); err != nil {
			return a.n, err
		}
		if class, _ := o.Target.Classes.Of(c.Path); class == config.Volatile || class == config.Ignore {
			continue
		}
		if c.New == nil && t.WhySkipped(c.Path) != "" {
			continue // not seen, and so perhaps not gone
		}
		if err := a.add(c); err != nil {
			return a.n, err
		}
	}
	return a.end()
}

// archive is a tar archive while it is written.
type archive struct {
	w       *tar.Writer
	live    *dirfd.Dir
	seen    bool // live's filesystem has attributes
	bytes   int64
	n       int
	removed strings.Builder
	left    strings.Builder
	missed  []error
}

// add writes one changed path. Only an error of the writer stops it.
func (a *archive) add(c tree.Change) error {
	if c.New == nil {
		a.removed.WriteString(pathname.Quote(c.Path) + "\n")
		return nil
	}
	if c.New.Kind.Special() || c.New.Unread == tree.TooLarge {
		why := string(c.New.Unread)
		if why == "" {
			why = "a " + c.New.Kind.String()
		}
		a.left.WriteString(pathname.Quote(c.Path) + " " + why + "\n")
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
	if a.bytes += int64(len(content)); a.bytes > maxArchive {
		a.bytes -= int64(len(content))
		err := fmt.Errorf("%s: more than the %d MiB of contents that an archive takes",
			pathname.Quote(c.Path), maxArchive>>20)
		a.missed = append(a.missed, err)
		return nil
	}
	h, over, err := tarHeader(c.New, len(content), a.seen)
	if err != nil {
		return err
	}
	for _, name := range over {
		fmt.Fprintf(&a.left, "%s its extended attribute %s: too large for an archive\n",
			pathname.Quote(c.Path), pathname.Quote(name))
	}
	a.n++
	return a.write(h, content)
}

// content reads a whole file first, so that the size in the header is right even if the file grows meanwhile.
func (a *archive) content(e *tree.Entry) ([]byte, error) {
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

func (a *archive) write(h *tar.Header, content []byte) error {
	if err := a.w.WriteHeader(h); err != nil {
		return fmt.Errorf("archive %s: %w", pathname.Quote(h.Name), err)
	}
	_, err := a.w.Write(content)
	return err
}

// end writes the lists and closes the archive.
func (a *archive) end() (int, error) {
	lists := map[string]string{RescueRemoved: a.removed.String(), RescueLeft: a.left.String()}
	for name, list := range lists {
		if list == "" {
			continue
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(list))}
		if err := a.write(h, []byte(list)); err != nil {
			return a.n, err
		}
	}
	if err := a.w.Close(); err != nil {
		return a.n, err
	}
	return a.n, errors.Join(a.missed...)
}

// tarHeader returns an entry's header, and the names of the attributes that did not fit into it.
func tarHeader(e *tree.Entry, size int, seen bool) (h *tar.Header, over []string, err error) {
	h = &tar.Header{
		Typeflag: tar.TypeReg,
		Name:     e.Path,
		Mode:     int64(e.Mode),
		Uid:      int(e.UID),
		Gid:      int(e.GID),
		Size:     int64(size),
		ModTime:  time.Unix(0, e.MTime),
	}
	switch e.Kind {
	case dirfd.KindDir:
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
	case dirfd.KindSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	}
	h.PAXRecords, over, err = records(e, seen && e.Kind != dirfd.KindSymlink && e.Unlisted == "")
	return h, over, err
}
