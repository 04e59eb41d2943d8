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

	// Unused says why mount(8) does not find the line in /etc/fstab; "" if it does, and in jails' fstabs.
	Unused string

	// SourceStart and SourceEnd are the bytes of the file that hold the source, as written.
	SourceStart, SourceEnd int
}

// Has reports whether the mount has an option.
func (e Entry) Has(option string) bool { return slices.Contains(e.Options, option) }

// Key identifies doubled lines: the same source on the same directory.
func (e Entry) Key() string { return e.Source + "\x00" + path.Clean(e.Dir) }

// Parse parses an fstab as getfsent(3) does, which serves mount(8): lines that begin with # are skipped,
// escapes such as \040 are decoded as by strunvis(3), and fields after the sixth are ignored. A line that
// getfsent(3) passes over is among the entries if its directory is known, with the reason in Unused. The
// errors are those of lines that are malformed.
func Parse(file string, data []byte) ([]Entry, []*conffile.Error) {
	return parseAll(file, data, parseLine)
}

// ParseJail parses an fstab as jail(8) does: it cuts each line at its first #, and needs no options. It
// starts no jail with a line that it cannot read: those are the errors.
func ParseJail(file string, data []byte) ([]Entry, []*conffile.Error) {
	return parseAll(file, data, func(at conffile.Origin, line string) (Entry, bool, *conffile.Error) {
		text, comment, cut := strings.Cut(strings.TrimRight(line, "\n"), "#")
		e, ok, err := ParseMount(at, text)
		if err != nil && cut && strings.Trim(text, jailBlanks) != "" {
			err.Fix = `write \043 for #, at which jail(8) cuts the line before ` + strconv.Quote("#"+comment)
		}
		return e, ok && err == nil, err
	})
}

// lineParser parses one line, and returns false for one without an entry.
type lineParser func(at conffile.Origin, line string) (Entry, bool, *conffile.Error)

func parseAll(file string, data []byte, parse lineParser) (entries []Entry, bad []*conffile.Error) {
	offset := 0
	for i, line := range strings.SplitAfter(string(data), "\n") {
		e, ok, err := parse(conffile.At(file, i+1), line)
		if err != nil {
			bad = append(bad, err)
		}
		if ok {
			e.SourceStart += offset
			e.SourceEnd += offset
			entries = append(entries, e)
		}
		offset += len(line)
	}
	return entries, bad
}

const (
	hostBlanks = " \t"         // between the fields of getfsent(3)
	jailBlanks = " \t\f\v\r\n" // and of jail(8)
)

// parseLine parses one line of /etc/fstab.
func parseLine(at conffile.Origin, line string) (Entry, bool, *conffile.Error) {
	text, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\x00") // a string of C ends there
	if plain := strings.Trim(text, hostBlanks+"\r"); plain == "" || plain[0] == '#' {
		return Entry{}, false, nil
	}
	e, ok, err := parseFields(at, text, hostBlanks, 4, "write: source mountpoint type options [freq [pass]]")
	e.Freq, e.Pass = strings.TrimSuffix(e.Freq, "\r"), strings.TrimSuffix(e.Pass, "\r")
	if err != nil {
		e.Unused = err.Message
	} else {
		e.Unused = unused(e.Options)
	}
	return e, ok, err
}

// unused says why mount(8) does not find a line with these options: getfsent(3) takes the first that is one
// of five words of two letters.
func unused(options []string) string {
	for _, o := range options {
		switch o {
		case "rw", "rq", "ro", "sw":
			return ""
		case "xx":
			return "xx among its options turns it off"
		}
	}
	return "neither rw nor ro is among its options"
}

// ParseMount parses a mount parameter of jail.conf, or a line of a jail's fstab without its comment. It
// returns false for one without an entry.
func ParseMount(at conffile.Origin, text string) (Entry, bool, *conffile.Error) {
	text, _, _ = strings.Cut(text, "\x00")
	e, ok, err := parseFields(at, text, jailBlanks, 3, "write: source mountpoint type [options [freq "+
		"[pass]]]")
	return e, ok && err == nil, err
}

// parseFields parses a line with at least so many fields. One that has fewer, or whose escapes are not
// known, is an error, and still an entry if its directory is known.
func parseFields(
	at conffile.Origin, text, blanks string, least int, form string,
) (Entry, bool, *conffile.Error) {
	start := len(text) - len(strings.TrimLeft(text, blanks))
	fields := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(blanks, r) })
	if len(fields) == 0 {
		return Entry{}, false, nil
	}
	var err *conffile.Error
	if len(fields) < least {
		err = conffile.Errorf(at, form, "%d of the %d fields that a mount needs", len(fields), least)
	}
	e := Entry{Line: at.Line, SourceStart: start, SourceEnd: start + len(fields[0])}
	fields = append(fields, "", "", "", "", "")
	var known, also bool
	e.Source, known = Decode(fields[0])
	e.Dir, also = Decode(fields[1])
	if !known || !also {
		err = conffile.Errorf(at, `write a backslash as \134`,
			"a backslash begins nothing that strunvis(3) knows")
	}
	if err == nil && (e.Source == "" || e.Dir == "") {
		err = conffile.Errorf(at, form, "the source or the mountpoint is empty")
	}
	e.Type = fields[2]
	if fields[3] != "" {
		e.Options = strings.Split(fields[3], ",")
	}
	e.Freq, e.Pass = fields[4], fields[5]
	return e, e.Dir != "", err
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

// Decode decodes what vis(3) encodes, as strunvis(3) does. It returns false for an escape that strunvis(3)
// refuses. A NUL ends the string, because both readers pass strings of C on.
func Decode(s string) (string, bool) {
	if !strings.Contains(s, `\`) {
		return s, true
	}
	var b strings.Builder
	for s != "" {
		c, rest := s[0], s[1:]
		none := false
		if c == '\\' {
			var ok bool
			if c, none, rest, ok = decodeEscape(rest); !ok {
				return "", false
			}
		}
		if !none && c == 0 {
			break
		}
		if !none {
			b.WriteByte(c)
		}
		s = rest
	}
	return b.String(), true
}

// escapes are those of one letter.
var escapes = map[byte]byte{'n': '\n', 'r': '\r', 'b': '\b', 'a': '\a', 'v': '\v', 't': '\t', 'f': '\f',
	's': ' ', 'E': 033}

// decodeEscape decodes what follows a backslash: one byte, or none. strunvis(3) drops an escape that the
// end of the text leaves open.
func decodeEscape(s string) (c byte, none bool, rest string, ok bool) {
	if s == "" {
		return 0, true, "", true
	}
	c, rest = s[0], s[1:]
	letter, isLetter := escapes[c]
	switch {
	case '0' <= c && c <= '7':
		return decodeNumber(s, 3, 8)
	case c == 'x' && rest == "":
		return 0, true, "", true
	case c == 'x':
		return decodeNumber(rest, 2, 16)
	case c == 'M' || c == '^':
		return decodeMeta(s)
	case isLetter:
		return letter, false, rest, true
	case c == '$': // a mark that stands for nothing
		return 0, true, rest, true
	case '!' <= c && c <= '~':
		return c, false, rest, true
	}
	return 0, false, "", false
}

// decodeNumber decodes at most so many digits; what does not fit into a byte is cut off.
func decodeNumber(s string, most, base int) (c byte, none bool, rest string, ok bool) {
	n := 0
	for n < len(s) && n < most {
		d, err := strconv.ParseUint(s[n:n+1], base, 8)
		if err != nil {
			break
		}
		c = c*byte(base) + byte(d)
		n++
	}
	return c, false, s[n:], n > 0
}

// decodeMeta decodes ^C, M^C and M-C.
func decodeMeta(s string) (c byte, none bool, rest string, ok bool) {
	meta := byte(0)
	if s[0] == 'M' {
		meta, s = 0200, s[1:]
	}
	switch {
	case s == "" || len(s) == 1 && (s[0] == '^' || s[0] == '-'):
		return 0, true, "", true
	case s[0] == '-' && meta != 0:
		return meta | s[1], false, s[2:], true
	case s[0] == '^' && s[1] == '?':
		return meta | 0177, false, s[2:], true
	case s[0] == '^':
		return meta | s[1]&037, false, s[2:], true
	}
	return 0, false, "", false
}

// Encode encodes a source or directory for fstab(5), so that getfsent(3) and jail(8) decode the same: blanks,
// backslashes and # as octal escapes.
func Encode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c == '\\' || c == '#' || strings.IndexByte(jailBlanks, c) >= 0 {
			b.WriteString(`\` + strconv.FormatUint(uint64(c)+01000, 8)[1:])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
