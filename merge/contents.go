package merge

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"cfgd/overlay/tree"
)

// Versions are the three versions of a path: the old default, what cfg has, and the new default. Nil means
// that nothing is there.
type Versions struct {
	Old, Mine, Theirs *tree.Entry
	From              string // id of the base that Old is of
	Names             Names  // what markers call them
}

// NamesOf returns the labels for markers of a merge from one base to another.
func NamesOf(from, to string) Names {
	return Names{Mine: "saved", Old: "default of " + from, Theirs: "default of " + to}
}

// NamesIn returns the labels of the markers in a text of a conflict. usual are those of a merge of its two
// bases: a merge that brings an earlier state back has others.
func NamesIn(text []byte, usual Names) Names {
	n := Names{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		for sign, to := range map[string]*string{
			"<<<<<<< ": &n.Mine, "||||||| ": &n.Old, ">>>>>>> ": &n.Theirs,
		} {
			if label, ok := strings.CutPrefix(line, sign); ok && *to == "" {
				*to = strings.TrimSuffix(label, mergedLabel)
			}
		}
		if line == marker("|", usual.Old) {
			return usual // whatever markers the file itself has
		}
	}
	if n.Mine == "" || n.Old == "" || n.Theirs == "" {
		return usual
	}
	return n
}

// ErrNoText is the error for contents that cannot be merged by lines.
var ErrNoText = errors.New("no text")

// Contents merges three contents by lines, or account files by entry and field.
func Contents(path string, old, mine, theirs []byte, names Names) (*Merged, error) {
	if sealed(old) || sealed(mine) || sealed(theirs) {
		return nil, fmt.Errorf("%w: a key or certificate", ErrNoText)
	}
	m, ok, err := Accounts(path, old, mine, theirs, names)
	if !ok {
		m, err = Text(old, mine, theirs, names)
	}
	switch {
	case errors.Is(err, ErrBinary):
		return nil, fmt.Errorf("%w: not text", ErrNoText)
	case errors.Is(err, ErrTooLarge):
		return nil, fmt.Errorf("%w: too large to be merged by lines", ErrNoText)
	}
	return &m, err
}

// sealed reports whether a text must not be merged by lines, because it is a key or certificate in PEM form
// (RFC 7468).
func sealed(text []byte) bool {
	return bytes.HasPrefix(text, []byte("-----BEGIN ")) || bytes.Contains(text, []byte("\n-----BEGIN "))
}

// Read reads the three contents, each of at most max bytes.
func (s Versions) Read(
	max int64, content func(*tree.Entry) ([]byte, error),
) (old, mine, theirs []byte, err error) {
	for _, side := range []struct {
		e    *tree.Entry
		to   *[]byte
		what string
	}{
		{s.Old, &old, "the old default is no longer kept"},
		{s.Mine, &mine, "the saved file cannot be read"},
		{s.Theirs, &theirs, "the default cannot be read"},
	} {
		if side.e == nil {
			continue
		}
		if side.e.Size > max || side.e.Unread != "" {
			return nil, nil, nil, fmt.Errorf("%w: too large to be merged by lines", ErrNoText)
		}
		if *side.to, err = content(side.e); err != nil {
			if side.e == s.Old {
				return nil, nil, nil, fmt.Errorf("%w: %s", ErrNoText, side.what)
			}
			return nil, nil, nil, fmt.Errorf("%s: %w", side.what, err)
		}
	}
	return old, mine, theirs, nil
}
