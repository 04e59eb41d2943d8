package store

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Header is the manifest's first line.
type Header struct {
	Format     int      `json:"format"`
	Generation int      `json:"generation"`
	Time       string   `json:"time"`
	Base       string   `json:"base"`
	From       string   `json:"from,omitempty"`
	Message    string   `json:"message,omitempty"`
	Entries    int      `json:"entries"`
	Digest     string   `json:"digest"` // SHA-256 of all lines that follow
	Merges     []int    `json:"merges,omitempty"`
	Pins       [][]byte `json:"pins,omitempty"`
	HandEdits  [][]byte `json:"held,omitempty"`

	Refused []refusedLine `json:"refused,omitempty"` // in path order
}

// refusedLine lists what cfg's filesystem refused at a path.
type refusedLine struct {
	pathname.JSON
	Names []byte `json:"names"` // names of attributes, joined by NUL
}

// Encode returns the manifest as it stands in .cfgd/manifest: JSON Lines, sorted by path.
func (m *Manifest) Encode() ([]byte, error) {
	lines := make([]manifestLine, 0, len(m.Overrides)+len(m.Removals))
	for i := range m.Overrides {
		l := lineOf(&m.Overrides[i].Entry)
		l.Type, l.Default = typeOverride, defaultLine(m.Overrides[i].Default)
		lines = append(lines, *l)
	}
	for _, r := range m.Removals {
		l := manifestLine{
			JSON:    pathname.FromPath(r.Path),
			Type:    typeRemoval,
			MTime:   formatNanos(r.MTime),
			Default: defaultLine(r.Default),
		}
		lines = append(lines, l)
	}
	lines = m.withConflicts(lines)
	slices.SortStableFunc(lines, func(a, b manifestLine) int {
		return bytes.Compare(nameBytes(a), nameBytes(b))
	})
	var body bytes.Buffer
	for i := range lines {
		if err := encodeLine(&body, &lines[i]); err != nil {
			return nil, err
		}
	}
	h := Header{
		Format:     FormatVersion,
		Generation: m.Generation,
		Time:       m.Time.UTC().Format(time.RFC3339Nano),
		Base:       m.BaseID,
		From:       m.From,
		Message:    m.Message,
		Entries:    len(lines),
		Digest:     tree.Digest(sha256.Sum256(body.Bytes())).String(),
	}
	h.Merges = m.Merges
	h.Pins, h.HandEdits = toBytes(m.Pins), toBytes(m.HandEdits)
	for _, path := range slices.SortedFunc(maps.Keys(m.Refused), pathname.Compare) {
		h.Refused = append(h.Refused, refusedLine{pathname.FromPath(path), []byte(m.Refused[path])})
	}
	var out bytes.Buffer
	if err := encodeLine(&out, &h); err != nil {
		return nil, err
	}
	out.Write(body.Bytes())
	return out.Bytes(), nil
}

// withConflicts adds the conflicts to the lines of their paths.
func (m *Manifest) withConflicts(lines []manifestLine) []manifestLine {
	at := map[string]int{}
	for i := range lines {
		at[string(nameBytes(lines[i]))] = i
	}
	for i := range m.Conflicts {
		c := &m.Conflicts[i]
		n, ok := at[c.Path]
		if !ok {
			n = len(lines)
			lines = append(lines, manifestLine{JSON: pathname.FromPath(c.Path), Type: typeConflict})
		}
		lines[n].Conflict = lineOfConflict(c)
	}
	return lines
}

// errManifest is the error for a manifest that is torn or forged.
var errManifest = errors.New("damaged manifest")

// ParseManifest reads the form that Encode writes. Its errors name the line. It checks everything: paths stay
// below the root, the order is strict, and the count and digest of the first line are right.
func ParseManifest(b []byte) (*Manifest, error) {
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, len(b)+1) // one line may be as long as the text: it can list thousands of hand edits
	if !sc.Scan() {
		return nil, manifestError(1, errors.Join(errors.New("no header"), sc.Err()))
	}
	m, h, err := parseHeader(sc.Bytes())
	if err != nil {
		return nil, manifestError(1, err)
	}
	if got := tree.Digest(sha256.Sum256(b[min(len(sc.Bytes())+1, len(b)):])); got.String() != h.Digest {
		return nil, manifestError(1,
			errors.New("the lines do not have the digest that the header gives: torn or changed by hand"))
	}
	n := 1
	var last []byte
	for sc.Scan() {
		n++
		var l manifestLine
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			return nil, manifestError(n, err)
		}
		name := nameBytes(l)
		if n > 2 && bytes.Compare(name, last) <= 0 {
			return nil, manifestError(n, errors.New("not sorted by path"))
		}
		last = slices.Clone(name)
		if err := m.addLine(&l); err != nil {
			return nil, manifestError(n, err)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, manifestError(n+1, err)
	}
	if n-1 != h.Entries {
		return nil, manifestError(1, fmt.Errorf("%d lines follow where the header says %d", n-1, h.Entries))
	}
	slices.SortFunc(m.Overrides, func(a, b Override) int { return pathname.Compare(a.Path, b.Path) })
	slices.SortFunc(m.Removals, func(a, b tree.Removal) int { return pathname.Compare(a.Path, b.Path) })
	slices.SortFunc(m.Conflicts, func(a, b Conflict) int { return pathname.Compare(a.Path, b.Path) })
	return m, nil
}

func manifestError(n int, err error) error {
	if errors.Is(err, ErrNewerFormat) {
		return fmt.Errorf("manifest:%d: %w", n, err)
	}
	return fmt.Errorf("manifest:%d: %w: %w", n, errManifest, err)
}

// parseHeader reads the first line of a manifest, and returns the fields that are in it.
func parseHeader(b []byte) (*Manifest, *Header, error) {
	var h Header
	if err := json.Unmarshal(b, &h); err != nil {
		return nil, nil, err
	}
	if h.Format > FormatVersion {
		return nil, nil, fmt.Errorf("%w: format %d, this one knows %d", ErrNewerFormat, h.Format,
			FormatVersion)
	}
	if len(h.Merges) > maxMerges ||
		slices.ContainsFunc(h.Merges, func(n int) bool { return n < 1 || n > h.Generation }) {
		return nil, nil, fmt.Errorf("merges %v: not earlier generations", h.Merges)
	}
	if h.Format < 1 || h.Generation < 1 || h.Generation > 1<<40 {
		return nil, nil, fmt.Errorf("format %d, generation %d: out of range", h.Format, h.Generation)
	}
	when, err := time.Parse(time.RFC3339Nano, h.Time)
	if err != nil {
		return nil, nil, err
	}
	m := &Manifest{
		Generation: h.Generation,
		Time:       when,
		BaseID:     h.Base,
		From:       h.From,
		Message:    h.Message,
		Merges:     h.Merges,
	}
	if m.Pins, err = fromBytes(h.Pins); err != nil {
		return nil, nil, err
	}
	if m.HandEdits, err = fromBytes(h.HandEdits); err != nil {
		return nil, nil, err
	}
	for _, r := range h.Refused {
		path, err := r.Name()
		if err = errors.Join(err, pathname.Valid(path)); err != nil {
			return nil, nil, err
		}
		m.refuse(path, string(r.Names))
	}
	return m, &h, nil
}

func toBytes(paths []string) [][]byte {
	var out [][]byte
	for _, p := range paths {
		out = append(out, []byte(p))
	}
	return out
}

func fromBytes(list [][]byte) ([]string, error) {
	var out []string
	for _, b := range list {
		if err := pathname.Valid(string(b)); err != nil {
			return nil, err
		}
		out = append(out, string(b))
	}
	slices.SortFunc(out, pathname.Compare)
	return out, nil
}

func (m *Manifest) addLine(l *manifestLine) error {
	path, err := l.Name()
	if err != nil {
		return err
	}
	if err := pathname.Valid(path); err != nil {
		return err
	}
	var def *tree.Entry
	if l.Default != nil {
		if def, err = l.Default.entry(path); err != nil {
			return fmt.Errorf("default: %w", err)
		}
	}
	switch l.Type {
	case typeOverride:
		e, err := l.entry(path)
		if err != nil {
			return err
		}
		m.Overrides = append(m.Overrides, Override{*e, def})
	case typeRemoval:
		t, err := parseNanos(l.MTime)
		if err != nil {
			return err
		}
		m.Removals = append(m.Removals, tree.Removal{Path: path, MTime: t, Default: def})
	case typeConflict:
		if l.Conflict == nil {
			return errors.New("a conflict that tells nothing")
		}
	default:
		return fmt.Errorf("type %q: neither override nor removal nor conflict", l.Type)
	}
	if l.Conflict == nil {
		return nil
	}
	c, err := l.Conflict.conflict(path)
	if err == nil {
		m.Conflicts = append(m.Conflicts, *c)
	}
	return err
}

// RemovedText returns .cfgd/removed: one path on each line, quoted as in C if a name needs it.
func (m *Manifest) RemovedText() []byte {
	var b bytes.Buffer
	for _, r := range m.Removals {
		b.WriteString(pathname.Quote(r.Path))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// readable encodes a manifest and checks that it can be read back.
func (m *Manifest) readable() ([]byte, error) {
	text, err := m.Encode()
	if err != nil {
		return nil, err
	}
	if err := Fits("manifest", text, MaxManifest); err != nil {
		return nil, err
	}
	_, err = ParseManifest(text)
	return text, err
}
