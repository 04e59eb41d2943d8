package overlay

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path"
	"slices"
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

// maxArchive bounds the contents of an archive to bring back, in bytes: they are held in memory.
const maxArchive = 256 << 20

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
	a := tarArchive{w: tar.NewWriter(w), live: live, seen: !t.NoXattrs}
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
		if c.New == nil && c.Old.Kind.Special() {
			continue // never made, and so not removed
		}
		if err := a.add(c); err != nil {
			return a.n, err
		}
	}
	return a.end()
}

// tarArchive is a tar archive while it is written.
type tarArchive struct {
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
func (a *tarArchive) add(c tree.Change) error {
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

// end writes the lists and closes the archive.
func (a *tarArchive) end() (int, error) {
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
	h.PAXRecords, over, err = paxRecords(e, seen && e.Kind != dirfd.KindSymlink && e.Unlisted == "")
	return h, over, err
}

// Names of pax(1) records in which FreeBSD's tar(1) finds flags and attributes; GNU tar finds the attributes.
// A name with an equals sign or an empty value can't be such a record. It gets libarchive's form, which
// encodes both name and value.
const (
	flagsRecord   = "SCHILY.fflags"
	xattrRecord   = "SCHILY.xattr."
	encodedRecord = "LIBARCHIVE.xattr."
)

// An entry without attributes gets a pax(1) comment that says so. An older cfgd left attributes out of every
// entry, so that no record would not mean no attributes. No tar(1) minds the comment.
const (
	commentRecord = "comment"
	noXattrs      = "no extended attributes"
)

// maxRecords bounds the records of one header, in bytes. archive/tar takes up to 1 MiB, long names and links
// included.
const maxRecords = 512 << 10

// paxRecords returns what a tar(5) header has no field for, nil if there is nothing. over lists the names of
// attributes that did not fit. seen says that the entry's attributes are known.
func paxRecords(e *tree.Entry, seen bool) (r map[string]string, over []string, err error) {
	x, err := tree.UnpackXattrs(e.Xattrs)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", e.Path, err)
	}
	if len(x) == 0 && e.Flags == 0 && !seen {
		return nil, nil, nil
	}
	r = map[string]string{}
	if len(x) == 0 && seen {
		r[commentRecord] = noXattrs
	}
	if flags := dirfd.FlagNames(e.Flags); flags != "" {
		r[flagsRecord] = flags
	}
	size := 0
	for _, a := range x {
		key, value := xattrRecord+a.Name, string(a.Value)
		if strings.Contains(a.Name, "=") || len(a.Value) == 0 {
			key = encodedRecord + strings.ReplaceAll(url.QueryEscape(a.Name), "+", "%20")
			value = cmp.Or(base64.StdEncoding.EncodeToString(a.Value), "=")
		}
		const frame = 16 // the record's length in digits, a blank, an equals sign and a line break
		if n := frame + len(key) + len(value); size+n <= maxRecords {
			r[key], size = value, size+n
			continue
		}
		over = append(over, a.Name)
	}
	return r, over, nil
}

// setFromRecords sets an entry's flags and attributes from a header's records. omitted lists the attributes
// that a file can't have here.
func setFromRecords(e *tree.Entry, h *tar.Header) (omitted []string) {
	e.Flags = dirfd.ParseFlags(h.PAXRecords[flagsRecord])
	var x []dirfd.Xattr
	// sorted, so that of two records for one name the same one is taken each time
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		a, ok, err := xattrOf(key, h.PAXRecords[key])
		if err != nil {
			omitted = append(omitted, fmt.Sprintf("%s: %v", pathname.Quote(key), err))
		} else if ok {
			x = append(x, a)
		}
	}
	slices.SortStableFunc(x, func(a, b dirfd.Xattr) int { return cmp.Compare(a.Name, b.Name) })
	x = slices.CompactFunc(x, func(a, b dirfd.Xattr) bool { return a.Name == b.Name })
	x, over := dirfd.FitXattrs(x)
	for _, name := range over {
		omitted = append(omitted, pathname.Quote(name)+": too large")
	}
	e.Xattrs = tree.PackXattrs(x)
	return omitted
}

// xattrOf reads a record that is an attribute. ok is false if it is another record.
func xattrOf(key, value string) (x dirfd.Xattr, ok bool, err error) {
	name, plain := strings.CutPrefix(key, xattrRecord)
	encoded, other := strings.CutPrefix(key, encodedRecord)
	switch {
	case other:
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
		if err != nil {
			return x, false, err
		}
		if name, err = url.PathUnescape(encoded); err != nil {
			return x, false, err
		}
		value = string(b)
	case !plain:
		return x, false, nil
	}
	_, own, _ := strings.Cut(name, ".")
	switch {
	case !dirfd.KeptXattr(name):
		return x, false, errors.New("no attribute of those that are saved")
	case own == "" || len(own) > 255 || strings.IndexByte(name, 0) >= 0:
		return x, false, errors.New("not the name of an attribute")
	}
	return dirfd.Xattr{Name: name, Value: []byte(value)}, true, nil
}
