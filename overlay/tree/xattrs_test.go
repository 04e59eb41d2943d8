package tree

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cfgd/internal/dirfd"
)

// Names and values of attributes are bytes, and the manifest keeps them so.
func TestPackXattrs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var want []dirfd.Xattr
		for range rapid.IntRange(0, 4).Draw(t, "n") {
			name := "user." + string(rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "name"))
			want = append(want, dirfd.Xattr{Name: name, Value: rapid.SliceOf(rapid.Byte()).Draw(t, "value")})
		}
		got, err := UnpackXattrs(PackXattrs(want))
		if err != nil || !slices.EqualFunc(got, want, func(a, b dirfd.Xattr) bool {
			return a.Name == b.Name && bytes.Equal(a.Value, b.Value)
		}) {
			t.Fatalf("%q became %q, %v", want, got, err)
		}
	})
}
