package store

import (
	"fmt"
	"slices"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Conflict is a path that a merge could not settle: the default and the saved file were both changed, and differently. One of
// the two is taken, so that a start never fails for it, and both stay in the store until somebody resolves it.
type Conflict struct {
	Path     string
	From, To string            // the ids of the bases between which it arose
	Taken    config.OnConflict // whose version is in cfg and live
	Why      string            // in words, without a secret

	Old    *tree.Entry // the default that mine was made against; nil where there was none or it is not known
	Mine   *tree.Entry // what the saved side comes to; nil where it has nothing there
	Theirs *tree.Entry // what the default comes to
	Text   *tree.Entry // both with markers between them, as a file; nil where they are no text
}

// conflict returns the unresolved conflict at path.
func (m *Manifest) ConflictAt(path string) (*Conflict, bool) {
	i, ok := slices.BinarySearchFunc(m.Conflicts, path, func(c Conflict, p string) int { return pathname.Compare(c.Path, p) })
	if !ok {
		return nil, false
	}
	return &m.Conflicts[i], true
}

// entries are all versions of a conflict, for what is to be kept of them.
func (c *Conflict) entries() []*tree.Entry { return []*tree.Entry{c.Old, c.Mine, c.Theirs, c.Text} }

// refers reports whether a version of the conflict has the entry's content.
func (c *Conflict) refers(e *tree.Entry) bool {
	return e != nil && slices.ContainsFunc(c.entries(), func(x *tree.Entry) bool { return x != nil && x.Digest == e.Digest })
}

// TakenEntry is the version that the merge put in place.
func (c *Conflict) TakenEntry() *tree.Entry {
	if c.Taken == config.ConflictTheirs {
		return c.Theirs
	}
	return c.Mine
}

// conflictLine is a conflict in the manifest: a field of the line of its path.
type conflictLine struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Taken  string `json:"taken"`
	Why    string `json:"why,omitempty"`
	Old    *line  `json:"old,omitempty"`
	Mine   *line  `json:"mine,omitempty"`
	Theirs *line  `json:"theirs,omitempty"`
	Text   *line  `json:"text,omitempty"`
}

func lineOfConflict(c *Conflict) *conflictLine {
	return &conflictLine{From: c.From, To: c.To, Taken: string(c.Taken), Why: c.Why,
		Old: defaultLine(c.Old), Mine: defaultLine(c.Mine), Theirs: defaultLine(c.Theirs), Text: defaultLine(c.Text)}
}

// conflict checks and converts a line's.
func (l *conflictLine) conflict(path string) (*Conflict, error) {
	c := &Conflict{Path: path, From: l.From, To: l.To, Taken: config.OnConflict(l.Taken), Why: l.Why}
	if c.Taken != config.ConflictMine && c.Taken != config.ConflictTheirs {
		return nil, fmt.Errorf("conflict: taken %q: neither mine nor theirs", l.Taken)
	}
	for _, side := range []struct {
		from *line
		to   **tree.Entry
	}{{l.Old, &c.Old}, {l.Mine, &c.Mine}, {l.Theirs, &c.Theirs}, {l.Text, &c.Text}} {
		if side.from == nil {
			continue
		}
		e, err := side.from.entry(path)
		if err != nil {
			return nil, fmt.Errorf("conflict: %w", err)
		}
		*side.to = e
	}
	if c.Text != nil && c.Text.Kind != dirfd.KindFile {
		return nil, fmt.Errorf("conflict: the text with markers is a %s", c.Text.Kind)
	}
	return c, nil
}
