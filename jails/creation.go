package jails

import (
	"cmp"
	"time"

	"cfgd/config"
	"cfgd/internal/run"
)

// Creation is the plan of a new jail: all that is made for it. The same value is the record of what was
// made. Only that is ever undone.
type Creation struct {
	Jail      string    `json:"jail"`
	Time      time.Time `json:"time"`
	Root      string    `json:"root"`
	Snapshots []string  `json:"snapshots,omitempty"` // of another jail's datasets, for clones
	Datasets  []Dataset `json:"datasets,omitempty"`  // parents first
	Dirs      []Dir     `json:"dirs,omitempty"`      // parents first
	Files     []File    `json:"files"`               // of a jail, its fstab first
	Prototype bool      `json:"prototype,omitempty"` // it is one, and no target
	Undoing   bool      `json:"undoing,omitempty"`   // its undoing has begun

	Notes []string `json:"-"` // what a reader should know of the plan

	base       *config.Prototype // whose snapshot the jail is on; nil for a prototype
	onSnapshot string            // its name
}

// Dataset is a ZFS filesystem.
type Dataset struct {
	Name   string `json:"name"`
	Origin string `json:"origin,omitempty"` // the snapshot that it is a clone of
	// Mountpoint is where ZFS mounts it: "" for legacy, so that fstab decides, or inherit, so that the
	// dataset above decides.
	Mountpoint string `json:"mountpoint,omitempty"`
}

// Dir is a directory.
type Dir struct {
	Name string `json:"name"`
	From string `json:"from,omitempty"` // the tree that it is a copy of
}

// File is a file of the host: a whole file, or lines at the end of an existing one.
type File struct {
	Name  string `json:"name"`
	Text  string `json:"text"`
	Whole bool   `json:"whole,omitempty"`
}

// snapshot takes all snapshots at one moment.
func (c *Creation) snapshot() run.Cmd {
	return run.Command("zfs", append([]string{"snapshot"}, c.Snapshots...)...)
}

// make makes the dataset.
func (d Dataset) make() run.Cmd {
	if d.Origin != "" {
		return run.Command("zfs", "clone", "-o", "mountpoint=legacy", d.Origin, d.Name)
	}
	if d.Mountpoint == inherit {
		return run.Command("zfs", "create", d.Name)
	}
	return run.Command("zfs", "create", "-o", "mountpoint="+cmp.Or(d.Mountpoint, "legacy"), d.Name)
}

const inherit = "inherit"

// Lines returns what will be made, for people: commands as they run, and files.
func (c *Creation) Lines() []string {
	var all []string
	if len(c.Snapshots) > 0 {
		all = append(all, c.snapshot().String())
	}
	for _, d := range c.Datasets {
		all = append(all, d.make().String())
	}
	all = append(all, "mkdir "+c.Root)
	for _, d := range c.Dirs {
		if d.From != "" {
			all = append(all, "copy "+d.From+" to "+d.Name)
		} else {
			all = append(all, "mkdir "+d.Name)
		}
	}
	for _, f := range c.Files {
		if f.Whole {
			all = append(all, "write "+f.Name)
		} else {
			all = append(all, "append to "+f.Name)
		}
	}
	return all
}

// Holds returns what is destroyed with a jail: its datasets and directories.
func (c *Creation) Holds() []string {
	var all []string
	for _, d := range c.Datasets {
		all = append(all, d.Name)
	}
	for _, d := range c.Dirs {
		all = append(all, d.Name)
	}
	return append(all, c.Root)
}
