package overlay

import (
	"archive/tar"
	"cmp"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"cfgd/internal/dirfd"
)

// The records of pax(1) by which tar(1) of FreeBSD knows flags and attributes; GNU's knows the attributes.
// What can't be a record like that, a name with an equals sign or an empty value, has libarchive's form, in
// which both are encoded.
const (
	flagsRecord   = "SCHILY.fflags"
	xattrRecord   = "SCHILY.xattr."
	encodedRecord = "LIBARCHIVE.xattr."
)

// records are what a header of tar(5) has no field for; nil for none.
func records(e *Entry) (map[string]string, error) {
	x, err := unpackXattrs(e.Xattrs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Path, err)
	}
	if len(x) == 0 && e.Flags == 0 {
		return nil, nil
	}
	r := map[string]string{}
	if flags := dirfd.FlagNames(e.Flags); flags != "" {
		r[flagsRecord] = flags
	}
	for _, a := range x {
		if strings.Contains(a.Name, "=") || len(a.Value) == 0 {
			name := strings.ReplaceAll(url.QueryEscape(a.Name), "+", "%20")
			r[encodedRecord+name] = cmp.Or(base64.StdEncoding.EncodeToString(a.Value), "=")
			continue
		}
		r[xattrRecord+a.Name] = string(a.Value)
	}
	return r, nil
}

// dress gives an entry what a header's records say. Attributes that are no part of a file are left out.
func dress(e *Entry, h *tar.Header) error {
	e.Flags = dirfd.ParseFlags(h.PAXRecords[flagsRecord])
	var x []dirfd.Xattr
	for key, value := range h.PAXRecords {
		name, plain := strings.CutPrefix(key, xattrRecord)
		encoded, ok := strings.CutPrefix(key, encodedRecord)
		if ok {
			b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			if name, err = url.PathUnescape(encoded); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			value = string(b)
		}
		if (plain || ok) && dirfd.KeptXattr(name) {
			x = append(x, dirfd.Xattr{Name: name, Value: []byte(value)})
		}
	}
	slices.SortFunc(x, func(a, b dirfd.Xattr) int { return cmp.Compare(a.Name, b.Name) })
	x = slices.CompactFunc(x, func(a, b dirfd.Xattr) bool { return a.Name == b.Name })
	e.Xattrs = packXattrs(x)
	return nil
}
