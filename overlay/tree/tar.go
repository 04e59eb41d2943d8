package tree

import (
	"archive/tar"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

// TarHeader returns an entry's header, and the names of the attributes that did not fit into it.
func TarHeader(e *Entry, size int64, seen bool) (h *tar.Header, over []string, err error) {
	h = &tar.Header{
		Typeflag: tar.TypeReg,
		Name:     e.Path,
		Mode:     int64(e.Mode),
		Uid:      int(e.UID),
		Gid:      int(e.GID),
		Size:     size,
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

// HasNoXattrs reports whether a header says that its entry has no extended attributes.
func HasNoXattrs(h *tar.Header) bool { return h.PAXRecords[commentRecord] == noXattrs }

// maxRecords bounds the records of one header, in bytes. archive/tar takes up to 1 MiB, long names and links
// included.
const maxRecords = 512 << 10

// paxRecords returns what a tar(5) header has no field for, nil if there is nothing. over lists the names of
// attributes that did not fit. seen says that the entry's attributes are known.
func paxRecords(e *Entry, seen bool) (r map[string]string, over []string, err error) {
	x, err := UnpackXattrs(e.Xattrs)
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

// FromTarRecords sets an entry's flags and attributes from a header's records. omitted lists the attributes
// that a file can't have here.
func FromTarRecords(e *Entry, h *tar.Header) (omitted []string) {
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
	e.Xattrs = PackXattrs(x)
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
