package jailconf

import (
	"fmt"
	"strings"

	"cfgd/config/conffile"
)

// position is a place in a file: line and column from 1, the column in bytes.
type position struct{ line, col int }

// tokenKind is the kind of a token.
type tokenKind byte

// The tokens of jail.conf. Punctuation stands for itself, += for addTo.
const (
	endOfFile tokenKind = 0
	word      tokenKind = 'w'
	addTo     tokenKind = '+'
)

// String returns the token as messages name it.
func (k tokenKind) String() string {
	switch k {
	case endOfFile:
		return "the end of the file"
	case word:
		return "a word"
	case addTo:
		return `"+="`
	}
	return fmt.Sprintf("%q", string(rune(k)))
}

// wordPart is literal text or a variable's name.
type wordPart struct {
	text     string
	variable bool
	pos      position
}

// token is a token. A word is everything written without a space: "/jail/"$name'/x' is one word.
type token struct {
	kind       tokenKind
	start, end position
	parts      []wordPart // of a word, without empty ones: none is ""
	pieces     int        // of which jail(8)'s own lexer would make the word; names must be of one
}

// literal returns a word's text, false if it has variables.
func (t token) literal() (string, bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && !t.parts[0].variable:
		return t.parts[0].text, true
	}
	return "", false
}

// name returns the name of a jail, parameter or variable, false if the word is none.
func (t token) name() (string, bool) {
	if len(t.parts) != 1 || t.pieces != 1 {
		return "", false
	}
	return t.parts[0].text, true
}

// lexer splits a file into tokens. Odd rules are those of jail(8)'s jaillex.l: a comment may begin
// directly after an unquoted word, backslashes are special in single quotes, and strings continue over
// the end of the line.
type lexer struct {
	file      string
	src       string
	off       int
	line      int
	lineStart int
	last      position // where the token before this one ends
}

func newLexer(file, src string) *lexer {
	return &lexer{file: file, src: src, line: 1, last: position{1, 1}}
}

func (lx *lexer) pos() position { return position{lx.line, lx.off - lx.lineStart + 1} }

// take moves over n bytes and returns them.
func (lx *lexer) take(n int) string {
	s := lx.src[lx.off : lx.off+n]
	lx.off += n
	if i := strings.LastIndexByte(s, '\n'); i >= 0 {
		lx.line += strings.Count(s, "\n")
		lx.lineStart = lx.off - len(s) + i + 1
	}
	return s
}

func (lx *lexer) has(prefix string) bool { return strings.HasPrefix(lx.src[lx.off:], prefix) }

// fail makes an error at a place in the file.
func (lx *lexer) fail(at position, fix, format string, args ...any) error {
	return &conffile.Error{
		File:    lx.file,
		Line:    at.line,
		Col:     at.col,
		Message: fmt.Sprintf(format, args...),
		Fix:     fix,
	}
}

// next returns the next token.
func (lx *lexer) next() (token, error) {
	if err := lx.blanks(); err != nil {
		return token{}, err
	}
	t := token{start: lx.pos()}
	var err error
	switch {
	case lx.off == len(lx.src):
	case lx.has("+="):
		t.kind = addTo
		lx.take(2)
	case strings.IndexByte(",;={}", lx.src[lx.off]) >= 0:
		t.kind = tokenKind(lx.take(1)[0])
	default:
		t.kind = word
		err = lx.word(&t)
	}
	t.end = lx.pos()
	return t, err
}

// blanks moves over white space and comments.
func (lx *lexer) blanks() error {
	for lx.off < len(lx.src) {
		switch {
		case strings.IndexByte(" \t\r\n", lx.src[lx.off]) >= 0:
			lx.take(1)
		case lx.has("#"), lx.has("//"):
			lx.restOfLine()
		case lx.has("/*"):
			end := strings.Index(lx.src[lx.off+2:], "*/")
			if end < 0 {
				return lx.fail(lx.pos(), "end it with */", "comment without an end")
			}
			lx.take(2 + end + 2)
		default:
			return nil
		}
	}
	return nil
}

func (lx *lexer) restOfLine() {
	n := strings.IndexByte(lx.src[lx.off:], '\n')
	if n < 0 {
		n = len(lx.src) - lx.off
	}
	lx.take(n)
}

// word collects the pieces of a word.
func (lx *lexer) word(t *token) error {
	w := &wordBuilder{t: t}
	for lx.off < len(lx.src) {
		more, err := lx.piece(w)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		t.pieces++
	}
	if t.pieces == 0 {
		return lx.fail(lx.pos(), "put it in quotes", "unexpected %q", lx.src[lx.off:lx.off+1])
	}
	w.flush()
	return nil
}

// plainBytes are the bytes that need no quotes. * + / and $ are separate words for jail(8).
const plainBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_!%&()-.:<>?@[]^`|~"

// piece adds one piece to a word; false is the word's end.
func (lx *lexer) piece(w *wordBuilder) (bool, error) {
	switch c := lx.src[lx.off]; {
	case strings.IndexByte(plainBytes, c) >= 0:
		rest := lx.src[lx.off:]
		w.add(lx.pos(), lx.take(len(rest)-len(strings.TrimLeft(rest, plainBytes))))
	case c == '\'':
		return true, lx.quoted(w, c)
	case c == '"':
		return true, lx.quoted(w, c)
	case c == '$':
		return true, lx.dollar(w, false)
	case c == '\\':
		return true, lx.escape(w)
	case c == '*', c == '+' && !lx.has("+="), c == '/' && !lx.has("//") && !lx.has("/*"):
		w.add(lx.pos(), lx.take(1))
	default:
		return false, nil
	}
	return true, nil
}

// quoted adds a string up to its closing quote. Variables are put into double quotes alone.
func (lx *lexer) quoted(w *wordBuilder, quote byte) error {
	start := lx.pos()
	lx.take(1)
	for lx.off < len(lx.src) {
		switch c := lx.src[lx.off]; {
		case c == quote:
			lx.take(1)
			return nil
		case c == '\\':
			if err := lx.escape(w); err != nil {
				return err
			}
		case c == '$' && quote == '"':
			w.t.pieces++
			if err := lx.dollar(w, true); err != nil {
				return err
			}
		default:
			w.add(lx.pos(), lx.run(quote))
		}
	}
	return lx.fail(start, "close it with "+string(rune(quote)), "string without an end")
}

// run moves over literal bytes in quotes.
func (lx *lexer) run(quote byte) string {
	stop := `\` + string(rune(quote))
	if quote == '"' {
		stop += "$"
	}
	n := strings.IndexAny(lx.src[lx.off:], stop)
	if n < 0 {
		n = len(lx.src) - lx.off
	}
	return lx.take(n)
}

// nameBytes are those of a variable without braces; a digit cannot be the first.
const nameBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789"

// dollar adds $name, ${name}, or a "$" that stands for itself.
func (lx *lexer) dollar(w *wordBuilder, quoted bool) error {
	start, rest := lx.pos(), lx.src[lx.off+1:]
	if strings.HasPrefix(rest, "{") {
		return lx.braces(w, quoted)
	}
	n := len(rest) - len(strings.TrimLeft(rest, nameBytes))
	if n == 0 || rest[0] >= '0' && rest[0] <= '9' {
		w.add(start, lx.take(1))
		return nil
	}
	return lx.variable(w, start, lx.take(1 + n)[1:])
}

// braces adds ${name}: on one line, and a quote ends it within quotes.
func (lx *lexer) braces(w *wordBuilder, quoted bool) error {
	start := lx.pos()
	lx.take(2)
	name := &wordBuilder{t: &token{}}
	for lx.off < len(lx.src) {
		c := lx.src[lx.off]
		switch {
		case c == '}':
			lx.take(1)
			return lx.variable(w, start, string(name.lit))
		case c == '\\':
			if err := lx.escape(name); err != nil {
				return err
			}
			continue
		case c == '\n', c == '{', c == '"' && quoted:
			return lx.fail(start, "close it with }", "variable without an end")
		}
		name.add(start, lx.take(1))
	}
	return lx.fail(start, "close it with }", "variable without an end")
}

func (lx *lexer) variable(w *wordBuilder, at position, name string) error {
	if name == "" || len(name) > maxName {
		return lx.fail(at, "name a variable", "variable with a name of %d bytes", len(name))
	}
	w.variable(at, name)
	return nil
}

// escape adds the meaning of a backslash and the bytes after it: C's escapes, and nothing for the end of
// a line.
func (lx *lexer) escape(w *wordBuilder) error {
	at := lx.pos()
	lx.take(1)
	if lx.off == len(lx.src) {
		return lx.fail(at, "remove it", "backslash at the end of the file")
	}
	c := lx.src[lx.off]
	var b byte
	switch {
	case c >= '0' && c <= '7':
		b = lx.number("01234567", 8, 3)
	case c == 'x':
		lx.take(1)
		b = lx.number("0123456789abcdefABCDEF", 16, 2)
	case c == '\n':
		lx.take(1)
		return nil
	default:
		b = escapedByte(lx.take(1)[0])
	}
	if b == 0 {
		return lx.fail(at, "remove it", "NUL, where jail(8) would cut the string short")
	}
	w.add(at, string([]byte{b}))
	return nil
}

// number reads an octal or hexadecimal byte; what is over a byte is cut off, as in C.
func (lx *lexer) number(digits string, base, most int) byte {
	v := 0
	for i := 0; i < most && lx.off < len(lx.src); i++ {
		d := strings.IndexByte(digits, lx.src[lx.off])
		if d < 0 {
			break
		}
		if d >= 16 { // A to F
			d -= 6
		}
		v = v*base + d
		lx.take(1)
	}
	return byte(v)
}

// escapedByte returns the byte for a letter after a backslash. Any other byte stands for itself.
func escapedByte(c byte) byte {
	if i := strings.IndexByte("abfnrtv", c); i >= 0 {
		return "\a\b\f\n\r\t\v"[i]
	}
	return c
}

// wordBuilder joins the literal pieces of a word between its variables.
type wordBuilder struct {
	t   *token
	lit []byte
	at  position
}

func (w *wordBuilder) add(at position, s string) {
	if len(w.lit) == 0 {
		w.at = at
	}
	w.lit = append(w.lit, s...)
}

func (w *wordBuilder) variable(at position, name string) {
	w.flush()
	w.t.parts = append(w.t.parts, wordPart{text: name, variable: true, pos: at})
}

func (w *wordBuilder) flush() {
	if len(w.lit) > 0 {
		w.t.parts = append(w.t.parts, wordPart{text: string(w.lit), pos: w.at})
		w.lit = w.lit[:0]
	}
}
