package jails

import (
	"fmt"
	"path"
	"time"

	"cfgd/prototype"
)

// ownTrees are the filesystems that belong to one jail, each with a mountpoint in the prototype.
var ownTrees = []string{"cfg", "var", "home"}

// start returns the part that is the same for every jail: its name, root and fstab.
func (s *Spec) start(now time.Time) *Creation {
	root := "/jail"
	if s.Prototype != nil {
		root = path.Dir(s.Prototype.Root)
	}
	return &Creation{Jail: s.Name, Time: now.UTC(), Root: path.Join(root, s.Name), base: s.Prototype,
		onSnapshot: s.Snapshot}
}

// Plan computes what has to be made for a new jail (the paper's section 3.6).
func (s *Spec) Plan(now time.Time) (*Creation, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	c := s.start(now)
	var tab fstabText
	tab.line(s.Prototype.Root+s.Mark+s.Snapshot, c.Root, "nullfs", "ro")
	tab.line(s.Prototype.Etc(s.Mark, s.Snapshot), c.Root+"/conf/base/etc", "nullfs", "ro")
	if s.Dataset != "" {
		own := path.Join(path.Dir(s.Dataset), s.Name)
		c.Datasets = append(c.Datasets, Dataset{Name: own})
		for _, r := range ownTrees {
			c.Datasets = append(c.Datasets, Dataset{Name: own + "/" + r})
			tab.line(own+"/"+r, c.Root+"/"+r, "zfs", "rw")
		}
	} else {
		own, in := ownDir(c.Root), ownDir(c.Root)
		if s.Embedded {
			in = c.Root
		} else {
			c.Dirs = append(c.Dirs, Dir{Name: own})
		}
		for _, r := range ownTrees {
			c.Dirs = append(c.Dirs, Dir{Name: in + "/" + r})
			tab.line(own+"/"+r, c.Root+"/"+r, "nullfs", "rw")
		}
	}
	c.Files = s.files(c, tab.String())
	return c, nil
}

// mountpoints are the directories of a prototype on which its jails mount something.
var mountpoints = []string{"etc", "cfg", "var", "home", "conf/base/etc"}

// private are the trees of a prototype that its jails do not see, with the last part of their datasets'
// names.
var private = [][2]string{{"var", "_var"}, {"usr/src", "_src"}, {"usr/ports", "_ports"}, {"usr/obj", "_obj"}}

// PlanPrototype computes what has to be made for a new prototype (the paper's section 3.3). With a
// dataset the system and its etc are two filesystems, one below the other, so that a recursive snapshot
// has both; the others are beside them. file is the cfgd.toml that makes the prototype known.
func (s *Spec) PlanPrototype(file string, now time.Time) (*Creation, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	c := s.start(now)
	c.Prototype, s.noHooks = true, true
	section := fmt.Sprintf("# cfgd proto create %s\n[prototype.%[1]s]\nroot = %q\n", s.Name, c.Root)
	if s.Dataset != "" {
		if !prototype.DatasetName.MatchString(s.Dataset) || path.Clean(s.Dataset) != s.Dataset {
			return nil, fmt.Errorf("%q is no dataset: POOL/NAME", s.Dataset)
		}
		section += fmt.Sprintf("dataset = %q\n", s.Dataset)
		c.Datasets = []Dataset{
			{Name: s.Dataset, Mountpoint: c.Root}, {Name: s.Dataset + "/etc", Mountpoint: inherit},
		}
		for _, p := range private {
			c.Datasets = append(c.Datasets, Dataset{Name: s.Dataset + p[1], Mountpoint: c.Root + "/" + p[0]})
		}
	}
	for _, dir := range mountpoints {
		c.Dirs = append(c.Dirs, Dir{Name: c.Root + "/" + dir})
	}
	section += fmt.Sprintf("# cfgd proto create %s: end\n", s.Name)
	c.Files = append(s.files(c, "# filesystems of "+s.Name+
		" that are not ZFS's own, such as: localhost:/FreeBSD "+c.Root+"/FreeBSD nfs rw 0 0\n"), File{
		Name: file, Text: section,
	})
	return c, nil
}

// ownDir returns the directory in which a jail without ZFS has its own trees, to be mounted in its root.
func ownDir(root string) string { return path.Dir(root) + "/.cfgd/" + path.Base(root) }
