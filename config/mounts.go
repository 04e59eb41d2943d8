package config

import (
	"cmp"
	"errors"
	"io/fs"
	"path"
	"strings"
)

// mount is one line of a jail's fstab, or of the mount parameter of jail.conf.
type mount struct {
	FstabEntry
	at    Origin
	fstab string // the fstab that has the line, "" for the mount parameter
}

// jailMounts reads all that is mounted for a jail, in the order in which jail(8) mounts it. An fstab that is not there
// has been reported already or mounts nothing; one that is malformed makes the jail unusable.
func (l *loader) jailMounts(d *jailDef) ([]mount, *Problem) {
	var all []mount
	for _, line := range d.mounts {
		e, ok, err := parseFstabLine(line.at, line.value)
		if err != nil {
			p := problemOf(err, line.at.File, d.name, "")
			return nil, &p
		}
		if ok {
			all = append(all, mount{e, line.at, ""})
		}
	}
	for _, file := range d.fstabs {
		entries, err := l.fstab(file)
		if errors.Is(err, fs.ErrNotExist) {
			l.missingFstab(d, file)
			continue
		}
		if err != nil {
			p := problemOf(err, file, d.name, "mend it")
			return nil, &p
		}
		for _, e := range entries {
			all = append(all, mount{e, Origin{file, e.Line}, file})
		}
	}
	return all, nil
}

// missingFstab warns that jail(8) will not start a jail; for rc.conf's jails that has been said.
func (l *loader) missingFstab(d *jailDef, file string) {
	if d.rcPrefix == "" {
		l.problem(warningAt(d.origin["fstab"], d.name, "write "+file+" or mend the name", "fstab %s of jail %s is not there", file, d.name))
	}
}

// on reports whether a mount is on a directory, which either may name through links.
func (l *loader) on(m mount, dir string) bool {
	at := path.Clean(m.Dir)
	return at == dir || path.Base(at) == path.Base(dir) && l.read.real(at) == l.read.real(dir)
}

// baseMount returns the mount that gives a target its base: the last one on ROOT/conf/base/etc, which hides the others.
func (l *loader) baseMount(t *Target, mounts []mount) *mount {
	var base *mount
	for i, m := range mounts {
		if l.on(m, path.Join(t.Root, "conf/base/etc")) {
			base = &mounts[i]
		}
	}
	return base
}

// useBaseMount takes base and base id from fstab. A source that is no path (a dataset's snapshot) is read where it is mounted.
func (l *loader) useBaseMount(t *Target, m *mount) {
	t.BaseID = baseID(m.Source)
	t.Origin["base"] = m.at
	if path.IsAbs(m.Source) {
		t.Base = path.Clean(m.Source)
	}
	t.Fstab = m.fstab
}

// checkMounts finds the slips of an fstab: a line twice, two bases, base and root of different snapshots.
func (l *loader) checkMounts(t *Target, mounts []mount, base *mount) {
	seen := map[string]mount{}
	var root *mount
	for i, m := range mounts {
		first, doubled := seen[m.key()]
		if doubled {
			l.problem(warningAt(m.at, t.Name, "remove one of the two",
				"%s is mounted on %s twice; the first line is %s", m.Source, m.Dir, first.at))
			continue
		}
		seen[m.key()] = m
		if base != nil && m.at != base.at && l.on(m, path.Join(t.Root, "conf/base/etc")) && m.Source != base.Source {
			l.problem(warningAt(base.at, t.Name, "keep the one that is meant",
				"%s hides %s of line %d on %s", base.Source, m.Source, m.at.Line, m.Dir))
		}
		if l.on(m, t.Root) {
			root = &mounts[i]
		}
	}
	if root != nil && base != nil {
		l.checkSnapshots(t, root, base)
	}
}

// checkSnapshots warns where programs and their defaults are of different snapshots.
func (l *loader) checkSnapshots(t *Target, root, base *mount) {
	r, rok := ParseSnapshot(root.Source)
	b, bok := ParseSnapshot(base.Source)
	switch {
	case !rok || !bok:
	case r.Name != b.Name:
		l.problem(warningAt(base.at, t.Name, "name the same snapshot in both lines",
			"base is snapshot %s, but the root at %s is snapshot %s", b.Name, root.at, r.Name))
	case r.Prototype() != b.Prototype():
		l.problem(warningAt(base.at, t.Name, "take both from the same prototype",
			"base is of prototype %s, but the root at %s is of %s", b.Prototype(), root.at, r.Prototype()))
	}
}

// real resolves the links of a path as far as it exists, so that two names of one place compare equal.
func (f *rootFiles) real(name string) string {
	name = path.Clean(name)
	for p, rest := name, ""; ; p, rest = path.Dir(p), path.Join(path.Base(p), rest) {
		if rel, _, err := f.resolve(p); err == nil {
			return path.Join("/", rel, rest)
		}
		if p == "/" {
			return name
		}
	}
}

// within reports whether a path is a directory or below it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// tree is one of a target's directories, for finding overlaps.
type tree struct {
	target   *Target
	key      string // base, cfg or live
	path     string // as configured
	real     string // without links
	writable bool
}

func (l *loader) trees(t *Target) []tree {
	return []tree{
		{t, "live", t.Live, l.read.real(t.Live), true},
		{t, "cfg", t.Cfg, l.read.real(t.Cfg), true},
		{t, "base", t.Base, l.read.real(t.Base), false},
	}
}

// origin is where a tree was set, by itself or through the root.
func (x tree) origin() Origin {
	return cmp.Or(x.target.Origin[x.key], x.target.Origin["root"])
}

// rank says how much a tree is the one to complain about: one that cfgd.toml sets by itself, then one that follows from a root there.
func (x tree) rank(toml string) int {
	switch {
	case toml == "":
	case x.target.Origin[x.key].File == toml:
		return 2
	case x.origin().File == toml:
		return 1
	}
	return 0
}

// overlap reports whether one tree is the other or inside it. Bases may be shared; a snapshot is outside of the tree that it
// was taken of, as far as others are concerned.
func overlap(a, b tree) bool {
	if !a.writable && !b.writable {
		return false
	}
	if a.target != b.target && (snapshotOf(a, b) || snapshotOf(b, a)) {
		return false
	}
	return within(a.path, b.path) || within(b.path, a.path) || within(a.real, b.real) || within(b.real, a.real)
}

// snapshotOf reports whether a base is a snapshot of a tree that holds its .zfs or .cfgd directory.
func snapshotOf(base, live tree) bool {
	s, ok := ParseSnapshot(base.path)
	return ok && !base.writable && path.IsAbs(s.Tree) && within(s.Tree, live.path)
}

// checkTrees refuses a target whose own trees overlap.
func (l *loader) checkTrees(t *Target) bool {
	trees := l.trees(t)
	for i, a := range trees {
		for _, b := range trees[:i] {
			if overlap(a, b) {
				return l.refuseOverlap(a, b)
			}
		}
	}
	return true
}

// overlaps drops each target whose trees overlap those of one before it.
func (l *loader) overlaps() {
	var kept []*Target
	for _, t := range l.targets {
		if l.overlapsNone(t, kept) {
			kept = append(kept, t)
			continue
		}
		l.jails = append(l.jails, &Jail{Name: t.Name, Root: t.Root, Fstab: t.Fstab, Prestart: t.Prestart, Poststop: t.Poststop, Origin: t.Origin})
	}
	l.targets = kept
}

func (l *loader) overlapsNone(t *Target, others []*Target) bool {
	for _, o := range others {
		for _, a := range l.trees(t) {
			for _, b := range l.trees(o) {
				if overlap(a, b) {
					return l.refuseOverlap(a, b)
				}
			}
		}
	}
	return true
}

// refuseOverlap reports two trees that overlap, and returns false. It is an error of cfgd.toml where that set one of them, and the
// target's own trouble where the machine's files did.
func (l *loader) refuseOverlap(a, b tree) bool {
	if a.rank(l.conf.file) < b.rank(l.conf.file) {
		a, b = b, a
	}
	at := a.origin()
	how := "overlaps"
	switch {
	case a.path == b.path:
		how = "is"
	case within(a.path, b.path):
		how = "is inside"
	}
	fix := "give each tree a directory of its own"
	if l.conf.file != "" && at.File == l.conf.file {
		l.fail(at, fix, "%s %s of %s %s %s %s of %s", a.key, a.path, a.target.Name, how, b.key, b.path, b.target.Name)
		return false
	}
	l.problem(errorAt(at, a.target.Name, fix, "%s %s of %s %s %s %s of %s", a.key, a.path, a.target.Name, how, b.key, b.path, b.target.Name))
	return false
}
