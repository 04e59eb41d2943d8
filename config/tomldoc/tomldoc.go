// Package tomldoc reads a TOML document for a configuration that is checked key by key: values of the kinds
// that are expected, the line of every key, and all errors of the document together.
//
// What always holds: an error names the file, the line, and what to do. A key that is not known is an error
// that names the most similar one.
package tomldoc

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"cfgd/config/conffile"
)

// maxFile is the size in bytes above which a document is refused: parsing a key takes time that grows
// with the square of its parts.
const maxFile = 256 << 10

// Doc is a document. Its methods check values, and record what is wrong. A key is given by its parts; the
// entries of an array are parts too, by their numbers from 0.
type Doc struct {
	File string
	Top  map[string]any
	// Arrays are the arrays of tables at the top, whose entries are named without their numbers.
	Arrays []string

	lines lineIndex
	errs  []*conffile.Error
}

// Parse parses a document. An error is a *conffile.Error with the line and column.
func Parse(file string, data []byte) (*Doc, error) {
	if len(data) > maxFile {
		return nil, &conffile.Error{
			File:    file,
			Message: fmt.Sprintf("larger than %d KiB, which no cfgd.toml is", maxFile>>10),
		}
	}
	d := &Doc{File: file}
	if _, err := toml.Decode(string(data), &d.Top); err != nil {
		return nil, syntaxError(file, string(data), err)
	}
	d.lines = index(string(data))
	return d, nil
}

// syntaxError returns a syntax error with its line and column. They are counted from the offset, because
// the library's line is the next one if the error is at an end of line.
func syntaxError(name, text string, err error) *conffile.Error {
	e := &conffile.Error{
		File:    name,
		Message: err.Error(),
		Fix:     "mend it: cfgd.toml(5) has an example",
		Err:     err,
	}
	pe, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return e
	}
	// -1 for a byte that opens the file and is refused
	before := text[:max(0, min(pe.Position.Start, len(text)))]
	e.Line, e.Message = 1+strings.Count(before, "\n"), strings.TrimSuffix(pe.Message, ".")
	e.Col = len(before) - strings.LastIndexByte(before, '\n')
	if strings.Contains(e.Message, "already been defined") {
		e.Fix = "write each table and key once"
	}
	return e
}

// Err returns nil if nothing was recorded, and otherwise a *conffile.Error or conffile.Errors.
func (d *Doc) Err() error { return conffile.Join(d.errs) }

// Errors returns how many errors were recorded.
func (d *Doc) Errors() int { return len(d.errs) }

// Add records an error.
func (d *Doc) Add(err *conffile.Error) { d.errs = append(d.errs, err) }

// Fail records an error at a key.
func (d *Doc) Fail(key []string, fix, format string, args ...any) {
	d.errs = append(d.errs, conffile.Errorf(d.At(key), fix, format, args...))
}

// At returns the place of a key, or of the nearest table around it.
func (d *Doc) At(key []string) conffile.Origin {
	return conffile.At(d.File, d.lines.line(key))
}

// Text accepts a string that is not empty.
func (d *Doc) Text(full []string, v any) conffile.Located {
	s, ok := v.(string)
	switch {
	case !ok:
		d.Fail(full, `write it in quotes, as key = "value"`, "%s is %s, not a string", d.Dotted(full),
			Kind(v))
	case s == "":
		d.Fail(full, "give it a value or leave it out", "%s is empty", d.Dotted(full))
	}
	return conffile.Located{Value: s, At: d.At(full)}
}

// Table checks for a table.
func (d *Doc) Table(at []string, v any) (map[string]any, bool) {
	t, ok := v.(map[string]any)
	if !ok {
		d.Fail(at, "write ["+d.Dotted(at)+"] and its keys below", "%s is %s, not a table", d.Dotted(at),
			Kind(v))
	}
	return t, ok
}

// Words checks for an array of strings.
func (d *Doc) Words(full []string, v any) []string {
	list, ok := v.([]any)
	var out []string
	for _, w := range list {
		s, isText := w.(string)
		ok = ok && isText && s != ""
		out = append(out, s)
	}
	if !ok {
		d.Fail(full, `write it as ["program", "argument"]`, "%s is no array of words", d.Dotted(full))
		return nil
	}
	return out
}

// Unknown reports an unknown key, with the most similar known one.
func (d *Doc) Unknown(full, known []string) {
	key := full[len(full)-1]
	fix := "known are " + strings.Join(known, ", ")
	if near := nearest(key, known); near != "" {
		fix = fmt.Sprintf("did you mean %s?", near)
	}
	d.Fail(full, fix, "%s is not known", d.Dotted(full))
}

// Dotted formats a key for people, without the numbers of array entries.
func (d *Doc) Dotted(key []string) string {
	if slices.Contains(d.Arrays, key[0]) && len(key) > 2 {
		key = []string{key[0], key[2]}
	}
	return toml.Key(key).String()
}

// TableList accepts both [[path]] and path = [{…}, …].
func TableList(v any) ([]map[string]any, bool) {
	list, ok := v.([]map[string]any)
	values, inline := v.([]any)
	for _, entry := range values {
		table, isTable := entry.(map[string]any)
		inline = inline && isTable
		list = append(list, table)
	}
	return list, ok || inline
}

// Kind returns a value's type with its article.
func Kind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case map[string]any:
		return "a table"
	case []any, []map[string]any:
		return "an array"
	}
	return "a date or time"
}

// nearest returns the known word within two edits of a mistyped one, or "".
func nearest(word string, known []string) string {
	best, at := "", 3
	for _, k := range known {
		if d := editDistance(word, k); d < at {
			best, at = k, d
		}
	}
	return best
}

// editDistance returns the Levenshtein distance.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
