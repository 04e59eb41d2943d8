package tree

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"cfgd/internal/dirfd"
)

// packedXattr is one attribute in JSON, which has no bytes that are not UTF-8.
type packedXattr struct {
	Name  string
	Value []byte
	Raw   []byte `json:",omitempty"` // the name, where it is not UTF-8
}

// PackXattrs makes one comparable string of extended attributes, "" of none.
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
	if err != nil { // []byte and string always marshal
		panic(err)
	}
	return string(b)
}

// UnpackXattrs is packXattrs backwards.
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

// MaxXattrs bounds the attributes of all of a tree, in bytes of the manifest. A file's are bounded by
// dirfd. An override has its own and its default's, and a conflict three more, so that the manifest stays far
// below the size up to which it is read.
const MaxXattrs = 1 << 20

// NotAllXattrs begins the reason for which not all attributes are saved.
const NotAllXattrs = "not all of its extended attributes are saved: "

// boundXattrs leaves out the attributes of entries that are too many for the tree, in path order.
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
		e.stamp.fresh = true // to be read again: there may be room for them then
	}
}

// inManifest is how long attributes are as a string of JSON, in which a quote and a backslash take two bytes.
func inManifest(packed string) int {
	return len(packed) + strings.Count(packed, `"`) + strings.Count(packed, `\`)
}
