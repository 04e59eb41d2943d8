package tree

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"cfgd/internal/dirfd"
)

// packedXattr is one attribute in JSON, which can't hold bytes that are not UTF-8.
type packedXattr struct {
	Name  string
	Value []byte
	Raw   []byte `json:",omitempty"` // the name, if it is not UTF-8
}

// PackXattrs makes one comparable string of extended attributes, "" if there are none.
func PackXattrs(x []dirfd.Xattr) string {
	if len(x) == 0 {
		return ""
	}
	p := make([]packedXattr, len(x))
	for i := range x {
		p[i] = packedXattr{Name: x[i].Name, Value: x[i].Value}
		if !utf8.ValidString(x[i].Name) {
			p[i].Raw = []byte(x[i].Name)
		}
	}
	b, err := json.Marshal(p)
	if err != nil { // can't happen: []byte and string always marshal
		panic(err)
	}
	return string(b)
}

// UnpackXattrs is the inverse of PackXattrs.
func UnpackXattrs(s string) ([]dirfd.Xattr, error) {
	if s == "" {
		return nil, nil
	}
	var p []packedXattr
	if err := json.Unmarshal([]byte(s), &p); err != nil {
		return nil, fmt.Errorf("extended attributes: %w", err)
	}
	x := make([]dirfd.Xattr, len(p))
	for i := range p {
		x[i] = dirfd.Xattr{Name: p[i].Name, Value: p[i].Value}
		if p[i].Raw != nil {
			x[i].Name = string(p[i].Raw)
		}
	}
	return x, nil
}

// MaxXattrs bounds the attributes of a whole tree, in bytes of the manifest. dirfd bounds those of one file.
// The manifest may hold them five times: for an override, its default, and three versions of a conflict. It
// still stays far below MaxManifest.
const MaxXattrs = 1 << 20

// NotAllXattrs begins the text that says why some attributes are not saved.
const NotAllXattrs = "not all of its extended attributes are saved: "

// boundXattrs drops attributes when the tree has more than MaxXattrs bytes, in path order.
func (t *Tree) boundXattrs() {
	size := 0
	for i := range t.Entries {
		e := &t.Entries[i]
		if e.Xattrs == "" {
			continue
		}
		n := inManifest(e.Xattrs)
		if size+n <= MaxXattrs {
			size += n
			continue
		}
		e.Xattrs, e.Excess = "", e.Unlisted == "" || e.Excess
		e.Unlisted = fmt.Sprintf("%sthose of all files are kept up to %d KiB", NotAllXattrs, MaxXattrs>>10)
		e.stamp.fresh = true // read again next time: there may be room then
	}
}

// inManifest returns the length of packed attributes as a JSON string, where a quote and a backslash take two
// bytes.
func inManifest(packed string) int {
	return len(packed) + strings.Count(packed, `"`) + strings.Count(packed, `\`)
}

// setXattrs sets attributes, and calls refused with each one that the filesystem refused.
func setXattrs(packed string, set func(dirfd.Xattr) error, refused func(name string)) error {
	x, err := UnpackXattrs(packed)
	if err != nil {
		return err
	}
	for _, a := range x {
		err := set(a)
		if err != nil && !dirfd.XattrRefused(err) {
			return err
		}
		if err != nil && refused != nil {
			refused(a.Name)
		}
	}
	return nil
}

// WithXattrs adds to one set of packed attributes those of another that have one of the names.
func WithXattrs(to, from string, names []string) string {
	have, err := UnpackXattrs(to)
	more, err2 := UnpackXattrs(from)
	if errors.Join(err, err2) != nil { // can't happen: a manifest with such attributes is not read
		return to
	}
	for _, x := range more {
		if slices.Contains(names, x.Name) && !HasXattr(have, x.Name) {
			have = append(have, x)
		}
	}
	slices.SortFunc(have, func(a, b dirfd.Xattr) int { return cmp.Compare(a.Name, b.Name) })
	return PackXattrs(have)
}

func HasXattr(all []dirfd.Xattr, name string) bool {
	return slices.ContainsFunc(all, func(x dirfd.Xattr) bool { return x.Name == name })
}
