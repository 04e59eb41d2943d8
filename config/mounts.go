package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"cfgd/config/conffile"
	"cfgd/config/fstab"
)

// mount is one line of a jail's fstab, or of the mount parameter of jail.conf.
type mount struct {
	fstab.Entry
	at    conffile.Origin
	fstab string // the fstab that has the line, "" for the mount parameter
}

// jailMounts returns all mounts of a jail, in the order in which jail(8) mounts them. A missing fstab was
// reported already, or mounts nothing. A malformed one makes the jail unusable.
func (l *loader) jailMounts(d *jailDef) ([]mount, *conffile.Problem) {
	var all []mount
	for _, line := range d.mounts {
		e, ok, err := fstab.ParseJailLine(line.At, line.Value)
		if err != nil {
			p := conffile.ProblemOf(err, line.At.File, d.name, "")
			return nil, &p
		}
		if ok {
			all = append(all, mount{e, line.At, ""})
		}
	}
	for _, file := range d.fstabs {
		entries, err := l.fstab(file, fstab.ParseJail)
		if errors.Is(err, fs.ErrNotExist) {
			l.missingFstab(d, file)
			continue
		}
		if err != nil {
			p := conffile.ProblemOf(err, file, d.name, "mend it")
			return nil, &p
		}
		all = append(all, mountsOf(file, entries)...)
	}
	return all, nil
}

// mountsOf returns the mounts of an fstab.
func mountsOf(file string, entries []fstab.Entry) []mount {
	var ms []mount
	for _, e := range entries {
		ms = append(ms, mount{e, conffile.At(file, e.Line), file})
	}
	return ms
}

// missingFstab warns that jail(8) will not start a jail. For rc.conf's jails that was reported already.
func (l *loader) missingFstab(d *jailDef, file string) {
	if d.rcPrefix == "" {
		l.problem(conffile.Warn(conffile.NoFstab, d.origin["fstab"], d.name, "write "+file+
			" or mend the name",
			"fstab %s of jail %s is not there", file, d.name))
	}
}

// on reports whether a mount is on a directory. Both may be named through links.
func (l *loader) on(m mount, dir string) bool {
	at := path.Clean(m.Dir)
	return at == dir || path.Base(at) == path.Base(dir) && l.read.Real(at) == l.read.Real(dir)
}

// baseMount returns the mount of a target's base: the last one on ROOT/conf/base/etc, which hides the
// others.
func (l *loader) baseMount(t *Target, mounts []mount) *mount {
	var base *mount
	for i, m := range mounts {
		if l.on(m, path.Join(t.Root, "conf/base/etc")) {
			base = &mounts[i]
		}
	}
	return base
}

// useBaseMount sets base and base id from fstab. If the source is no path (a dataset's snapshot), the
// base is read at its mountpoint.
func (l *loader) useBaseMount(t *Target, m *mount) {
	t.BaseID = baseID(m.Source)
	t.Origin["base"] = m.at
	if path.IsAbs(m.Source) {
		t.Base = path.Clean(m.Source)
	}
	t.Fstab = m.fstab
}

// checkDoubled finds doubled lines.
func (l *loader) checkDoubled(jail string, mounts []mount) {
	seen := map[string]mount{}
	for _, m := range mounts {
		if first, doubled := seen[m.Key()]; doubled {
			l.problem(conffile.Warn(conffile.MountedTwice, m.at, jail, "remove one of the two",
				"%s is mounted on %s twice; the first line is %s", m.Source, m.Dir, first.at))
			continue
		}
		seen[m.Key()] = m
	}
}

// checkMounts finds mistakes in a target's fstab: two bases, lines that the root hides, base and root of
// different snapshots.
func (l *loader) checkMounts(t *Target, mounts []mount, base *mount) {
	var root *mount
	for i, m := range mounts {
		if base != nil && m.at != base.at && l.on(m, path.Join(t.Root, "conf/base/etc")) &&
			m.Source != base.Source {
			l.problem(conffile.Warn(conffile.HiddenMount, base.at, t.Name, "keep the one that is meant",
				"%s hides %s of line %d on %s", base.Source, m.Source, m.at.Line, m.Dir))
		}
		if l.on(m, t.Root) {
			root = &mounts[i]
			l.checkHiddenMounts(t, mounts[:i], root)
		}
	}
	if root != nil && base != nil {
		l.checkSnapshots(t, root, base)
	}
}

// checkHiddenMounts warns of mounts below the root that come before the root, which then hides them.
func (l *loader) checkHiddenMounts(t *Target, before []mount, root *mount) {
	for _, m := range before {
		if dir := path.Clean(m.Dir); dir != t.Root && within(dir, t.Root) {
			l.problem(conffile.Warn(conffile.HiddenMount, m.at, t.Name,
				fmt.Sprintf("put it below %s", root.at),
				"%s is mounted on %s before the root, which hides it", m.Source, m.Dir))
		}
	}
}

// checkSnapshots warns if the programs and their defaults are of different snapshots.
func (l *loader) checkSnapshots(t *Target, root, base *mount) {
	r, rok := ParseSnapshot(root.Source)
	b, bok := ParseSnapshot(base.Source)
	switch {
	case !rok || !bok:
	case r.Name != b.Name:
		l.problem(conffile.Warn(conffile.SnapshotsDiffer, base.at, t.Name,
			"name the same snapshot in both lines",
			"base is snapshot %s, but the root at %s is snapshot %s", b.Name, root.at, r.Name))
	case r.Prototype() != b.Prototype():
		l.problem(conffile.Warn(conffile.SnapshotsDiffer, base.at, t.Name,
			"take both from the same prototype",
			"base is of prototype %s, but the root at %s is of %s", b.Prototype(), root.at, r.Prototype()))
	}
}
