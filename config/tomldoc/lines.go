package tomldoc

import (
	"strconv"
	"strings"
)

// lineIndex finds the line of a key of a TOML document. The toml library does not report it, and for an
// array of tables it keeps only the last one. The key of an array's entry is its number.
type lineIndex map[string]int

const separator = "\x00"

// line returns the line of a key, or of the nearest table around it; 0 for neither.
func (l lineIndex) line(key []string) int {
	for n := len(key); n > 0; n-- {
		if line, ok := l[strings.Join(key[:n], separator)]; ok {
			return line
		}
	}
	return 0
}

// scanner scans a document that the library found to be well-formed. So it only has to find keys, not
// errors.
type scanner struct {
	text  string
	pos   int
	lines lineIndex
	nth   map[string]int // entries of each array of tables so far
	// newlines counts the lines before counted.
	newlines, counted int
}

// index finds the lines of all keys.
func index(text string) lineIndex {
	s := &scanner{text: text, lines: lineIndex{}, nth: map[string]int{}}
	var table []string
	for s.skip(" \t\r\n"); s.pos < len(s.text); s.skip(" \t\r\n") {
		if s.peek() == '[' {
			table = s.header()
		} else {
			s.keyValue(table)
		}
		s.endOfLine()
	}
	return s.lines
}

func (s *scanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

// skip skips blanks and comments.
func (s *scanner) skip(blanks string) {
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case strings.IndexByte(blanks, c) >= 0:
			s.pos++
		case c == '#':
			s.endOfLine()
		default:
			return
		}
	}
}

// endOfLine goes to the newline.
func (s *scanner) endOfLine() {
	if i := strings.IndexByte(s.text[s.pos:], '\n'); i >= 0 {
		s.pos += i
		return
	}
	s.pos = len(s.text)
}

// here returns the current line, from 1.
func (s *scanner) here() int {
	s.newlines += strings.Count(s.text[s.counted:s.pos], "\n")
	s.counted = s.pos
	return s.newlines + 1
}

// note records where a key, and the tables that it implies, first occur.
func (s *scanner) note(key []string, line int) {
	for n := len(key); n > 0; n-- {
		k := strings.Join(key[:n], separator)
		if _, known := s.lines[k]; known && n < len(key) {
			return
		}
		s.lines[k] = line
	}
}

// header reads [table] or [[table]] and returns its key with the numbers of the entries of arrays.
func (s *scanner) header() []string {
	line := s.here()
	s.pos++
	array := s.peek() == '['
	if array {
		s.pos++
	}
	var key []string
	parts := s.key()
	for i, part := range parts {
		key = append(key, part)
		joined := strings.Join(key, separator)
		if array && i == len(parts)-1 {
			s.nth[joined]++
		}
		if n := s.nth[joined]; n > 0 {
			key = append(key, strconv.Itoa(n-1))
		}
	}
	s.note(key, line)
	return key
}

// key reads a dotted key.
func (s *scanner) key() []string {
	var parts []string
	for {
		s.skip(" \t")
		parts = append(parts, s.keyPart())
		s.skip(" \t")
		if s.peek() != '.' {
			return parts
		}
		s.pos++
	}
}

// keyPart reads a bare or quoted part of a key.
func (s *scanner) keyPart() string {
	if q := s.peek(); q == '"' || q == '\'' {
		start := s.pos
		s.quoted()
		text := s.text[start:s.pos]
		if q == '"' {
			if t, err := strconv.Unquote(text); err == nil {
				return t
			}
		}
		return strings.Trim(text, string(q))
	}
	start := s.pos
	for s.pos < len(s.text) && strings.IndexByte(" \t\r\n.=]#", s.text[s.pos]) < 0 {
		s.pos++
	}
	return s.text[start:s.pos]
}

// keyValue reads key = value.
func (s *scanner) keyValue(table []string) {
	line := s.here()
	key := append(table[:len(table):len(table)], s.key()...)
	s.note(key, line)
	if s.peek() == '=' {
		s.pos++
	}
	s.value(key)
}

// value skips a value and records the keys of inline tables and arrays in it.
func (s *scanner) value(key []string) {
	s.skip(" \t")
	switch s.peek() {
	case '"', '\'':
		s.quoted()
	case '[':
		s.list(']', func(i int) {
			full := append(key[:len(key):len(key)], strconv.Itoa(i))
			s.note(full, s.here())
			s.value(full)
		})
	case '{':
		s.list('}', func(int) { s.keyValue(key) })
	default:
		for s.pos < len(s.text) && strings.IndexByte(",]}#\r\n", s.text[s.pos]) < 0 {
			s.pos++
		}
	}
}

// list reads the entries between brackets.
func (s *scanner) list(end byte, entry func(i int)) {
	s.pos++
	for i := 0; ; i++ {
		s.skip(" \t\r\n,")
		if s.pos >= len(s.text) || s.peek() == end {
			s.pos = min(s.pos+1, len(s.text))
			return
		}
		before := s.pos
		entry(i)
		if s.pos == before {
			s.pos++ // never for a well-formed document; without it another would hold us here
		}
	}
}

// quoted skips a string of any of the four kinds.
func (s *scanner) quoted() {
	q := s.text[s.pos : s.pos+1]
	if strings.HasPrefix(s.text[s.pos:], q+q+q) {
		s.pos += 3
		s.until(q + q + q)
		for s.peek() == q[0] { // up to two quotes may belong to the string
			s.pos++
		}
		return
	}
	s.pos++
	s.until(q)
}

// until skips to after the next end of a string. In a double-quoted string a backslash hides the byte
// after it.
func (s *scanner) until(end string) {
	for s.pos < len(s.text) && !strings.HasPrefix(s.text[s.pos:], end) {
		if s.text[s.pos] == '\\' && end[0] == '"' {
			s.pos++
		}
		s.pos++
	}
	s.pos = min(s.pos+len(end), len(s.text))
}
