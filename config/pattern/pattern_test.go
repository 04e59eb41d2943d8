package pattern

import (
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
)

// slowFirst tries each pattern only by doublestar. The compiled table must agree with it.
func slowFirst(patterns []string, name, base string) int {
	for i, pattern := range patterns {
		subject := base
		if strings.Contains(pattern, "/") {
			subject = name
		}
		if pattern[0] == '/' {
			pattern = pattern[1:]
		}
		if dir, ok := strings.CutSuffix(pattern, "/**"); ok {
			pattern = dir + "/*/**" // what is inside dir, without dir itself
		}
		if ok, _ := doublestar.Match(pattern, subject); ok {
			return i
		}
	}
	return -1
}

// FuzzPattern: the compiled form of any pattern decides as doublestar does.
func FuzzPattern(f *testing.F) {
	for _, p := range []string{
		"a*b*c", "*a*", "*", "**", "a/**/b", "a/*b", "/a*", "{a,b/c}*", "a{b,{c,d}}", "[a-c]?x", `a\*`,
		"**/a/**", "a/**/", "*a*b*", "?",
	} {
		f.Add(p, "a/b")
		f.Add(p, "axbxc")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		// doublestar takes U+FFFD for any byte that is not UTF-8; cfgd compares bytes.
		if Check(pattern) != nil || strings.ContainsRune(pattern, utf8.RuneError) ||
			path.Clean(pattern) != pattern || path.Clean(name) != name {
			return
		}
		patterns := []string{pattern}
		base := name[strings.LastIndexByte(name, '/')+1:]
		if got, want := Compile(patterns, false).First(name), slowFirst(patterns, name, base); got != want {
			t.Errorf("%q on %q: rule %d, want %d", pattern, name, got, want)
		}
	})
}
