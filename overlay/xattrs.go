package overlay

import (
	"encoding/json"
	"fmt"

	"cfgd/internal/dirfd"
)

// packXattrs makes one comparable string of extended attributes, "" of none.
func packXattrs(x []dirfd.Xattr) string {
	if len(x) == 0 {
		return ""
	}
	b, err := json.Marshal(x)
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
	var x []dirfd.Xattr
	if err := json.Unmarshal([]byte(s), &x); err != nil {
		return nil, fmt.Errorf("extended attributes: %w", err)
	}
	return x, nil
}
