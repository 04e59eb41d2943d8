package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"cfgd/config/conffile"
	"cfgd/config/fstab"
)

// MountLine is one mount of a jail, or a line of /etc/fstab.
type MountLine struct {
	fstab.Entry
	At    conffile.Origin
	Fstab string // the fstab that has the line, "" for the mount parameter of jail.conf
}

// Mounts is all that a jail mounts, in the order in which jail(8) mounts it: the mount parameters, then the
// lines of each fstab. For the host it is /etc/fstab, with the lines that mount(8) does not take. It is the
// one place that knows: whoever asks what a jail mounts asks here, and nothing else parses an fstab.
type Mounts struct {
	All    []MountLine
	Fstabs []Fstab
	// Unread is what cannot be read: All may lack mounts because of it. Nothing is destroyed while there is
	// such a fault anywhere, because what it names must not be taken for unused.
	Unread Unread

	from mountSources
}

// Unread is what of the configuration cannot be read, and may mount something.
type Unread []*conffile.Error

// Err returns an error with all of it, nil if there is nothing. Whoever destroys something returns it.
func (u Unread) Err() error {
	errs := make([]error, len(u))
	for i, e := range u {
		errs[i] = e
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("what is mounted is not known: %w", err)
	}
	return nil
}

// Fstab is the text of an fstab, as it was read.
type Fstab struct {
	Name string
	Data []byte
}

// mountSources is what says what is mounted.
type mountSources struct {
	read   *conffile.Files
	jail   string             // "" for the host
	params []conffile.Located // mount parameters of jail.conf
	fstabs []conffile.Located // names of fstabs
	// unknown is what jail(8) gets and cfgd cannot follow. A problem was reported for each.
	unknown []*conffile.Error
}

// FstabMounts returns the mounts of a jail with these fstabs, below a directory as that of --root.
func FstabMounts(dir, jail string, files ...string) (Mounts, error) {
	read, err := conffile.Open(dir)
	if err != nil {
		return Mounts{}, err
	}
	from := mountSources{read: read, jail: jail}
	for _, file := range files {
		from.fstabs = append(from.fstabs, conffile.Located{Value: file, At: conffile.At(file, 0)})
	}
	return from.mounts(), nil
}

// Again reads the fstabs again: they may have changed since the configuration was loaded.
func (t Mounts) Again() Mounts { return t.from.mounts() }

// Whole returns an error if something could not be read.
func (t Mounts) Whole() error {
	if len(t.Unread) == 0 {
		return nil
	}
	return t.Unread[0]
}

func (s mountSources) mounts() Mounts {
	t := Mounts{from: s}
	for _, line := range s.params {
		e, ok, err := fstab.ParseMount(line.At, line.Value)
		switch {
		case err != nil:
			t.Unread = append(t.Unread, err)
		case ok:
			t.All = append(t.All, MountLine{e, line.At, ""})
		}
	}
	for _, file := range s.fstabs {
		t.readFstab(file)
	}
	t.Unread = append(t.Unread, s.unknown...)
	return t
}

// readFstab adds the lines of one fstab. The name of a jail's may be written twice: jail(8) then mounts its
// lines twice.
func (t *Mounts) readFstab(file conffile.Located) {
	name := file.Value
	if !path.IsAbs(name) {
		t.Unread = append(t.Unread, &conffile.Error{
			File:    name,
			Message: "not an absolute path",
			Fix:     "write the whole path of the fstab",
		})
		return
	}
	data, err := t.from.read.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && t.from.jail == "" && !t.from.read.IsLink(name):
		return
	case errors.Is(err, fs.ErrNotExist):
		e := conffile.Errorf(file.At, "write "+name+" or mend the name", "%s is not there", name)
		if t.from.jail != "" {
			e.Message = fmt.Sprintf("fstab %s of jail %s is not there", name, t.from.jail)
		}
		e.Err = err
		t.Unread = append(t.Unread, e)
		return
	case err != nil:
		e := conffile.FileError(name, err)
		e.Fix = cmp.Or(e.Fix, "mend it")
		t.Unread = append(t.Unread, e)
		return
	}
	parse := fstab.ParseJail
	if t.from.jail == "" {
		parse = fstab.Parse
	}
	entries, bad := parse(name, data)
	for _, e := range entries {
		t.All = append(t.All, MountLine{e, conffile.At(name, e.Line), name})
	}
	t.Unread = append(t.Unread, bad...)
	t.Fstabs = append(t.Fstabs, Fstab{name, data})
}

// problems returns a warning for each fstab of a jail that is not there, and the first fault for which
// jail(8) does not start it. Of rc.conf's jails a missing fstab was reported already.
func (t Mounts) problems(d *jailDef) (missing []conffile.Problem, fault *conffile.Problem) {
	for _, e := range t.Unread[:len(t.Unread)-len(t.from.unknown)] {
		switch {
		case !errors.Is(e, fs.ErrNotExist):
			if fault == nil {
				p := conffile.ProblemOf(e, e.File, d.name, "")
				fault = &p
			}
		case d.rcPrefix == "":
			missing = append(missing, conffile.Warn(conffile.NoFstab, conffile.At(e.File, e.Line), d.name,
				e.Fix, "%s", e.Message))
		}
	}
	return missing, fault
}

// on reports whether a mount is on a directory. Both may be named through links.
func (t Mounts) on(m MountLine, dir string) bool {
	at := path.Clean(m.Dir)
	return at == dir || path.Base(at) == path.Base(dir) && t.from.read.Real(at) == t.from.read.Real(dir)
}

// last returns the last mount on a directory, which hides the others, or nil.
func (t Mounts) last(dir string) *MountLine {
	for i := range slices.Backward(t.All) {
		if t.on(t.All[i], dir) {
			return &t.All[i]
		}
	}
	return nil
}

// doubled returns a problem for each doubled line.
func (t Mounts) doubled(jail string) (ps []conffile.Problem) {
	seen := map[string]MountLine{}
	for _, m := range t.All {
		if first, doubled := seen[m.Key()]; doubled {
			ps = append(ps, conffile.Warn(conffile.MountedTwice, m.At, jail, "remove one of the two",
				"%s is mounted on %s twice; the first line is %s", m.Source, m.Dir, first.At))
			continue
		}
		seen[m.Key()] = m
	}
	return ps
}

// check finds mistakes in a target's mounts: two bases, lines that the root hides, base and root of different
// snapshots. base may be nil.
func (t Mounts) check(target *Target, base *MountLine) (ps []conffile.Problem) {
	var root *MountLine
	for i, m := range t.All {
		if base != nil && m.At != base.At && m.Source != base.Source && t.on(m, baseDir(target.Root)) {
			ps = append(ps, conffile.Warn(conffile.HiddenMount, base.At, target.Name,
				"keep the one that is meant",
				"%s hides %s of %s on %s", base.Source, m.Source, m.At, m.Dir))
		}
		if t.on(m, target.Root) {
			root = &t.All[i]
			ps = append(ps, hiddenBy(root, t.All[:i], target)...)
		}
	}
	if root != nil && base != nil {
		ps = append(ps, compareSnapshots(target, root, base)...)
	}
	return ps
}

// hiddenBy warns of mounts below the root that come before the root, which then hides them.
func hiddenBy(root *MountLine, before []MountLine, t *Target) (ps []conffile.Problem) {
	for _, m := range before {
		if dir := path.Clean(m.Dir); dir != t.Root && within(dir, t.Root) {
			ps = append(ps, conffile.Warn(conffile.HiddenMount, m.At, t.Name,
				fmt.Sprintf("put it below %s", root.At),
				"%s is mounted on %s before the root, which hides it",
				m.Source, m.Dir))
		}
	}
	return ps
}

// compareSnapshots warns if the programs and their defaults are of different snapshots.
func compareSnapshots(t *Target, root, base *MountLine) []conffile.Problem {
	warn := func(fix, format string, args ...any) []conffile.Problem {
		return []conffile.Problem{conffile.Warn(conffile.SnapshotsDiffer, base.At, t.Name, fix, format,
			args...)}
	}
	r, rok := ParseSnapshot(root.Source)
	b, bok := ParseSnapshot(base.Source)
	switch {
	case !rok || !bok:
	case r.Name != b.Name:
		return warn("name the same snapshot in both lines",
			"base is snapshot %s, but the root at %s is snapshot %s", b.Name, root.At, r.Name)
	case r.Prototype() != b.Prototype():
		return warn("take both from the same prototype",
			"base is of prototype %s, but the root at %s is of %s", b.Prototype(), root.At, r.Prototype())
	}
	return nil
}
