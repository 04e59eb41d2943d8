package store

import (
	"fmt"
	"slices"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Conflict is a path that a merge could not settle, because the default and the saved file were both changed,
// and differently. The merge takes one of the two, so that a start never fails because of it. Both stay in
// the store until somebody resolves the conflict.
type Conflict struct {
	Path     string
	From, To string            // ids of the two bases that were merged
	Taken    config.OnConflict // whose version is in cfg and live
	Why      string            // an explanation, without secrets

	Old    *tree.Entry // the default that Mine was made from; nil if there was none or it is not known
	Mine   *tree.Entry // the saved version; nil if it has nothing there
	Theirs *tree.Entry // the new default; nil if it has nothing there
	Text   *tree.Entry // a file with both versions between markers; nil if they are not text
}

// ConflictAt returns the unresolved conflict at path.
func (m *Manifest) ConflictAt(path string) (*Conflict, bool) {
	i, ok := slices.BinarySearchFunc(m.Conflicts, path,
		func(c Conflict, p string) int { return pathname.Compare(c.Path, p) })
	if !ok {
		return nil, false
	}
	return &m.Conflicts[i], true
}

// entries returns all versions of a conflict; some may be nil.
func (c *Conflict) entries() []*tree.Entry { return []*tree.Entry{c.Old, c.Mine, c.Theirs, c.Text} }

// refers reports whether a version of the conflict has the content of e.
func (c *Conflict) refers(e *tree.Entry) bool {
	return e != nil &&
		slices.ContainsFunc(c.entries(), func(x *tree.Entry) bool { return x != nil && x.Digest == e.Digest })
}

// TakenEntry returns the version that the merge put in place.
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
		Old: defaultLine(
			c.Old), Mine: defaultLine(c.Mine), Theirs: defaultLine(c.Theirs), Text: defaultLine(c.Text)}
}

// conflict checks a line's conflict and converts it.
func (l *conflictLine) conflict(path string) (*Conflict, error) {
	c := &Conflict{Path: path, From: l.From, To: l.To, Taken: config.OnConflict(l.Taken), Why: l.Why}
	if c.Taken != config.ConflictMine && c.Taken != config.ConflictTheirs {
		return nil, fmt.Errorf("conflict: taken %q: neither mine nor theirs", l.Taken)
	}
	for _, version := range []struct {
		from *line
		to   **tree.Entry
	}{{l.Old, &c.Old}, {l.Mine, &c.Mine}, {l.Theirs, &c.Theirs}, {l.Text, &c.Text}} {
		if version.from == nil {
			continue
		}
		e, err := version.from.entry(path)
		if err != nil {
			return nil, fmt.Errorf("conflict: %w", err)
		}
		*version.to = e
	}
	if c.Text != nil && c.Text.Kind != dirfd.KindFile {
		return nil, fmt.Errorf("conflict: the text with markers is a %s", c.Text.Kind)
	}
	return c, nil
}
