package config

import (
	"cfgd/config/conffile"
	"path"
	"slices"
	"strconv"
	"strings"
)

// FstabEntry is one line of fstab(5). It records the position of its source, so that the source can be
// replaced and nothing else is changed.
type FstabEntry struct {
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
func (e FstabEntry) Has(option string) bool { return slices.Contains(e.Options, option) }

// key identifies doubled lines: the same source on the same directory.
func (e FstabEntry) key() string { return e.Source + "\x00" + path.Clean(e.Dir) }

// fstabBlanks separates fields, as in getfsent(3).
const fstabBlanks = " \t"

// ParseFstab parses an fstab. Blank lines and lines that begin with # are skipped, octal escapes such as
// \040 are decoded, and fields after the sixth are ignored. A line with fewer than four fields is a
// *conffile.Error with file and line.
func ParseFstab(file string, data []byte) ([]FstabEntry, error) {
	return parseFstab(file, data, parseFstabLine)
}

// ParseJailFstab is ParseFstab for an fstab that jail(8) reads itself.
func ParseJailFstab(file string, data []byte) ([]FstabEntry, error) {
	return parseFstab(file, data, parseJailMount)
}

func parseFstab(file string, data []byte,
	parse func(conffile.Origin, string) (FstabEntry, bool, error)) ([]FstabEntry, error) {
	var entries []FstabEntry
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

// parseFstabLine parses one line, and returns false for a line without an entry.
func parseFstabLine(at conffile.Origin, line string) (FstabEntry, bool, error) {
	return fstabLine(at, line, 4, "write: source mountpoint type options [freq [pass]]")
}

// parseJailMount reads a line of a jail's fstab, or the mount parameter of jail.conf: jail(8) needs no
// options.
func parseJailMount(at conffile.Origin, line string) (FstabEntry, bool, error) {
	return fstabLine(at, line, 3, "write: source mountpoint type [options [freq [pass]]]")
}

// fstabLine parses a line with at least so many fields.
func fstabLine(at conffile.Origin, line string, least int, form string) (FstabEntry, bool, error) {
	text := strings.TrimRight(line, " \t\r\n")
	start := len(text) - len(strings.TrimLeft(text, fstabBlanks))
	fields := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(fstabBlanks, r) })
	if len(fields) == 0 || fields[0][0] == '#' {
		return FstabEntry{}, false, nil
	}
	if len(fields) < least {
		return FstabEntry{}, false, conffile.Errorf(at, form, "%d of the %d fields that a mount needs",
			len(fields),
			least)
	}
	e := FstabEntry{
		Line:   at.Line,
		Source: unvis(fields[0]), Dir: unvis(fields[1]), Type: fields[2],
		SourceStart: start, SourceEnd: start + len(fields[0]),
	}
	fields = append(fields, "", "", "")
	if fields[3] != "" {
		e.Options = strings.Split(fields[3], ",")
	}
	e.Freq, e.Pass = fields[4], fields[5]
	return e, true, nil
}

// unvis decodes \ooo and \\ as strunvis(3) does for fstab. Any other backslash is literal.
func unvis(s string) string {
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

// VisFstab encodes a source or directory for fstab: blanks, tabs, newlines, backslashes and a leading #
// as octal escapes.
func VisFstab(s string) string {
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
