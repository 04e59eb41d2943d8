package merge

import (
	"crypto/sha1"
	"fmt"
	"strings"
	"unicode"

	"cfgd/internal/pathname"
)

// section writes git's headers for a file, and its hunks if there are any.
func (p *patch) section(old, new Side, hunks []byte) {
	w := &p.sections
	fmt.Fprintf(w, "diff --git %s %s\n", p.gitName(old), p.gitName(new))
	p.extended(old, new)
	if len(hunks) > 0 {
		fmt.Fprintf(w, "--- %s\n+++ %s\n", p.name(old), p.name(new))
		w.Write(hunks)
	}
}

// extended writes git's extended headers. The line with the blobs' ids is written only if a tool needs it:
// GNU patch deletes an empty file only by the id of an empty blob, and changes a symlink only by the mode
// after the ids. Elsewhere it is left out, because GNU patch would set the mode in it and make a file of mode
// 0600 readable for all.
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

// blob returns the id of a content as git abbreviates it, zeros if the side does not exist.
func blob(s Side) string {
	if !s.Exists {
		return "0000000"
	}
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(s.Content))
	h.Write(s.Content)
	return fmt.Sprintf("%x", h.Sum(nil))[:7]
}

// gitName returns a name for the first header line. It is quoted if it holds a blank, because GNU patch could
// not tell where it ends.
func (p *patch) gitName(s Side) string { return quote(s.Label+"/"+p.Path, " ") }

// name returns a name for the lines before the hunks. A TAB ends a name that holds a blank, as in the output
// of git and GNU diff. A name that ends with a blank is quoted, because GNU patch would drop the blank.
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

// quote quotes a name if it must be, or if it holds one of the given characters.
func quote(name, special string) string {
	quoted := pathname.Quote(name)
	if quoted == name && special != "" && strings.ContainsAny(name, special) {
		return `"` + name + `"`
	}
	return quoted
}

// printable maps what must not be sent to a terminal to U+FFFD.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}
