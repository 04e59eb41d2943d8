// Package config is the configuration model, the centre of cfgd.
//
// rcconf, jailconf, fstab and tomldoc turn files into values with their places; rcjails.go, confjails.go and
// findjails.go find the jails in them, and targets.go makes the targets that load.go puts into a Model.
//
// It owns the list of /etc trees: the targets with their base, cfg, live, backing, classes and timings, and
// for every value the file and line that it came from. It reads rc.conf, jail.conf, fstab and cfgd.toml. No
// other package decides from these files what a machine is, or parses an fstab: Mounts has what each jail
// mounts, and Mounts.Again reads the fstabs again for whoever holds a lock. What a machine lacks, and another
// snapshot in its fstabs, are edits as values (Missing, SwitchTo); others write them.
//
// What always holds: nothing is executed, and this package writes nothing. Shell is parsed, never run. A
// value that cannot be known statically is reported with file and line, and never guessed. Paths in the
// model are as in the configuration, without the directory of --root; Model.Path adds that directory.
package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"

	"cfgd/config/conffile"
	"cfgd/internal/hostfile"
)

// HostName is the name of the target for the machine's own /etc.
const HostName = "host"

// Target is one /etc that cfgd looks after: the host's, or a jail's. Root, Base, Cfg, Live and Fstab are
// absolute paths as in the configuration, without --root's directory.
type Target struct {
	Name   string
	Root   string // the jail's root directory; "/" for the host
	Base   string // read-only defaults
	BaseID string // such as proto/etc@2 for a snapshot; "" where only the tree's digest can name it
	Cfg    string // the persistent store of differences
	Live   string // the writable tree in memory
	Fstab  string // the jail's fstab that mounts base, or its first; "" if none; /etc/fstab for the host
	Mounts Mounts // all that the jail mounts; all of /etc/fstab for the host

	// CfgNoauto is true if fstab mounts Cfg with noauto, so that it is mounted only while a save needs
	// it.
	CfgNoauto bool
	// CfgReadOnly is true if fstab mounts Cfg read-only, so that it is writable only while a save needs
	// it.
	CfgReadOnly bool
	// CfgMount is true if an fstab mounts Cfg: while nothing is mounted there, the directory at the path
	// is not cfg.
	CfgMount bool
	// CfgSource and CfgType are what the jail's fstab mounts on Cfg: a dataset of type zfs, a directory
	// of type nullfs, or a device. They serve to find cfg while it is not mounted there. "" if no jail's
	// fstab mounts it.
	CfgSource, CfgType string
	CfgLine            conffile.Origin // the line that says so

	Prestart []string // commands of exec.prestart, in the order in which they run
	Poststop []string // commands of exec.poststop

	// Health is the command that says whether the jail came up, of [jail.NAME] in cfgd.toml; "" if none.
	Health string

	Definition Definition
	Settings
	Classes  *Classes
	Checkers *Checkers

	// Origin has an entry for every value that was set: root, base, cfg, live, fstab, prestart, poststop,
	// and cfgd.toml's keys.
	Origin map[string]conffile.Origin
}

// Host reports whether the target is the machine's own /etc.
func (t *Target) Host() bool { return t.Name == HostName }

// Jail is a jail of rc.conf or jail.conf that is not a target, such as a prototype.
type Jail struct {
	Name     string
	Root     string
	Fstab    string
	Prestart []string
	Poststop []string
	Origin   map[string]conffile.Origin

	Definition Definition
	Mounts     Mounts
}

// Prototype is a tree whose snapshots are roots and bases of jails.
type Prototype struct {
	Name    string
	Dataset string // ZFS dataset, "" if not in cfgd.toml: zfs(8) finds it by Root
	Root    string // root directory, "" if neither cfgd.toml nor a jail's fstab has it
	Origin  map[string]conffile.Origin

	real string // Root without links
}

// Has reports whether a snapshot is one of the prototype's tree, or of a tree below it.
func (p *Prototype) Has(s Snapshot) bool {
	return p.Root != "" && within(s.Tree, p.Root) || p.real != "" && within(s.Tree, p.real) ||
		p.Dataset != "" && within(s.Tree, p.Dataset)
}

// Etc returns the path of a prototype's etc in one of its snapshots, by the mark of the snapshots.
func (p *Prototype) Etc(mark, name string) string {
	if mark == snapshotMarks[0] {
		return p.Root + "/etc" + mark + name
	}
	return p.Root + mark + name + "/etc"
}

// Options are what Load reads, and for which system.
type Options struct {
	Root string // --root: every path of the system is taken below this directory; "" for the running machine
	File string // --config: a file named as the shell sees it; "" for DefaultFile below Root, if it is there
	GOOS string // whose backing memory = "auto" means; "" for the system that runs
	Euid int    // likewise; -1 for the user who runs
}

// Model is all that Load found: targets and other jails sorted by name (the host first), and every problem.
type Model struct {
	Root     string // --root's directory, "" for the running machine
	File     string // the cfgd.toml that was read, "" if there is none
	Targets  []*Target
	Jails    []*Jail
	Problems []conffile.Problem

	Prototypes []*Prototype // sorted by name
	Enabled    bool         // cfgd_enable is set to YES in rc.conf
	JailList   []string     // jail_list of rc.conf; empty where all jails of jail.conf are started
	Classes    *Classes     // the tables that all targets share
	Checkers   *Checkers

	host   Mounts  // /etc/fstab
	hidden []*Jail // of which another one has the name
	unread Unread
	read   *conffile.Files
}

// Path returns where an absolute path of the model is on this machine: below --root's directory, with its
// links resolved as after chroot(2).
func (m *Model) Path(p string) string { return hostfile.Below(m.Root, p) }

// RunDir returns cfgd's directory in /var/run.
func (m *Model) RunDir() string { return m.Path("/var/run/cfgd") }

// Target returns the target of that name, or nil.
func (m *Model) Target(name string) *Target {
	for _, t := range m.Targets {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// PrototypeOf returns the prototype that a base is a snapshot of. It returns nil if the base is no snapshot,
// or no prototype of the model has it.
func (m *Model) PrototypeOf(base string) *Prototype {
	snap, ok := ParseSnapshot(base)
	if !ok {
		return nil
	}
	for _, p := range m.Prototypes {
		if p.Has(snap) {
			return p
		}
	}
	return nil
}

// Errors returns the problems of severity Error.
func (m *Model) Errors() []conffile.Problem {
	var errs []conffile.Problem
	for _, p := range m.Problems {
		if p.Severity == conffile.SeverityError {
			errs = append(errs, p)
		}
	}
	return errs
}

// Form is the kind of file that defines a jail.
type Form string

// The forms: variables of rc.conf, or jail.conf(5).
const (
	FormRC       Form = "rc.conf"
	FormJailConf Form = "jail.conf"
)

// Definition is how a jail is defined. It serves to make another jail like it.
type Definition struct {
	Form   Form    // "" if only cfgd.toml names the jail
	Params []Param // in order of their names
}

// Param is a parameter of jail.conf, with wildcards and variables applied, or what follows jail_NAME_ in
// a variable of rc.conf.
type Param struct {
	Name   string
	Values []string // none for one that is only named (persist;)
}

// JailForm returns the form in which most jails of the machine are defined, rc.conf if there are none.
func (m *Model) JailForm() Form {
	count := map[Form]int{}
	for _, t := range m.Targets {
		count[t.Definition.Form]++
	}
	for _, j := range m.Jails {
		count[j.Definition.Form]++
	}
	if count[FormJailConf] > count[FormRC] {
		return FormJailConf
	}
	return FormRC
}

// within reports whether a path is a directory or below it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// oddPath returns what is wrong with an absolute path below which cfgd would write, and what to do, or
// "". ".." after a link leads elsewhere than its name says, and a newline would forge lines of logs and
// lists.
func oddPath(p string) (why, fix string) {
	switch {
	case slices.Contains(strings.Split(p, "/"), ".."):
		return "leads through ..", "write it without .."
	case strings.ContainsFunc(p, unicode.IsControl):
		return "has a control character in it", "write a plain path"
	}
	return "", ""
}

// checkJailName returns why a name cannot be a target's. It becomes part of file names, lines and
// addresses.
func checkJailName(name string) error {
	switch {
	case name == HostName:
		return fmt.Errorf("%q is the name of the machine itself, no jail's", name)
	case name == "", name[0] == '.', name[0] == '-', strings.ContainsAny(name, "/\\\"'*"),
		strings.ContainsFunc(name, func(r rune) bool {
			return unicode.IsControl(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar
		}):
		return fmt.Errorf("%q cannot be a jail's name", name)
	}
	return nil
}

// baseDir returns where jail(8) mounts the defaults of a jail with this root.
func baseDir(root string) string { return path.Join(root, "conf/base/etc") }
