package config

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/fstab"
	mounttable "cfgd/internal/mount"
)

// Mount is what is mounted on a directory.
type Mount struct {
	Source string // a device, a path or a word such as tmpfs
	Type   string // as mount(8) names it: ufs, tmpfs, nullfs
}

// MountLookup returns the topmost mount on exactly this directory, false if there is none.
type MountLookup func(dir string) (Mount, bool, error)

// Check returns the problems that Load found and those that only the running machine shows: live trees
// that are not in memory, and files of the host's /etc that can only be changed in the image. It is
// separate from Load, because a hook that runs between two mounts would find problems that are none a
// moment later. A nil lookup uses the system's table. With --root nothing is mounted, and mounts are not
// checked.
func (m *Model) Check(lookup MountLookup) []conffile.Problem {
	if lookup == nil {
		lookup = systemMount
	}
	problems := slices.Clone(m.Problems)
	for _, t := range m.Targets {
		if m.Root == "" {
			problems = append(problems, checkLive(t, lookup)...)
		}
		if t.Host() {
			problems = append(problems, m.checkImageFiles(t)...)
		}
	}
	problems = append(problems, m.checkShared()...)
	return conffile.SortProblems(append(problems, m.checkNano()...))
}

// checkShared reports two jails whose fstabs mount one cfg: each would overwrite the overrides of the
// other.
func (m *Model) checkShared() []conffile.Problem {
	read, err := conffile.Open(m.Root)
	if err != nil {
		return nil
	}
	var problems []conffile.Problem
	first := map[string]*Target{}
	for _, t := range m.Targets {
		from := t.CfgSource
		switch {
		case path.IsAbs(from): // of nullfs(5), or a device
			from = read.Real(from)
		case t.CfgType != "zfs": // a word without a meaning, such as tmpfs
			from = ""
		}
		other := first[from]
		switch {
		case from == "":
		case other == nil:
			first[from] = t
		default:
			problems = append(problems, conffile.Refuse(conffile.SharedCfg, t.CfgLine, t.Name,
				"give each jail a cfg of its own",
				"cfg of %s is %s, which %s mounts as cfg of %s: each would save over the other's overrides",
				t.Name, t.CfgSource, other.CfgLine, other.Name))
		}
	}
	return problems
}

// systemMount looks up a mount in the system's table.
func systemMount(dir string) (Mount, bool, error) {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	on, err := mounttable.On(dir)
	if err != nil || len(on) == 0 {
		return Mount{}, false, err
	}
	top := on[len(on)-1]
	return Mount{Source: top.Source, Type: top.Type}, true, nil
}

// checkLive warns if a live tree is on a disk: then a restart would not bring back the defaults, and
// cfgd's report of what a restart loses is wrong. A jail that is down (no base mounted) cannot be
// checked.
func checkLive(t *Target, lookup MountLookup) []conffile.Problem {
	if t.Memory == BackingDir {
		return nil
	}
	at := t.Origin["live"]
	if at == (conffile.Origin{}) {
		at = t.Origin["root"]
	}
	live, mounted, err := lookup(t.Live)
	switch {
	case err != nil:
		return []conffile.Problem{conffile.Warn(conffile.NotInMemory, at, t.Name, "",
			"look at the mount on %s: %v", t.Live, err)}
	case mounted && inMemory(live):
		return nil
	case mounted:
		return []conffile.Problem{conffile.Warn(conffile.NotInMemory, at, t.Name,
			`mount it as a memory filesystem, or write memory = "dir" in cfgd.toml`,
			"live %s is on %s (%s), not in memory", t.Live, live.Source, live.Type)}
	case t.Host():
		return []conffile.Problem{conffile.Warn(conffile.NotInMemory, at, t.Name,
			"see diskless(8) and nanobsd(8): /etc is mounted by rc.initdiskless",
			"live %s is not a filesystem in memory", t.Live)}
	}
	if _, up, err := lookup(path.Join(t.Root, "conf/base/etc")); err != nil || !up {
		return nil
	}
	return []conffile.Problem{conffile.Warn(conffile.NotInMemory, at, t.Name, "run: cfgd jail init "+t.Name,
		"the base of %s is mounted, but live %s is not in memory", t.Name, t.Live)}
}

// inMemory reports whether a mount is a tmpfs(5) or on an md(4).
func inMemory(m Mount) bool {
	_, ok := m.backing()
	return ok
}

// backing returns the kind of memory of a mount. On Linux /dev/md is a disk array.
func (m Mount) backing() (Backing, bool) {
	switch {
	case m.Type == "tmpfs", m.Type == "ramfs":
		return BackingTmpfs, true
	case runtime.GOOS != "linux" && strings.HasPrefix(m.Source, "/dev/md"):
		return BackingMD, true
	}
	return "", false
}

// Backing returns what holds a target's live tree now; for a jail that is down, what the next start
// makes. rc.initdiskless makes the host's, an md(4) or a tmpfs(5) depending on the release; if neither is
// mounted it is a directory. A nil lookup uses the system's table.
func (m *Model) Backing(t *Target, lookup MountLookup) Backing {
	if m.Root != "" {
		return t.Memory
	}
	if lookup == nil {
		lookup = systemMount
	}
	live, mounted, err := lookup(t.Live)
	if b, ok := live.backing(); ok && mounted && err == nil {
		return b
	}
	if t.Host() && err == nil {
		return BackingDir
	}
	return t.Memory
}

// imageFiles are the files of /etc that are read before rc.initdiskless has populated it, and so from the
// image: an edit in memory has no effect, even if it is saved. What rc(8) reads later (rc.subr, rc.conf,
// ttys, login.conf for logins) comes from the populated tree and is not listed. The root line of fstab,
// which loader(8) reads, is checked separately.
var imageFiles = []struct{ name, why string }{
	{"rc", "init(8) starts it before /etc is populated"},
	{"rc.initdiskless", "it is what populates /etc"},
	{"diskless", "rc(8) looks for it to decide whether to populate /etc"},
}

// checkImageFiles warns of host files that differ from base and can only be changed in the image.
func (m *Model) checkImageFiles(t *Target) []conffile.Problem {
	read, err := conffile.Open(m.Root)
	if err != nil {
		return nil
	}
	const fix = "change it in the NanoBSD image, and put this copy back: cfgd restore --from base host "
	var problems []conffile.Problem
	for _, f := range imageFiles {
		live, base := path.Join(t.Live, f.name), path.Join(t.Base, f.name)
		if differ(read, live, base) {
			problems = append(problems, conffile.Warn(conffile.ImageDiffers, conffile.Origin{File: live},
				t.Name, fix+f.name,
				"differs from the image's, which alone counts: %s", f.why))
		}
	}
	return append(problems, checkRootLine(read, t)...)
}

// differ reports whether two files have different contents, or one of them is missing. It returns false
// if a file cannot be read.
func differ(read conffile.Reader, a, b string) bool {
	x, xerr := read.ReadFile(a)
	y, yerr := read.ReadFile(b)
	xgone, ygone := errors.Is(xerr, fs.ErrNotExist), errors.Is(yerr, fs.ErrNotExist)
	if xerr != nil && !xgone || yerr != nil && !ygone {
		return false
	}
	return xgone != ygone || !bytes.Equal(x, y)
}

// checkRootLine warns if the host's fstab names another root than the image's. The line belongs to the
// image: it differs between the slices, so a saved copy is wrong on the other slice.
func checkRootLine(read conffile.Reader, t *Target) []conffile.Problem {
	live, base := rootLine(read, t.Fstab), rootLine(read, path.Join(t.Base, "fstab"))
	if live == nil || base == nil || live.Source == base.Source {
		return nil
	}
	return []conffile.Problem{conffile.Warn(conffile.ImageDiffers, conffile.At(t.Fstab, live.Line), t.Name,
		"write "+base.Source+" again, and change it in the NanoBSD image if need be",
		"the root is %s here, but %s in the image, which alone counts: loader(8) reads it before /etc is "+
			"populated", live.Source, base.Source)}
}

// rootLine returns an fstab's entry for /, or nil.
func rootLine(read conffile.Reader, file string) *fstab.Entry {
	data, err := read.ReadFile(file)
	if err != nil {
		return nil
	}
	entries, _ := fstab.Parse(file, data)
	for i, e := range entries {
		if e.Dir == "/" {
			return &entries[i]
		}
	}
	return nil
}
