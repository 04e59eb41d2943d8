package config

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/fstab"
)

// Reference is a place of the configuration that names a snapshot.
type Reference struct {
	Snapshot Snapshot
	Jail     string // whose mount or base it is; HostName for /etc/fstab
	At       conffile.Origin
}

// References returns the snapshots that the machine names: in /etc/fstab, in the fstabs and mount parameters
// of all jails, and as bases in cfgd.toml. It reads the fstabs again. A source that leads to a snapshot by a
// link counts as well as its name. The second result is what cannot be read: it may name any snapshot, so
// nothing is destroyed while there is any.
func (m *Model) References() (all []Reference, unread Unread) {
	unread = slices.Clone(m.unread)
	add := func(jail, source string, at conffile.Origin) {
		for _, s := range m.snapshots(source) {
			all = append(all, Reference{s, jail, at})
		}
	}
	for jail, t := range m.mounts {
		t = t.Again()
		for _, x := range t.All {
			add(jail, x.Source, x.At)
		}
		unread = append(unread, t.Unread...)
	}
	for _, t := range m.Targets {
		if _, ok := ParseSnapshot(t.Base); ok && !t.Host() && t.Origin["base"].File == m.File {
			add(t.Name, t.Base, t.Origin["base"])
		}
	}
	return all, unread
}

// mounts yields the mounts of the host, under HostName, and of every jail: those that are targets, those that
// are not, and those of which another one has the name.
func (m *Model) mounts(yield func(jail string, t Mounts) bool) {
	if !yield(HostName, m.host) {
		return
	}
	for _, t := range m.Targets {
		if !t.Host() && !yield(t.Name, t.Mounts) {
			return
		}
	}
	for _, j := range slices.Concat(m.Jails, m.hidden) {
		if !yield(j.Name, j.Mounts) {
			return
		}
	}
}

// snapshots returns the snapshots that a source names, as written and with the links on its way resolved.
// A snapshot itself is not looked at: ZFS would mount it.
func (m *Model) snapshots(source string) (all []Snapshot) {
	s, ok := ParseSnapshot(source)
	if ok {
		all = append(all, s)
	}
	switch {
	case m.read == nil || !path.IsAbs(source):
	case ok:
		if real := m.read.Real(s.Tree); real != s.Tree {
			s.Tree = real
			all = append(all, s)
		}
	default:
		if s, ok := ParseSnapshot(m.read.Real(source)); ok {
			all = append(all, s)
		}
	}
	return all
}

// Foreign returns where the host or another jail than this one mounts a source for which taken is true, and
// the error of what cannot be read of their mounts.
func (m *Model) Foreign(jail string, taken func(source string) bool) (at []MountLine, unread Unread) {
	for name, t := range m.mounts {
		if name == jail {
			continue
		}
		t = t.Again()
		for _, x := range t.All {
			if taken(x.Source) || path.IsAbs(x.Source) && m.read != nil && taken(m.read.Real(x.Source)) {
				at = append(at, x)
			}
		}
		unread = append(unread, t.Unread...)
	}
	return at, append(unread, m.unread...)
}

// Switched is the edits that put a jail on another snapshot.
type Switched struct {
	Edits []FstabEdit
	From  []string // the snapshots that were named before, each once, in order of the fstabs and lines
}

// FstabEdit is an fstab whose references are changed to another snapshot.
type FstabEdit struct {
	File     string
	Old, New []byte
	// Lines are those that change, counted from 1; none where all name that snapshot already.
	Lines []int
}

// SwitchTo returns the edits that put a jail on another snapshot of its prototype: one for each of its fstabs
// that names a snapshot of the prototype. It reads the fstabs again. The error, a *conffile.Error or
// conffile.Errors, names each line that mounts another snapshot and cannot be edited so: a mount parameter,
// a base in cfgd.toml, a link, a line of /etc/fstab, a line that another jail reads too. Then nothing is to
// be switched, because the jail would be on two snapshots.
func (m *Model) SwitchTo(t *Target, name string) (*Switched, error) {
	base, ok := ParseSnapshot(t.Base)
	if !ok {
		return nil, conffile.Errorf(t.Origin["base"], "", "base %s is no snapshot", t.Base)
	}
	mounts := t.Mounts.Again()
	if err := mounts.Whole(); err != nil {
		return nil, err
	}
	w := switching{m: m, t: t, name: name, base: base, proto: m.PrototypeOf(t.Base), done: &Switched{}}
	for _, x := range mounts.All {
		w.line(x)
	}
	for _, x := range m.host.Again().All {
		if dir := m.real(x.Dir); within(dir, m.real(t.Root)) {
			w.fixed(x.Source, x.At, "it is a line of the host, which mounts it at boot: edit it there")
		}
	}
	if at := t.Origin["base"]; at.File != "" && at.File == m.File {
		w.fixed(t.Base, at, "edit it there")
	}
	if err := conffile.Join(w.errs); err != nil {
		return nil, err
	}
	for _, f := range mounts.Fstabs {
		if err := w.fstab(f); err != nil {
			return nil, err
		}
	}
	if len(w.done.Edits) == 0 {
		return nil, &conffile.Error{
			File:    t.Fstab,
			Message: fmt.Sprintf("no line mounts a snapshot of %s", base.Prototype()),
			Fix:     "write it as PROTOTYPE/.zfs/snapshot/NAME",
		}
	}
	return w.done, nil
}

// real resolves the links of a directory.
func (m *Model) real(dir string) string {
	if m.read == nil || !path.IsAbs(dir) {
		return path.Clean(dir)
	}
	return m.read.Real(dir)
}

// switching is the state of SwitchTo.
type switching struct {
	m     *Model
	t     *Target
	name  string
	base  Snapshot
	proto *Prototype // nil if the model has none
	errs  []*conffile.Error
	done  *Switched
	files map[string]bool // the fstabs that name a snapshot, without links
}

// of reports whether a snapshot is of the jail's prototype.
func (w *switching) of(s Snapshot) bool {
	return within(s.Tree, w.base.Prototype()) || w.proto != nil && w.proto.Has(s)
}

// named returns the snapshot of the prototype that a source names.
func (w *switching) named(source string) (s Snapshot, ok bool) {
	for _, s := range w.m.snapshots(source) {
		if w.of(s) {
			return s, true
		}
	}
	return s, false
}

// fixed records that a source is to be edited by a person, unless it is on the snapshot already.
func (w *switching) fixed(source string, at conffile.Origin, fix string) {
	if s, ok := w.named(source); ok && s.Name != w.name {
		w.errs = append(w.errs, conffile.Errorf(at, fix, "it names snapshot %s of %s, and cannot be "+
			"switched by cfgd", s.Name, w.base.Prototype()))
	}
}

// line looks whether a mount can be edited.
func (w *switching) line(x MountLine) {
	_, plain := ParseSnapshot(x.Source)
	switch {
	case x.Fstab == "":
		w.fixed(x.Source, x.At, "it is a mount parameter of jail.conf: edit it there, or move it to the "+
			"jail's fstab")
		return
	case !plain:
		w.fixed(x.Source, x.At, "the snapshot is named through a link: edit the link, or name the "+
			"snapshot in the fstab")
		return
	}
	s, ok := w.named(x.Source)
	if !ok || s.Name == w.name {
		return
	}
	if other := w.alsoOf(w.m.real(x.Fstab)); other != "" {
		w.fixed(x.Source, x.At, other+" mounts this line too: give each an fstab of its own")
	}
}

// alsoOf says who else reads an fstab; "" if nobody does.
func (w *switching) alsoOf(file string) string {
	for jail, t := range w.m.mounts {
		if jail != w.t.Name && slices.ContainsFunc(t.from.fstabs,
			func(f conffile.Located) bool { return w.m.real(f.Value) == file }) {
			if jail == HostName {
				return "the host"
			}
			return "jail " + jail
		}
	}
	return ""
}

// fstab adds the edit of one fstab, if it names a snapshot. jail.conf may name one file twice.
func (w *switching) fstab(f Fstab) error {
	edit, from, err := switchFstab(f.Name, f.Data, w.name, w.of, w.m.snapshots)
	if err != nil || edit == nil {
		return err
	}
	for _, name := range from {
		if !slices.Contains(w.done.From, name) {
			w.done.From = append(w.done.From, name)
		}
	}
	if file := w.m.real(f.Name); !w.files[file] {
		if w.files == nil {
			w.files = map[string]bool{}
		}
		w.files[file] = true
		w.done.Edits = append(w.done.Edits, *edit)
	}
	return nil
}

// switchFstab changes the references of an fstab to those snapshots for which of is true. Every other byte
// stays as it is, comments and blanks too. It returns nil if there are none, and else also the snapshots that
// were named before. all returns the snapshots that a source names.
func switchFstab(file string, data []byte, name string, of func(Snapshot) bool,
	all func(source string) []Snapshot) (edit *FstabEdit, from []string, err error) {
	entries, bad := fstab.ParseJail(file, data)
	if len(bad) > 0 {
		return nil, nil, bad[0]
	}
	found := false
	edit = &FstabEdit{File: file, Old: data}
	edit.New, edit.Lines = fstab.SetSources(data, entries, func(e fstab.Entry, written string) string {
		snap, ok := ParseSnapshot(e.Source)
		if !ok || !slices.ContainsFunc(all(e.Source), of) {
			return written
		}
		found = true
		if !slices.Contains(from, snap.Name) {
			from = append(from, snap.Name)
		}
		if snap.Name == name {
			return written
		}
		return renamed(written, snap, name)
	})
	if !found {
		return nil, nil, nil
	}
	return edit, from, nil
}

// renamed returns a source as it is written, with another snapshot's name in it. One whose marks are
// written as escapes is written anew.
func renamed(written string, snap Snapshot, name string) string {
	if start, end := snapshotName(written, snap); start >= 0 {
		source := written[:start] + fstab.Encode(name) + written[end:]
		decoded, ok := fstab.Decode(source)
		if s, is := ParseSnapshot(decoded); ok && is && s == snap.At(name) {
			return source
		}
	}
	return fstab.Encode(snap.At(name).String())
}

// snapshotName returns the position of a snapshot's name in a source as it is written; start is negative if
// its mark is not written plainly.
func snapshotName(source string, snap Snapshot) (start, end int) {
	start = strings.Index(source, snap.Mark)
	if start < 0 {
		return start, start
	}
	if snap.Mark == "@" {
		return strings.LastIndex(source, snap.Mark) + 1, len(source)
	}
	start += len(snap.Mark)
	if n := strings.IndexByte(source[start:], '/'); n >= 0 {
		return start, start + n
	}
	return start, len(source)
}

// SnapshotSources returns the lines of a jail's fstab that name a snapshot of this name by its path.
func SnapshotSources(file string, data []byte, name string) (all []conffile.Located, err error) {
	entries, bad := fstab.ParseJail(file, data)
	for _, e := range entries {
		if snap, ok := ParseSnapshot(e.Source); ok && snap.Name == name && path.IsAbs(e.Source) {
			all = append(all, conffile.Located{Value: e.Source, At: conffile.At(file, e.Line)})
		}
	}
	if len(bad) > 0 {
		return nil, bad[0]
	}
	return all, nil
}

// SameMounts reports whether two texts of a jail's fstab are equal except for the snapshots that they name,
// which a switch changes, for blanks and for comments.
func SameMounts(a, b string) bool {
	plain := func(text string) (out []string, ok bool) {
		entries, bad := fstab.ParseJail("", []byte(text))
		for _, e := range entries {
			source := e.Source
			if s, ok := ParseSnapshot(source); ok {
				source = s.At("").String()
			}
			out = append(out, strings.Join([]string{source, e.Dir, e.Type, strings.Join(e.Options, ",")},
				" "))
		}
		return out, len(bad) == 0
	}
	x, okA := plain(a)
	y, okB := plain(b)
	return okA && okB && slices.Equal(x, y)
}
