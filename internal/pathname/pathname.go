// Package pathname handles names of files as they are stored, shown and read: any bytes but NUL and
// slash.
//
// It owns the order of paths, their quoting in text, their form in JSON, and the checks of a path that
// came from outside. It never touches a file system.
package pathname

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Compare orders paths by components, as if the slash were the lowest byte. So a directory's subtree is
// contiguous and follows the directory.
func Compare(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		case a[i] < b[i]:
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

var escapes = map[byte]byte{
	'\a': 'a',
	'\b': 'b',
	'\t': 't',
	'\n': 'n',
	'\v': 'v',
	'\f': 'f',
	'\r': 'r',
	'"':  '"',
	'\\': '\\',
}

// Quote returns a path unchanged if it is printable UTF-8 without double quotes and backslashes.
// Otherwise it quotes the path as in C, with octal escapes for unprintable bytes: "gr\374n". git and GNU
// patch read this form in the headers of a diff; git writes it with core.quotePath=false.
func Quote(p string) string {
	if plain(p) {
		return p
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(p); {
		r, n := utf8.DecodeRuneInString(p[i:])
		c := p[i]
		switch esc, ok := escapes[c]; {
		case ok:
			b.WriteByte('\\')
			b.WriteByte(esc)
			n = 1
		case r == utf8.RuneError && n <= 1 || !unicode.IsPrint(r):
			for _, c := range []byte(p[i : i+n]) {
				fmt.Fprintf(&b, "\\%03o", c)
			}
		default:
			b.WriteString(p[i : i+n])
		}
		i += n
	}
	b.WriteByte('"')
	return b.String()
}

// Few returns the first words of a list, and how many more there are: "a, b, and 3 more".
func Few(words []string, most int) string {
	if len(words) <= most {
		return strings.Join(words, ", ")
	}
	return fmt.Sprintf("%s, and %d more", strings.Join(words[:most], ", "), len(words)-most)
}

// QuoteFew is Few of paths, each as Quote writes it.
func QuoteFew(paths []string, most int) string {
	var words []string
	for _, p := range paths {
		words = append(words, Quote(p))
	}
	return Few(words, most)
}

// Plain returns a text for people in one line. Unprintable characters, such as those that control a
// terminal or break the line, are written as in a C string.
func Plain(text string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsPrint(r)
	}) {
		return text
	}
	q := Quote(text)
	return strings.ReplaceAll(strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`), `\\`, `\`)
}

func plain(p string) bool {
	if !utf8.ValidString(p) {
		return false
	}
	for _, r := range p {
		if !unicode.IsPrint(r) || r == '"' || r == '\\' {
			return false
		}
	}
	return true
}

// Unquote parses Quote's form, and any other text with C's escapes \a \b \t \n \v \f \r \" \\ and three
// octal digits. A text that does not begin with a double quote is returned unchanged. An unfinished or
// unknown escape is an error.
func Unquote(s string) (string, error) {
	if !strings.HasPrefix(s, `"`) {
		return s, nil
	}
	if len(s) < 2 || !strings.HasSuffix(s, `"`) {
		return "", fmt.Errorf("%s: the closing quote is missing", s)
	}
	in := s[1 : len(s)-1]
	var b strings.Builder
	for i := 0; i < len(in); i++ {
		switch {
		case in[i] == '"':
			return "", fmt.Errorf("%s: a quote inside the quotes", s)
		case in[i] != '\\':
			b.WriteByte(in[i])
			continue
		}
		c, n, err := unescape(in[i+1:])
		if err != nil {
			return "", fmt.Errorf("%s: %w", s, err)
		}
		b.WriteByte(c)
		i += n
	}
	return b.String(), nil
}

// unescape parses an escape after its backslash, and returns its length.
func unescape(s string) (byte, int, error) {
	if s == "" {
		return 0, 0, errors.New("a backslash at the end")
	}
	for c, esc := range escapes {
		if s[0] == esc {
			return c, 1, nil
		}
	}
	if len(s) < 3 {
		return 0, 0, fmt.Errorf(`\%s: not an escape`, s)
	}
	v := 0
	for _, c := range []byte(s[:3]) {
		if c < '0' || c > '7' {
			return 0, 0, fmt.Errorf(`\%s: not an escape`, s[:3])
		}
		v = v*8 + int(c-'0')
	}
	if v > 255 {
		return 0, 0, fmt.Errorf(`\%s: more than a byte`, s[:3])
	}
	return byte(v), 3, nil
}

// JSON is a path in JSON. If the path is not UTF-8, Path has each run of invalid bytes replaced by
// U+FFFD, for people, and PathBytes (base64 in the JSON) has the exact path.
type JSON struct {
	Path      string `json:"path"`
	PathBytes []byte `json:"pathBytes,omitempty"`
}

// FromPath returns the JSON form of a path.
func FromPath(p string) JSON {
	if utf8.ValidString(p) {
		return JSON{Path: p}
	}
	return JSON{Path: strings.ToValidUTF8(p, "\uFFFD"), PathBytes: []byte(p)}
}

// Name returns the path of a JSON form. If Path does not match PathBytes it is refused: people would read
// another name than the program.
func (j JSON) Name() (string, error) {
	if j.PathBytes == nil {
		return j.Path, nil
	}
	p := string(j.PathBytes)
	if strings.ToValidUTF8(p, "\uFFFD") != j.Path {
		return "", fmt.Errorf("path %q and its bytes disagree", j.Path)
	}
	return p, nil
}

// Valid checks a stored path: relative, of components that are neither empty nor "." nor ".." nor longer
// than 255 bytes, no longer than 4096 bytes in all (NAME_MAX and PATH_MAX less one), and not the store's
// own (".cfgd").
func Valid(p string) error {
	if why := invalid(p); why != "" {
		return fmt.Errorf("path %s: %s", Quote(p), why)
	}
	return nil
}

// invalid returns what is wrong with a stored path, or "".
func invalid(p string) string {
	switch {
	case p == "":
		return "empty"
	case p[0] == '/':
		return "absolute, where it must be relative"
	case len(p) > 4096:
		return "longer than 4096 bytes"
	case strings.IndexByte(p, 0) >= 0:
		return "a NUL byte"
	case p == ".cfgd" || strings.HasPrefix(p, ".cfgd/"):
		return "the store's own"
	}
	for c := range strings.SplitSeq(p, "/") {
		switch {
		case c == "" || c == "." || c == "..":
			return "a component that is empty, . or .."
		case len(c) > 255:
			return "a component of more than 255 bytes"
		}
	}
	return ""
}

// Clean parses a PATH argument of the command line: relative to the target's etc, with or without a
// leading /etc/, quoted as Quote does or not; doubled and trailing slashes are dropped. The whole tree
// ("", ".", "/etc") is "". Other absolute paths, "..", NUL and what Valid refuses are errors that name
// the argument.
func Clean(arg string) (string, error) {
	p, err := Unquote(arg)
	if err != nil {
		return "", fmt.Errorf("path %w", err)
	}
	if p, err = belowEtc(p); err != nil {
		return "", err
	}
	for c := range strings.SplitSeq(p, "/") {
		if c == ".." {
			return "", fmt.Errorf("path %s: .. is not followed", Quote(p))
		}
	}
	if p = path.Clean(p); p == "." {
		return "", nil
	}
	if err := Valid(p); err != nil {
		return "", err
	}
	return p, nil
}

// belowEtc removes the leading /etc/ from a path.
func belowEtc(p string) (string, error) {
	if !strings.HasPrefix(p, "/") {
		return p, nil
	}
	rest, ok := strings.CutPrefix(strings.TrimLeft(p, "/"), "etc")
	if !ok || rest != "" && rest[0] != '/' {
		return "", fmt.Errorf("path %s: not below /etc; paths are relative to the target's etc", Quote(p))
	}
	return strings.TrimLeft(rest, "/"), nil
}

// Within reports whether path is dir or is below it. Everything is below "".
func Within(path, dir string) bool {
	return dir == "" || path == dir || len(path) > len(dir) && path[len(dir)] == '/' && path[:len(dir)] == dir
}

// Parent returns the path of the directory that holds path, "" for the root.
func Parent(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return ""
}
