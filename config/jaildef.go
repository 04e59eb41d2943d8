package config

import (
	"fmt"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/jailconf"
)

// jailDef is a jail as rc.conf or jail.conf defines it, before it is decided whether it is a target.
type jailDef struct {
	name     string
	root     string
	fstabs   []conffile.Located // files; the legacy default only if it exists
	params   []conffile.Located // mount parameters
	unknown  []*conffile.Error  // what may mount something and is not followed
	mounts   Mounts
	prestart []conffile.Located
	poststop []conffile.Located
	// other exec.… parameters, by what follows the dot: wrong places for a hook
	wrong    map[string][]conffile.Located
	origin   map[string]conffile.Origin
	rcPrefix string            // jail_NAME_ where rc.conf defines it, "" for jail.conf
	hidden   []jailconf.Hidden // commands of jail.conf that others replaced
	def      Definition
	// a duplicate assignment of a hook was reported, which explains what is wrong with both hooks
	duplicated bool
}

// jail returns the model's form of a jail that is no target.
func (d *jailDef) jail() *Jail {
	j := &Jail{
		Name:       d.name,
		Root:       d.root,
		Prestart:   conffile.Values(d.prestart),
		Poststop:   conffile.Values(d.poststop),
		Origin:     d.origin,
		Definition: d.def,
		Mounts:     d.mounts,
	}
	if len(d.fstabs) > 0 {
		j.Fstab = d.fstabs[0].Value
	}
	return j
}

// jailName returns the name that rc.d/jail gives a jail of jail_list: tr /. _
func jailName(listed string) string { return strings.NewReplacer("/", "_", ".", "_").Replace(listed) }

// jailVar returns the part of a variable's name that stands for a jail: tr -c '[:alnum:]' _
func jailVar(name string) string {
	return strings.Map(func(r rune) rune {
		if r < 128 && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '_'
	}, name)
}

// jailList is jail_list of rc.conf.
type jailList struct {
	names []string // as rc.d/jail names the jails, each once
	has   map[string]bool
	at    conffile.Origin
	known bool // jail_list is set, and its value known
}

// howToAdd returns the text that says how to add a jail.
func (l *jailList) howToAdd(name string) string {
	if l.known {
		return fmt.Sprintf("add it to jail_list at %s", l.at)
	}
	return fmt.Sprintf("write jail_list=%q", name)
}

// listEdit returns the edit that adds a jail to jail_list.
func listEdit(name string) conffile.Edit {
	return conffile.Edit{File: "/etc/rc.conf", New: fmt.Sprintf("jail_list=\"$jail_list %s\"", name)}
}
