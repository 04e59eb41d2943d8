package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"cfgd/config/conffile"
	"cfgd/config/fstab"
)

// mount is one line of a jail's fstab, or of the mount parameter of jail.conf.
type mount struct {
	fstab.Entry
	at    conffile.Origin
	fstab string // the fstab that has the line, "" for the mount parameter
}

// mountsOf returns the mounts of an fstab.
func mountsOf(file string, entries []fstab.Entry) []mount {
	var ms []mount
	for _, e := range entries {
		ms = append(ms, mount{e, conffile.At(file, e.Line), file})
	}
	return ms
}

// mountTable is what a jail's fstabs and mount parameters mount, in the order in which jail(8) mounts it.
type mountTable struct {
	read *conffile.Files // resolves links
	all  []mount
}

// readMounts reads the mounts of a jail, and returns a problem for each fstab that does not exist. A
// malformed fstab or line makes the jail unusable: that is the last result.
func readMounts(read *conffile.Files, d *jailDef) (mountTable, []conffile.Problem, *conffile.Problem) {
	t := mountTable{read: read}
	var missing []conffile.Problem
	for _, line := range d.mounts {
		e, ok, err := fstab.ParseJailLine(line.At, line.Value)
		if err != nil {
			p := conffile.ProblemOf(err, line.At.File, d.name, "")
			return t, missing, &p
		}
		if ok {
			t.all = append(t.all, mount{e, line.At, ""})
		}
	}
	for _, file := range d.fstabs {
		entries, err := readFstab(read, file, fstab.ParseJail)
		switch {
		case err == nil:
			t.all = append(t.all, mountsOf(file, entries)...)
		case !errors.Is(err, fs.ErrNotExist):
			p := conffile.ProblemOf(err, file, d.name, "mend it")
			return t, missing, &p
		case d.rcPrefix == "": // for rc.conf's jails that was reported already
			missing = append(missing, conffile.Warn(conffile.NoFstab, d.origin["fstab"], d.name,
				"write "+file+" or mend the name", "fstab %s of jail %s is not there", file, d.name))
		}
	}
	return t, missing, nil
}

// readFstab reads and parses an fstab. The error wraps fs.ErrNotExist if there is none.
func readFstab(read conffile.Reader, file string,
	parse func(string, []byte) ([]fstab.Entry, error)) ([]fstab.Entry, error) {
	if !path.IsAbs(file) {
		return nil, &conffile.Error{
			File:    file,
			Message: "not an absolute path",
			Fix:     "write the whole path of the fstab",
		}
	}
	data, err := read.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parse(file, data)
}

// on reports whether a mount is on a directory. Both may be named through links.
func (t mountTable) on(m mount, dir string) bool {
	at := path.Clean(m.Dir)
	return at == dir || path.Base(at) == path.Base(dir) && t.read.Real(at) == t.read.Real(dir)
}

// last returns the last mount on a directory, which hides the others, or nil.
func (t mountTable) last(dir string) *mount {
	for i := range slices.Backward(t.all) {
		if t.on(t.all[i], dir) {
			return &t.all[i]
		}
	}
	return nil
}

// doubled returns a problem for each doubled line.
func (t mountTable) doubled(jail string) (ps []conffile.Problem) {
	seen := map[string]mount{}
	for _, m := range t.all {
		if first, doubled := seen[m.Key()]; doubled {
			ps = append(ps, conffile.Warn(conffile.MountedTwice, m.at, jail, "remove one of the two",
				"%s is mounted on %s twice; the first line is %s", m.Source, m.Dir, first.at))
			continue
		}
		seen[m.Key()] = m
	}
	return ps
}

// check finds mistakes in a target's mounts: two bases, lines that the root hides, base and root of different
// snapshots. base may be nil.
func (t mountTable) check(target *Target, base *mount) (ps []conffile.Problem) {
	var root *mount
	for i, m := range t.all {
		if base != nil && m.at != base.at && m.Source != base.Source && t.on(m, baseDir(target.Root)) {
			ps = append(ps, conffile.Warn(conffile.HiddenMount, base.at, target.Name,
				"keep the one that is meant",
				"%s hides %s of line %d on %s", base.Source, m.Source, m.at.Line, m.Dir))
		}
		if t.on(m, target.Root) {
			root = &t.all[i]
			ps = append(ps, hiddenBy(root, t.all[:i], target)...)
		}
	}
	if root != nil && base != nil {
		ps = append(ps, compareSnapshots(target, root, base)...)
	}
	return ps
}

// hiddenBy warns of mounts below the root that come before the root, which then hides them.
func hiddenBy(root *mount, before []mount, t *Target) (ps []conffile.Problem) {
	for _, m := range before {
		if dir := path.Clean(m.Dir); dir != t.Root && within(dir, t.Root) {
			ps = append(ps, conffile.Warn(conffile.HiddenMount, m.at, t.Name,
				fmt.Sprintf("put it below %s", root.at),
				"%s is mounted on %s before the root, which hides it",
				m.Source, m.Dir))
		}
	}
	return ps
}

// compareSnapshots warns if the programs and their defaults are of different snapshots.
func compareSnapshots(t *Target, root, base *mount) []conffile.Problem {
	warn := func(fix, format string, args ...any) []conffile.Problem {
		return []conffile.Problem{conffile.Warn(conffile.SnapshotsDiffer, base.at, t.Name, fix, format,
			args...)}
	}
	r, rok := ParseSnapshot(root.Source)
	b, bok := ParseSnapshot(base.Source)
	switch {
	case !rok || !bok:
	case r.Name != b.Name:
		return warn("name the same snapshot in both lines",
			"base is snapshot %s, but the root at %s is snapshot %s", b.Name, root.at, r.Name)
	case r.Prototype() != b.Prototype():
		return warn("take both from the same prototype",
			"base is of prototype %s, but the root at %s is of %s", b.Prototype(), root.at, r.Prototype())
	}
	return nil
}
