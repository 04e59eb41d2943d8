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
	"strconv"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// FormatVersion is the number of the store format that this program writes and reads.
const FormatVersion = 1

// Manifest describes one generation of a store: what cfg adds, replaces and takes out, and against which
// base.
type Manifest struct {
	Generation int
	Time       time.Time
	BaseID     string // the base that the overrides were first made against or last merged with
	From       string // the base before, if this generation is a merge
	Message    string

	Overrides []Override     // in path order
	Removals  []tree.Removal // in path order
	Conflicts []Conflict     // conflicts that nobody has resolved, in path order
	// paths that stay overrides even if they equal base, with all below them, in path order
	Pins []string
	// Merges are the numbers of the last generations that were merges, oldest first. Each one and the
	// generation before it are kept as long as there is room, for the way back to the earlier base.
	Merges []int
	// Held are paths that were changed by hand in the plain tree and that live has not taken yet, in path
	// order. A save leaves them alone, so that neither version is lost unseen.
	Held []string
	// Refused are names of extended attributes that the filesystem of cfg refused, by path, joined by NUL.
	// The files in cfg lack them; they come from the override or from base.
	Refused map[string]string
}

// Override is a path that cfg adds or replaces.
type Override struct {
	tree.Entry
	// Default is what the override replaced in base when it was made or last merged. It is nil if base had
	// nothing there or it is not known. While a conflict is not resolved, it is still the earlier default.
	Default *tree.Entry
}

// Clone returns a copy that can be edited.
func (m *Manifest) Clone() *Manifest {
	c := *m
	c.Overrides, c.Removals = slices.Clone(m.Overrides), slices.Clone(m.Removals)
	c.Conflicts, c.Pins = slices.Clone(m.Conflicts), slices.Clone(m.Pins)
	return &c
}

// Override returns the override at path.
func (m *Manifest) Override(path string) (*Override, bool) {
	i, ok := slices.BinarySearchFunc(m.Overrides, path,
		func(o Override, p string) int { return pathname.Compare(o.Path, p) })
	if !ok {
		return nil, false
	}
	return &m.Overrides[i], true
}

// Removal returns the removal of exactly that path.
func (m *Manifest) Removal(path string) (*tree.Removal, bool) {
	i, ok := slices.BinarySearchFunc(m.Removals, path,
		func(r tree.Removal, p string) int { return pathname.Compare(r.Path, p) })
	if !ok {
		return nil, false
	}
	return &m.Removals[i], true
}

// Pinned reports whether a path, or a directory above it, is pinned.
func (m *Manifest) Pinned(path string) bool {
	for ; len(m.Pins) > 0 && path != ""; path = pathname.Parent(path) {
		if _, ok := slices.BinarySearchFunc(m.Pins, path, pathname.Compare); ok {
			return true
		}
	}
	return false
}

// StandsOn returns the base id of the next generation, which is made on the base now. If cfg holds overrides
// or removals, the old base id stays, so that the next populate merges them.
func (m *Manifest) StandsOn(now string) string {
	if m.BaseID == "" || len(m.Overrides)+len(m.Removals) == 0 {
		return now
	}
	return m.BaseID
}

// Holds reports whether a path is held.
func (m *Manifest) Holds(path string) bool {
	_, ok := slices.BinarySearchFunc(m.Held, path, pathname.Compare)
	return ok
}

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
	Held       [][]byte `json:"held,omitempty"`

	Refused []refusedLine `json:"refused,omitempty"` // in path order
}

// refusedLine lists what cfg's filesystem refused at a path.
type refusedLine struct {
	pathname.JSON
	Names []byte `json:"names"` // names of attributes, joined by NUL
}

// line is each further line. A default has the same form without a path.
type line struct {
	pathname.JSON
	Type    string `json:"type,omitempty"` // override, removal or conflict
	Kind    string `json:"kind,omitempty"`
	Mode    string `json:"mode,omitempty"` // four octal digits
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Flags   uint32 `json:"flags,omitempty"`
	Size    int64  `json:"size,omitempty"`
	MTime   string `json:"mtime,omitempty"` // seconds.nanoseconds since 1970
	Digest  string `json:"digest,omitempty"`
	Link    []byte `json:"link,omitempty"`
	Xattrs  string `json:"xattrs,omitempty"`
	Default *line  `json:"default,omitempty"`

	Conflict *conflictLine `json:"conflict,omitempty"`
}

const (
	typeOverride = "override"
	typeRemoval  = "removal"
	typeConflict = "conflict" // a conflict where cfg has nothing, because the default was taken

	maxMerges   = 4        // merges whose generations are kept
	MaxManifest = 32 << 20 // bytes; reading one takes about twenty times as much memory
)

// Encode returns the manifest as it stands in .cfgd/manifest: JSON Lines, sorted by path.
func (m *Manifest) Encode() ([]byte, error) {
	lines := make([]line, 0, len(m.Overrides)+len(m.Removals))
	for i := range m.Overrides {
		l := lineOf(&m.Overrides[i].Entry)
		l.Type, l.Default = typeOverride, defaultLine(m.Overrides[i].Default)
		lines = append(lines, *l)
	}
	for _, r := range m.Removals {
		l := line{
			JSON:    pathname.FromPath(r.Path),
			Type:    typeRemoval,
			MTime:   FormatNanos(r.MTime),
			Default: defaultLine(r.Default),
		}
		lines = append(lines, l)
	}
	lines = m.withConflicts(lines)
	slices.SortStableFunc(lines, func(a, b line) int { return bytes.Compare(nameBytes(a), nameBytes(b)) })
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
	h.Pins, h.Held = toBytes(m.Pins), toBytes(m.Held)
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
func (m *Manifest) withConflicts(lines []line) []line {
	at := map[string]int{}
	for i := range lines {
		at[string(nameBytes(lines[i]))] = i
	}
	for i := range m.Conflicts {
		c := &m.Conflicts[i]
		n, ok := at[c.Path]
		if !ok {
			n = len(lines)
			lines = append(lines, line{JSON: pathname.FromPath(c.Path), Type: typeConflict})
		}
		lines[n].Conflict = lineOfConflict(c)
	}
	return lines
}

func nameBytes(l line) []byte {
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

func defaultLine(e *tree.Entry) *line {
	if e == nil {
		return nil
	}
	l := lineOf(e)
	l.JSON = pathname.JSON{}
	return l
}

func lineOf(e *tree.Entry) *line {
	return &line{
		JSON:   pathname.FromPath(e.Path),
		Kind:   e.Kind.String(),
		Mode:   fmt.Sprintf("%04o", e.Mode),
		UID:    e.UID,
		GID:    e.GID,
		Flags:  e.Flags,
		Size:   e.Size,
		MTime:  FormatNanos(e.MTime),
		Digest: e.Digest.String(),
		Link:   []byte(e.Link),
		Xattrs: e.Xattrs,
	}
}

// FormatNanos prints nanoseconds since 1970 as SECONDS.NANOSECONDS, "" for zero.
func FormatNanos(n int64) string {
	if n == 0 {
		return ""
	}
	sec, frac := n/1e9, n%1e9
	if frac < 0 {
		sec, frac = sec-1, frac+1e9
	}
	return fmt.Sprintf("%d.%09d", sec, frac)
}

// ParseNanos reads the form that FormatNanos writes.
func ParseNanos(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	sec, frac, ok := bytes.Cut([]byte(s), []byte("."))
	a, err1 := strconv.ParseInt(string(sec), 10, 64)
	b, err2 := strconv.ParseUint(string(frac), 10, 32)
	n := a*1e9 + int64(b)
	if !ok || len(frac) != 9 || err1 != nil || err2 != nil || FormatNanos(n) != s && n != 0 {
		return 0, fmt.Errorf("time %q: not seconds.nanoseconds", s) // or outside 64 bits
	}
	return n, nil
}

// ErrManifest is the error for a manifest that is torn or forged.
var ErrManifest = errors.New("damaged manifest")

// ErrNewerFormat says that a newer cfgd wrote the store.
var ErrNewerFormat = errors.New("the store was written by a newer cfgd")

// ParseManifest reads the form that Encode writes. Its errors name the line. It checks everything: paths stay
// below the root, the order is strict, and the count and digest of the first line are right.
func ParseManifest(b []byte) (*Manifest, error) {
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, len(b)+1) // one line may be as long as the text: it can list thousands of held paths
	if !sc.Scan() {
		return nil, manifestError(1, errors.Join(errors.New("no header"), sc.Err()))
	}
	m, h, err := ParseHeader(sc.Bytes())
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
		var l line
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
	return fmt.Errorf("manifest:%d: %w: %w", n, ErrManifest, err)
}

// ParseHeader reads the first line of a manifest, and returns the fields that are in it.
func ParseHeader(b []byte) (*Manifest, *Header, error) {
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
	if m.Held, err = fromBytes(h.Held); err != nil {
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

func (m *Manifest) addLine(l *line) error {
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
		t, err := ParseNanos(l.MTime)
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

// entry checks a line and converts it.
func (l *line) entry(path string) (*tree.Entry, error) {
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
	if e.MTime, err = ParseNanos(l.MTime); err != nil {
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

// RemovedText returns .cfgd/removed: one path on each line, quoted as in C if a name needs it.
func (m *Manifest) RemovedText() []byte {
	var b bytes.Buffer
	for _, r := range m.Removals {
		b.WriteString(pathname.Quote(r.Path))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// wayBack reports whether a generation is kept for the way back to an earlier base.
func (m *Manifest) wayBack(n int) bool {
	return slices.Contains(m.Merges, n) || slices.Contains(m.Merges, n+1)
}

// WithMerge returns Merges of the next generation if that is a merge.
func (m *Manifest) WithMerge() []int {
	all := append(slices.Clone(m.Merges), m.Generation+1)
	return all[max(0, len(all)-maxMerges):]
}

// Removes reports whether a removal of the path itself or of a directory above it takes it out of base.
func (m *Manifest) Removes(p string) bool {
	for ; p != ""; p = pathname.Parent(p) {
		if _, ok := m.Removal(p); ok {
			return true
		}
	}
	return false
}

// Saved returns what the saved tree of the manifest has at a path, nil for nothing.
func (m *Manifest) Saved(base *tree.Tree, path string) *tree.Entry {
	if o, ok := m.Override(path); ok {
		return &o.Entry
	}
	if m.Removes(path) {
		return nil
	}
	e, _ := base.Get(path)
	return e
}
