package config

import (
	"cmp"
	"fmt"
	"path"
	"slices"

	"cfgd/config/conffile"
)

// targetDir is one of a target's directories, for finding overlaps.
type targetDir struct {
	target   *Target
	key      string // base, cfg or live
	path     string // as configured
	real     string // without links
	writable bool
}

// treesOf returns the trees of a target.
func treesOf(read *conffile.Files, t *Target) []targetDir {
	return []targetDir{
		{t, "live", t.Live, read.Real(t.Live), true},
		{t, "cfg", t.Cfg, read.Real(t.Cfg), true},
		{t, "base", t.Base, read.Real(t.Base), false},
	}
}

// origin returns where a tree was set, directly or through the root.
func (x targetDir) origin() conffile.Origin {
	return cmp.Or(x.target.Origin[x.key], x.target.Origin["root"])
}

// rank orders trees by which one to report: first one that cfgd.toml sets directly, then one that follows
// from a root there.
func (x targetDir) rank(toml string) int {
	switch {
	case toml == "":
	case x.target.Origin[x.key].File == toml:
		return 2
	case x.origin().File == toml:
		return 1
	}
	return 0
}

// overlap reports whether one tree is the other or inside it. Bases may be shared. A snapshot counts as
// outside of the tree that it was taken of.
func overlap(a, b targetDir) bool {
	if !a.writable && !b.writable {
		return false
	}
	if a.target != b.target && (snapshotOf(a, b) || snapshotOf(b, a)) {
		return false
	}
	return within(a.path, b.path) || within(b.path, a.path) || within(a.real, b.real) ||
		within(b.real, a.real)
}

// snapshotOf reports whether a base is a snapshot of a tree that holds its .zfs or .cfgd directory.
func snapshotOf(base, live targetDir) bool {
	s, ok := ParseSnapshot(base.path)
	return ok && !base.writable && path.IsAbs(s.Tree) && within(s.Tree, live.path)
}

// ownOverlap returns two trees of one target that overlap.
func ownOverlap(trees []targetDir) (a, b targetDir, clash bool) {
	for i, a := range trees {
		for _, b := range trees[:i] {
			if overlap(a, b) {
				return a, b, true
			}
		}
	}
	return a, b, false
}

// dropOverlaps returns the targets whose trees overlap those of none before them. It calls refuse for each of
// the others, with the two trees.
func dropOverlaps(read *conffile.Files, all []*Target,
	refuse func(t *Target, a, b targetDir)) (kept []*Target) {
	var index treeIndex
	for _, t := range all {
		trees := treesOf(read, t)
		if a, b, clash := index.clash(trees); clash {
			refuse(t, a, b)
			continue
		}
		index.add(trees)
		kept = append(kept, t)
	}
	return kept
}

// treeIndex finds the trees that may overlap a tree without comparing all: a machine may have a thousand
// targets, and every hook of a jail loads the configuration. Bases have an index of their own, because a
// thousand targets may share one.
type treeIndex struct {
	trees    []targetDir
	writable pathIndex
	readOnly pathIndex
}

// pathIndex has the trees at each path, and below each directory, by their numbers.
type pathIndex struct{ at, below map[string][]int }

// paths returns the names of a tree.
func (x targetDir) paths() []string {
	if x.path == x.real {
		return []string{x.path}
	}
	return []string{x.path, x.real}
}

// above returns the directories that hold a path, the nearest first.
func above(p string) []string {
	var dirs []string
	for p != "/" && p != "." {
		p = path.Dir(p)
		dirs = append(dirs, p)
	}
	return dirs
}

func (x *treeIndex) add(trees []targetDir) {
	for _, t := range trees {
		in := &x.readOnly
		if t.writable {
			in = &x.writable
		}
		for _, p := range t.paths() {
			in.add(p, len(x.trees))
		}
		x.trees = append(x.trees, t)
	}
}

func (in *pathIndex) add(p string, n int) {
	if in.at == nil {
		in.at, in.below = map[string][]int{}, map[string][]int{}
	}
	in.at[p] = append(in.at[p], n)
	for _, dir := range above(p) {
		in.below[dir] = append(in.below[dir], n)
	}
}

// near returns the numbers of the trees at a path, above and below it.
func (in *pathIndex) near(p string) []int {
	found := slices.Concat(in.at[p], in.below[p])
	for _, dir := range above(p) {
		found = append(found, in.at[dir]...)
	}
	return found
}

// clash returns the first tree in the index that overlaps one of a target's trees, after that tree.
func (x *treeIndex) clash(trees []targetDir) (a, b targetDir, ok bool) {
	first := len(x.trees)
	for _, t := range trees {
		for _, p := range t.paths() {
			near := x.writable.near(p)
			if t.writable {
				near = append(near, x.readOnly.near(p)...)
			}
			for _, n := range near {
				if n < first && overlap(t, x.trees[n]) {
					first, a = n, t
				}
			}
		}
	}
	if first == len(x.trees) {
		return a, b, false
	}
	return a, x.trees[first], true
}

// reportOverlap reports two trees that overlap. It is an error of cfgd.toml, the file toml, if that set
// one of them, and otherwise a problem of the target.
func reportOverlap(f *conffile.Findings, toml string, a, b targetDir) {
	if a.rank(toml) < b.rank(toml) {
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
	const fix = "give each tree a directory of its own"
	said := fmt.Sprintf("%s %s of %s %s %s %s of %s", a.key, a.path, a.target.Name, how, b.key, b.path,
		b.target.Name)
	if toml != "" && at.File == toml {
		f.Fail(at, fix, "%s", said)
		return
	}
	f.Add(conffile.Refuse(conffile.TreesOverlap, at, a.target.Name, fix, "%s", said))
}
