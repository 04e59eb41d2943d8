// Package fstab parses fstab(5): the host's, which mount(8) reads, and those of jails, which jail(8) reads.
//
// It turns bytes into entries that know where in the file they stand. What always holds: an edit changes the
// part of a line that it names, and keeps every other byte, comments and blanks too.
package fstab

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"cfgd/config/conffile"
)

// Entry is one line of fstab(5). It records the position of its source, so that the source can be
// replaced and nothing else is changed.
type Entry struct {
	Line    int    // from 1
	Source  string // decoded
	Dir     string // decoded, as written: not cleaned
	Type    string
	Options []string
	Freq    string // as written, "" where left out; mount(8) does not look at it
	Pass    string

	// SourceStart and SourceEnd are the bytes of the file that hold the source, as written.
	SourceStart, SourceEnd int
}

// Has reports whether the mount has an option.
func (e Entry) Has(option string) bool { return slices.Contains(e.Options, option) }

// Key identifies doubled lines: the same source on the same directory.
func (e Entry) Key() string { return e.Source + "\x00" + path.Clean(e.Dir) }

// blanks separates fields, as in getfsent(3).
const blanks = " \t"

// Parse parses an fstab. Blank lines and lines that begin with # are skipped, octal escapes such as
// \040 are decoded, and fields after the sixth are ignored. A line with fewer than four fields is a
// *conffile.Error with file and line.
func Parse(file string, data []byte) ([]Entry, error) {
	return parseAll(file, data, parseLine)
}

// ParseJail is Parse for an fstab that jail(8) reads itself.
func ParseJail(file string, data []byte) ([]Entry, error) {
	return parseAll(file, data, ParseJailLine)
}

func parseAll(file string, data []byte,
	parse func(conffile.Origin, string) (Entry, bool, error)) ([]Entry, error) {
	var entries []Entry
	offset := 0
	for i, line := range strings.SplitAfter(string(data), "\n") {
		e, ok, err := parse(conffile.At(file, i+1), line)
		if err != nil {
			return nil, err
		}
		if ok {
			e.SourceStart += offset
			e.SourceEnd += offset
			entries = append(entries, e)
		}
		offset += len(line)
	}
	return entries, nil
}

// parseLine parses one line, and returns false for a line without an entry.
func parseLine(at conffile.Origin, line string) (Entry, bool, error) {
	return parseFields(at, line, 4, "write: source mountpoint type options [freq [pass]]")
}

// ParseJailLine parses a line of a jail's fstab, or the mount parameter of jail.conf: jail(8) needs no
// options.
func ParseJailLine(at conffile.Origin, line string) (Entry, bool, error) {
	return parseFields(at, line, 3, "write: source mountpoint type [options [freq [pass]]]")
}

// parseFields parses a line with at least so many fields.
func parseFields(at conffile.Origin, line string, least int, form string) (Entry, bool, error) {
	text := strings.TrimRight(line, " \t\r\n")
	start := len(text) - len(strings.TrimLeft(text, blanks))
	fields := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(blanks, r) })
	if len(fields) == 0 || fields[0][0] == '#' {
		return Entry{}, false, nil
	}
	if len(fields) < least {
		return Entry{}, false, conffile.Errorf(at, form, "%d of the %d fields that a mount needs",
			len(fields),
			least)
	}
	e := Entry{
		Line:   at.Line,
		Source: decode(fields[0]), Dir: decode(fields[1]), Type: fields[2],
		SourceStart: start, SourceEnd: start + len(fields[0]),
	}
	fields = append(fields, "", "", "")
	if fields[3] != "" {
		e.Options = strings.Split(fields[3], ",")
	}
	e.Freq, e.Pass = fields[4], fields[5]
	return e, true, nil
}

// SetSources returns an fstab with other sources, and the lines that changed, counted from 1. entries are
// those of data. change gets each entry with its source as written, and returns the text to write in its
// place, encoded. Every other byte stays.
func SetSources(data []byte, entries []Entry, change func(e Entry, written string) string) ([]byte, []int) {
	var out []byte
	var lines []int
	at := 0
	for _, e := range entries {
		written := string(data[e.SourceStart:e.SourceEnd])
		source := change(e, written)
		if source == written {
			continue
		}
		out = append(append(out, data[at:e.SourceStart]...), source...)
		at = e.SourceEnd
		lines = append(lines, e.Line)
	}
	return append(out, data[at:]...), lines
}

// decode decodes \ooo and \\ as strunvis(3) does for fstab. Any other backslash is literal.
func decode(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if s[i+1] == '\\' {
			b.WriteByte('\\')
			i++
			continue
		}
		if c, err := strconv.ParseUint(s[i+1:min(i+4, len(s))], 8, 8); err == nil && i+4 <= len(s) {
			b.WriteByte(byte(c))
			i += 3
			continue
		}
		b.WriteByte('\\')
	}
	return b.String()
}

// Encode encodes a source or directory for fstab(5): blanks, tabs, newlines, backslashes and a leading #
// as octal escapes, which getfsent(3) decodes.
func Encode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\\':
			b.WriteString(`\134`)
		case c == ' ', c == '\t', c == '\n', c == '\r', c == '#' && i == 0:
			b.WriteString(`\` + strconv.FormatUint(uint64(c)+01000, 8)[1:])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
