package merge

import (
	"crypto/sha1"
	"fmt"
	"strings"
	"unicode"

	"cfgd/internal/pathname"
)

// section writes what git has for a file: its headers, and the hunks if there are any.
func (p *patch) section(old, new Side, hunks []byte) {
	w := &p.sections
	fmt.Fprintf(w, "diff --git %s %s\n", p.gitName(old), p.gitName(new))
	p.extended(old, new)
	if len(hunks) > 0 {
		fmt.Fprintf(w, "--- %s\n+++ %s\n", p.name(old), p.name(new))
		w.Write(hunks)
	}
}

// extended writes git's extended headers. The line with the blobs' ids is there where tools need it: GNU patch deletes an
// empty file only by the id of an empty blob, and changes a symlink only by the mode that stands behind the ids. Elsewhere it is
// not, for GNU patch would take the mode in it for an order, and make a file of mode 0600 readable for all.
func (p *patch) extended(old, new Side) {
	w := &p.sections
	switch {
	case !old.Exists:
		fmt.Fprintf(w, "new file mode %s\nindex %s..%s\n", gitMode(new), blob(old), blob(new))
	case !new.Exists:
		fmt.Fprintf(w, "deleted file mode %s\nindex %s..%s\n", gitMode(old), blob(old), blob(new))
	case gitMode(old) != gitMode(new):
		fmt.Fprintf(w, "old mode %s\nnew mode %s\n", gitMode(old), gitMode(new))
	case new.Kind == Symlink:
		fmt.Fprintf(w, "index %s..%s %s\n", blob(old), blob(new), gitMode(new))
	}
}

// blob is the id of a content as git abbreviates it; of what does not exist it is zeros.
func blob(s Side) string {
	if !s.Exists {
		return "0000000"
	}
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(s.Content))
	h.Write(s.Content)
	return fmt.Sprintf("%x", h.Sum(nil))[:7]
}

// gitName is a name in the first header line, quoted where it holds a blank: GNU patch could not tell where it ends.
func (p *patch) gitName(s Side) string { return quote(s.Label+"/"+p.Path, " ") }

// name is a name in the lines before the hunks. A TAB ends one that holds a blank, as in git's and GNU diff's own output,
// and one that ends with a blank is quoted, for GNU patch would leave that out.
func (p *patch) name(s Side) string {
	if !s.Exists {
		return "/dev/null"
	}
	name := s.Label + "/" + p.Path
	switch {
	case strings.HasSuffix(name, " "):
		return quote(name, " ")
	case strings.Contains(name, " "):
		return quote(name, "") + "\t"
	}
	return quote(name, "")
}

// quote quotes a name that has to be, or that holds one of the given characters.
func quote(name, special string) string {
	quoted := pathname.Quote(name)
	if quoted == name && special != "" && strings.ContainsAny(name, special) {
		return `"` + name + `"`
	}
	return quoted
}

// printable maps what a terminal must not be sent to U+FFFD.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}
