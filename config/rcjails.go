package config

import (
	"fmt"
	"regexp"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/rcconf"
)

// rcJails finds the jails that the jail_ variables of rc.conf define.
type rcJails struct {
	conffile.Findings
	rc   *rcconf.Conf
	read *conffile.Files // tells whether a file is there, for the default fstab
	list jailList
}

// rootdirVar matches the variables that define a jail.
var rootdirVar = regexp.MustCompile(`^jail_(.+)_rootdir$`)

// find returns the jails of jail_list, in its order, and then those that have a root directory without being
// listed. It fills in list.
func (r *rcJails) find() (defs []*jailDef) {
	text, at, known := r.rc.Get("jail_list")
	r.list = jailList{has: map[string]bool{}, at: at, known: known}
	vars := map[string]bool{}
	for _, listed := range strings.Fields(text) {
		name := jailName(listed)
		if r.list.has[name] {
			r.Add(conffile.Warn(conffile.ListedTwice, at, "", "name it once", "jail_list names %s twice",
				name))
			continue
		}
		r.list.names, r.list.has[name] = append(r.list.names, name), true
		vars[jailVar(name)] = true
		if d := r.jail(name); d != nil {
			defs = append(defs, d)
		}
	}
	for _, name := range r.unlisted(vars) {
		if d := r.jail(name); d != nil {
			defs = append(defs, d)
			r.Add(conffile.Warn(conffile.NotInJailList, d.origin["root"], name, r.list.howToAdd(name),
				"jail %s is not in jail_list and will not be started", name).SettledBy(listEdit(name)))
		}
	}
	return defs
}

// unlisted returns the names, as in variables, of the jails with a root directory that jail_list lacks.
func (r *rcJails) unlisted(listed map[string]bool) []string {
	var names []string
	for _, v := range r.rc.Names() {
		if m := rootdirVar.FindStringSubmatch(v); m != nil && !listed[m[1]] {
			names = append(names, m[1])
		}
	}
	return names
}

// jail reads the variables of one jail as parse_options of rc.d/jail does. It returns nil if no root
// directory is known.
func (r *rcJails) jail(name string) *jailDef {
	prefix := "jail_" + jailVar(name) + "_"
	root, at, ok := r.rc.Get(prefix + "rootdir")
	if !ok {
		return nil
	}
	d := &jailDef{
		name:     name,
		root:     root,
		rcPrefix: prefix,
		def:      rcDefinition(r.rc, prefix),
		origin:   map[string]conffile.Origin{"root": at},
	}
	if _, at, ok := r.rc.Get(prefix + "hostname"); ok {
		d.origin["hostname"] = at // without it rc.d/jail looks at jail.conf
	}
	d.prestart = r.hooks(d, "prestart")
	d.poststop = r.hooks(d, "poststop")
	d.wrong = map[string][]conffile.Located{
		"prestop":   r.hooks(d, "prestop"),
		"poststart": r.hooks(d, "poststart"),
		"start":     r.hooks(d, "afterstart"),
	}
	for _, when := range []string{"start", "stop"} {
		if v, at, ok := r.rc.Get(prefix + "exec_" + when); ok {
			d.wrong[when] = append(d.wrong[when], conffile.Located{Value: v, At: at})
		}
	}
	r.fstab(d)
	r.warnParameters(d)
	return d
}

// followed are the parameters that would change the result here if they had another value than the jail_
// variables.
var followed = regexp.MustCompile(`^(path|mount|mount\.fstab|exec\.(prestart|poststop|prestop|stop))\+?=`)

// warnParameters warns of parameters that reach jail(8) through jail_NAME_parameters, which cfgd does not
// read.
func (r *rcJails) warnParameters(d *jailDef) {
	for _, v := range []string{d.rcPrefix + "parameters", "jail_parameters"} {
		list, at, ok := r.rc.Get(v)
		if !ok {
			continue
		}
		for _, word := range strings.Fields(list) {
			if m := followed.FindStringSubmatch(word); m != nil {
				r.Add(conffile.Warn(conffile.UnfollowedParameter, at, d.name,
					"use the jail_ variable for it, or jail.conf",
					"%s sets %s of jail %s, which is not followed here", v, m[1], d.name))
				if strings.HasPrefix(m[1], "mount") {
					d.unknown = append(d.unknown, conffile.Errorf(at,
						"use the jail_ variable for it, or jail.conf",
						"%s sets %s of jail %s, so that not all of its mounts are known", v, m[1], d.name))
				}
			}
		}
		return
	}
}

// hooks reads exec_WHEN0, exec_WHEN1, …. The first may be missing; the list ends at the next missing one.
// jail_exec_WHENn is the default of each.
func (r *rcJails) hooks(d *jailDef, when string) []conffile.Located {
	var out []conffile.Located
	for i := 0; ; i++ {
		v, at, ok := r.rc.Get(fmt.Sprintf("%sexec_%s%d", d.rcPrefix, when, i))
		if !ok {
			v, at, ok = r.rc.Get(fmt.Sprintf("jail_exec_%s%d", when, i))
		}
		switch {
		case ok:
			out = append(out, conffile.Located{Value: v, At: at})
		case i > 0:
			if len(out) > 0 {
				d.origin[when] = out[len(out)-1].At
			}
			return out
		}
	}
}

// fstab finds the fstab: the named one, jail_fstab for all jails, or /etc/fstab.NAME. rc.d/jail uses
// it if it can be read. A link at the last name counts even if it leads nowhere now: what it leads to may
// only be unmounted.
func (r *rcJails) fstab(d *jailDef) {
	for _, v := range []string{d.rcPrefix + "fstab", "jail_fstab"} {
		file, at, ok := r.rc.Get(v)
		if !ok && r.rc.Unknown(v) {
			d.unknown = append(d.unknown, unknownValue(v, at))
		}
		if ok {
			file = rooted(file)
			d.fstabs, d.origin["fstab"] = []conffile.Located{{Value: file, At: at}}, at
			if !r.read.Exists(file) {
				r.Add(conffile.Warn(conffile.NoFstab, at, d.name, "write "+file+" or mend the name",
					"fstab %s of jail %s is not there", file, d.name))
			}
			return
		}
	}
	if file := "/etc/fstab." + d.name; r.read.Exists(file) || r.read.IsLink(file) {
		at := conffile.Origin{File: file}
		d.fstabs, d.origin["fstab"] = []conffile.Located{{Value: file, At: at}}, at
	}
}

// unknownValue returns the error for a variable that may mount something, and whose value only a shell
// knows.
func unknownValue(name string, at conffile.Origin) *conffile.Error {
	return conffile.Errorf(at, "write it as a plain assignment", "the value of %s is not known", name)
}

// rcDefinition returns the definition of a jail in rc.conf.
func rcDefinition(rc *rcconf.Conf, prefix string) Definition {
	d := Definition{Form: FormRC}
	for _, name := range rc.Names() {
		key, ok := strings.CutPrefix(name, prefix)
		if v, _, set := rc.Get(name); ok && set {
			d.Params = append(d.Params, Param{key, []string{v}})
		}
	}
	return d
}
