package overlay

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"cfgd/internal/dirfd"
)

// packedXattr is one attribute in JSON, which has no bytes that are not UTF-8.
type packedXattr struct {
	Name  string
	Value []byte
	Raw   []byte `json:",omitempty"` // the name, where it is not UTF-8
}

// packXattrs makes one comparable string of extended attributes, "" of none.
func packXattrs(x []dirfd.Xattr) string {
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

// unpackXattrs is packXattrs backwards.
func unpackXattrs(s string) ([]dirfd.Xattr, error) {
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
