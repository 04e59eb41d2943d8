package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// The values of manifestLine.Type.
const (
	typeOverride = "override"
	typeRemoval  = "removal"
	typeConflict = "conflict" // a conflict where cfg has nothing, because the default was taken
)

// manifestLine is each further line. A default has the same form without a path.
type manifestLine struct {
	pathname.JSON
	Type    string        `json:"type,omitempty"` // override, removal or conflict
	Kind    string        `json:"kind,omitempty"`
	Mode    string        `json:"mode,omitempty"` // four octal digits
	UID     uint32        `json:"uid"`
	GID     uint32        `json:"gid"`
	Flags   uint32        `json:"flags,omitempty"`
	Size    int64         `json:"size,omitempty"`
	MTime   string        `json:"mtime,omitempty"` // seconds.nanoseconds since 1970
	Digest  string        `json:"digest,omitempty"`
	Link    []byte        `json:"link,omitempty"`
	Xattrs  string        `json:"xattrs,omitempty"`
	Default *manifestLine `json:"default,omitempty"`

	Conflict *conflictLine `json:"conflict,omitempty"`
}

func nameBytes(l manifestLine) []byte {
	if l.PathBytes != nil {
		return l.PathBytes
	}
	return []byte(l.Path)
}

func encodeLine(w *bytes.Buffer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func defaultLine(e *tree.Entry) *manifestLine {
	if e == nil {
		return nil
	}
	l := lineOf(e)
	l.JSON = pathname.JSON{}
	return l
}

func lineOf(e *tree.Entry) *manifestLine {
	return &manifestLine{
		JSON:   pathname.FromPath(e.Path),
		Kind:   e.Kind.String(),
		Mode:   fmt.Sprintf("%04o", e.Mode),
		UID:    e.UID,
		GID:    e.GID,
		Flags:  e.Flags,
		Size:   e.Size,
		MTime:  formatNanos(e.MTime),
		Digest: e.Digest.String(),
		Link:   []byte(e.Link),
		Xattrs: e.Xattrs,
	}
}

// formatNanos prints nanoseconds since 1970 as SECONDS.NANOSECONDS, "" for zero.
func formatNanos(n int64) string {
	if n == 0 {
		return ""
	}
	sec, frac := n/1e9, n%1e9
	if frac < 0 {
		sec, frac = sec-1, frac+1e9
	}
	return fmt.Sprintf("%d.%09d", sec, frac)
}

// parseNanos reads the form that formatNanos writes.
func parseNanos(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	sec, frac, ok := bytes.Cut([]byte(s), []byte("."))
	a, err1 := strconv.ParseInt(string(sec), 10, 64)
	b, err2 := strconv.ParseUint(string(frac), 10, 32)
	n := a*1e9 + int64(b)
	if !ok || len(frac) != 9 || err1 != nil || err2 != nil || formatNanos(n) != s && n != 0 {
		return 0, fmt.Errorf("time %q: not seconds.nanoseconds", s) // or outside 64 bits
	}
	return n, nil
}

// entry checks a line and converts it.
func (l *manifestLine) entry(path string) (*tree.Entry, error) {
	e := &tree.Entry{
		Path:   path,
		Kind:   dirfd.ParseKind(l.Kind),
		UID:    l.UID,
		GID:    l.GID,
		Flags:  l.Flags,
		Size:   l.Size,
		Link:   string(l.Link),
		Xattrs: l.Xattrs,
	}
	mode, err := strconv.ParseUint(l.Mode, 8, 32)
	if err != nil || mode > 0o7777 {
		return nil, fmt.Errorf("mode %q: not four octal digits", l.Mode)
	}
	e.Mode = uint32(mode)
	if e.Kind == dirfd.KindNone || e.Kind.Special() {
		return nil, fmt.Errorf("kind %q: not file, dir or symlink", l.Kind)
	}
	if e.Size < 0 {
		return nil, fmt.Errorf("size %d: negative", e.Size)
	}
	if e.MTime, err = parseNanos(l.MTime); err != nil {
		return nil, err
	}
	if e.Digest, err = tree.ParseDigest(l.Digest); err != nil {
		return nil, err
	}
	if !tree.Privileged {
		e.UID, e.GID = tree.OwnIDs()
	}
	_, err = tree.UnpackXattrs(e.Xattrs)
	return e, err
}

// conflictLine is a conflict in the manifest: a field of the line of its path.
type conflictLine struct {
	From   string        `json:"from"`
	To     string        `json:"to"`
	Taken  string        `json:"taken"`
	Why    string        `json:"why,omitempty"`
	Old    *manifestLine `json:"old,omitempty"`
	Mine   *manifestLine `json:"mine,omitempty"`
	Theirs *manifestLine `json:"theirs,omitempty"`
	Text   *manifestLine `json:"text,omitempty"`
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
		from *manifestLine
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
