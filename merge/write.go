package merge

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"io"
	"strings"
	"unicode"

	"cfgd/internal/pathname"
)

// Write writes a change in git's format (git-diff(1), "Generating patch text with -p"), with context lines
// around each difference:
//
//	# vhost1 rc.conf (unsaved)
//	# mode 0644 -> 0640
//	diff --git base/rc.conf live/rc.conf
//	--- base/rc.conf
//	+++ live/rc.conf
//	@@ -1,3 +1,3 @@
//
// All "#" lines come before the first header, so that none is taken for a part of a hunk. A change of type is
// written as a deletion and an addition. Contents that can't be shown have a "#" line. They have no section,
// because that would make an empty file of them. The only errors are the writer's.
func Write(w io.Writer, c Change, context int) error {
	p := patch{Change: c, context: context}
	p.contents()
	p.attributes()
	for _, note := range c.Notes {
		p.say("%s", note)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# %s %s", pathname.Quote(c.Target), pathname.Quote(c.Path))
	if c.Unsaved {
		out.WriteString(" (unsaved)")
	}
	out.WriteByte('\n')
	for _, r := range p.remarks {
		fmt.Fprintf(&out, "# %s\n", r)
	}
	out.Write(p.sections.Bytes())
	_, err := w.Write(out.Bytes())
	return err
}

// patch is a change while it is written: remarks for people, sections for tools.
type patch struct {
	Change
	context  int
	remarks  []string
	sections bytes.Buffer
	created  bool // a section makes the new file and sets its mode, as far as git knows modes
}

// contents writes how types and contents differ.
func (p *patch) contents() {
	old, new := p.Old, p.New
	switch {
	case !old.Exists && !new.Exists:
	case !old.Exists:
		p.appear(new)
	case !new.Exists:
		p.disappear(old)
	case old.Kind != new.Kind:
		p.say("type %s -> %s", old.Kind, new.Kind)
		p.disappear(old)
		p.appear(new)
	case old.Kind == File || old.Kind == Symlink:
		p.modify(old, new)
	}
}

// modify writes the difference of two files or two symlinks.
func (p *patch) modify(old, new Side) {
	var hunks []byte
	if !same(old, new) {
		why := p.hidden(old, new)
		if why == "" {
			hunks, why = p.hunks(old, new)
		}
		if why != "" {
			p.say("%s", p.differ(why))
		}
	}
	if len(hunks) > 0 || gitMode(old) != gitMode(new) {
		p.section(old, new, hunks)
	}
}

// differ returns the remark for two contents that are not shown.
func (p *patch) differ(why string) string {
	switch {
	case p.Secret:
		return "contents differ (secret)"
	case why == tooLarge:
		return "files differ (" + why + ")"
	}
	return fmt.Sprintf("contents differ (%s): %s -> %s", why, p.Old.measure(), p.New.measure())
}

// appear writes a path that was not there, or was of another type. If no section deletes what is in its way,
// none can add it: git apply would refuse the whole patch.
func (p *patch) appear(new Side) { p.oneSided(Side{Label: p.Old.Label}, new, new, "added") }

// disappear writes the deletion of a path that is gone, or of another type now.
func (p *patch) disappear(old Side) { p.oneSided(old, Side{Label: p.New.Label}, old, "deleted") }

// oneSided writes the existing side s as all added or all deleted.
func (p *patch) oneSided(old, new, s Side, word string) {
	if s.Kind != File && s.Kind != Symlink {
		if p.Old.Exists != p.New.Exists { // else the types are in a remark already
			p.say("%s %s", s.Kind, word)
		}
		return
	}
	why := p.hidden(s)
	if why == "" && new.Exists && p.Old.Exists && p.sections.Len() == 0 {
		why = fmt.Sprintf("in place of a %s", p.Old.Kind)
	}
	var hunks []byte
	if why == "" {
		hunks, why = p.hunks(old, new)
	}
	switch {
	case why == "":
		p.section(old, new, hunks)
		p.created = new.Exists
	case p.Secret:
		p.say("%s %s (secret)", s.Kind, word)
	default:
		p.say("%s %s (%s): %s", s.Kind, word, why, s.measure())
	}
}

// hidden says why the contents of the given sides are not shown, "" if they are.
func (p *patch) hidden(sides ...Side) string {
	if p.Secret {
		return "secret"
	}
	for _, s := range sides {
		if s.Omitted != "" {
			return s.Omitted
		}
	}
	for _, s := range sides {
		if s.Kind == File && Binary(s.Content) {
			return "binary"
		}
	}
	return ""
}

// tooLarge is the remark for ErrTooLarge.
const tooLarge = "too large for a line diff"

// hunks returns the differences of two contents, or why there are none.
func (p *patch) hunks(old, new Side) (hunks []byte, why string) {
	hunks, err := Unified(old.Content, new.Content, p.context)
	if err != nil {
		return nil, tooLarge
	}
	return hunks, ""
}

// measure returns what is said of a content that is not shown.
func (s Side) measure() string {
	size := int64(len(s.Content))
	if s.Omitted != "" {
		size = s.Size
	}
	if s.Digest == "" {
		return fmt.Sprintf("%d bytes", size)
	}
	return fmt.Sprintf("%d bytes, %s", size, s.Digest)
}

// attributes writes what else changed, unless a section says it.
func (p *patch) attributes() {
	old, new := p.Old, p.New
	if !new.Exists {
		return
	}
	p.mode(old, new)
	switch {
	case old.Exists && old.Owner != new.Owner:
		p.say("owner %s -> %s", pathname.Quote(old.Owner), pathname.Quote(new.Owner))
	case !old.Exists && !usualOwner[new.Owner]:
		p.say("owner %s", pathname.Quote(new.Owner))
	}
	switch {
	case old.Exists && old.Flags != new.Flags:
		p.say("flags %s -> %s", orNone(old.Flags), orNone(new.Flags))
	case !old.Exists && new.Flags != "":
		p.say("flags %s", new.Flags)
	}
}

// usualOwner has the owners that are not mentioned, because root applies a patch to an /etc.
var usualOwner = map[string]bool{"": true, "root:wheel": true, "root:root": true, "0:0": true}

// mode writes the exact modes if git's two can't express them. Modes of symlinks mean nothing.
func (p *patch) mode(old, new Side) {
	switch {
	case new.Kind == Symlink:
	case old.Exists && old.Kind == new.Kind:
		if old.Mode != new.Mode && !(new.Kind == File && exact(old) && exact(new)) {
			p.say("mode %04o -> %04o", old.Mode, new.Mode)
		}
	case !p.created || !exact(new):
		p.say("mode %04o", new.Mode)
	}
}

// exact reports whether git's mode says all of a file's mode.
func exact(s Side) bool { return s.Mode == 0o644 || s.Mode == 0o755 }

// gitMode returns the mode of a file or a symlink as git writes it.
func gitMode(s Side) string {
	switch {
	case s.Kind == Symlink:
		return "120000"
	case s.Mode&0o100 != 0:
		return "100755"
	}
	return "100644"
}

func orNone(flags string) string {
	if flags == "" {
		return "none"
	}
	return flags
}

// say adds a remark. Text from a tree may hold anything: after a line break a new remark begins, and what is
// not printable, such as a terminal's control sequence, is replaced.
func (p *patch) say(format string, args ...any) {
	for line := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		p.remarks = append(p.remarks, strings.Map(printable, line))
	}
}

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
