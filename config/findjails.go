package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/rcconf"
)

// jailFinder finds all jails of a machine, as rc.d/jail does.
type jailFinder struct {
	conffile.Findings
	rc   *rcconf.Conf
	read *conffile.Files
	list jailList
	// hidden are the jails of which another one has the name. They are not started at boot; what they mount
	// is not unused.
	hidden []*jailDef
}

// jailOrigin matches the variables without which a jail's mounts are not known: it may not be found at all.
var jailOrigin = regexp.MustCompile(`^jail_(.+_rootdir|.+_conf|conf|.+_parameters|parameters)$`)

// unread returns what keeps a jail, or what it mounts, from being known at all.
func (f *jailFinder) unread() (all Unread) {
	for _, name := range f.rc.Names() {
		if _, at, _ := f.rc.Get(name); f.rc.Unknown(name) && jailOrigin.MatchString(name) {
			all = append(all, unknownValue(name, at))
		}
	}
	for _, p := range f.Problems {
		if p.Kind == conffile.BadFile || p.Kind == conffile.BadParameter {
			e := conffile.Errorf(conffile.At(p.File, p.Line), p.Fix, "%s", p.Message)
			all = append(all, e)
		}
	}
	return all
}

// find returns the jails of both forms, sorted by name, and fills in list and Problems.
func (f *jailFinder) find() ([]*jailDef, error) {
	rc := &rcJails{rc: f.rc, read: f.read}
	inRC := rc.find()
	f.list = rc.list
	conf := &confJails{rc: f.rc, read: f.read, list: &f.list}
	inConf, err := conf.find()
	if err != nil {
		return nil, err
	}
	f.Add(rc.Problems...)
	f.Add(conf.Problems...)
	defs := f.merge(inRC, inConf)
	doubled := f.rc.Doubled()
	f.hidden = append(f.hidden, conf.hidden...)
	for _, d := range defs {
		f.checkDuplicates(d, doubled)
	}
	for _, d := range slices.Concat(defs, f.hidden) {
		d.mounts = mountSources{
			read: f.read, jail: d.name, params: d.params, fstabs: d.fstabs, unknown: d.unknown,
		}.mounts()
	}
	return defs, nil
}

// merge merges the jails of both forms. rc.d/jail uses jail_ variables if both a root directory and
// a hostname are set, and jail.conf otherwise.
func (f *jailFinder) merge(rc, conf []*jailDef) []*jailDef {
	byName := map[string]*jailDef{}
	for _, d := range conf {
		byName[d.name] = d
	}
	for _, d := range rc {
		other := byName[d.name]
		_, hostname := d.origin["hostname"]
		switch {
		case hostname && other != nil:
			f.hidden = append(f.hidden, other)
			f.Add(conffile.Warn(conffile.DefinedTwice, d.origin["root"], d.name, "remove one of the two",
				"jail %s is defined here and at %s; rc.d/jail takes this one", d.name, other.origin["jail"]))
		case hostname:
		case other != nil:
			f.hidden = append(f.hidden, d)
			f.Add(conffile.Warn(conffile.NoHostname, d.origin["root"], d.name,
				"remove the jail_ variables",
				"jail %s has no %shostname: rc.d/jail takes %s", d.name, d.rcPrefix, other.origin["jail"]))
			continue
		default:
			f.Add(conffile.Warn(conffile.NoHostname, d.origin["root"], d.name,
				fmt.Sprintf("set %shostname", d.rcPrefix),
				"jail %s has no hostname: rc.d/jail will not start it", d.name))
		}
		byName[d.name] = d
	}
	for _, name := range f.list.names {
		if byName[name] == nil && !f.rc.Unknown("jail_"+jailVar(name)+"_rootdir") {
			f.Add(conffile.Warn(conffile.UndefinedJail, f.list.at, name,
				"define the jail or take it out of jail_list",
				"jail_list names %s, which neither rc.conf nor jail.conf defines", name))
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b *jailDef) int {
		return strings.Compare(a.name, b.name)
	})
}

// checkDuplicates finds two assignments of one hook's variable in the same file: the second hides the
// first. If the hidden one belongs under another name (the cleanup hook under the name of the init hook),
// the message says so.
func (f *jailFinder) checkDuplicates(d *jailDef, doubled []string) {
	if d.rcPrefix == "" {
		f.checkHidden(d)
		return
	}
	for _, name := range doubled {
		if !strings.HasPrefix(name, d.rcPrefix+"exec_") {
			continue
		}
		list := f.rc.Assignments(name)
		for i := 1; i < len(list); i++ {
			if first, second := list[i-1], list[i]; first.At.File == second.At.File && !second.Self {
				p := duplicateAssignment(d, name, d.rcPrefix+"exec_poststop0", first.Located, second.Located)
				d.duplicated = d.duplicated || p.Severity == conffile.SeverityError
				f.Add(p)
			}
		}
	}
}

// checkHidden is checkDuplicates for jail.conf: two commands with "=" in the same block.
func (f *jailFinder) checkHidden(d *jailDef) {
	for _, h := range d.hidden {
		p := duplicateAssignment(d, h.Param, "exec.poststop", h.First, h.Second)
		d.duplicated = d.duplicated || p.Severity == conffile.SeverityError
		f.Add(p)
	}
}

// prestartName matches exec.prestart and jail_NAME_exec_prestart0.
var prestartName = regexp.MustCompile(`exec[._]prestart[0-9]*$`)

// duplicateAssignment describes one doubled assignment.
func duplicateAssignment(d *jailDef, name, poststop string, first, second conffile.Located) conffile.Problem {
	at := second.At
	h, _ := parseHook(second.Value)
	if h == hookCleanup && prestartName.MatchString(name) {
		return conffile.Refuse(conffile.MisnamedHook, at, d.name, "name this line "+poststop,
			"%s is set at line %d already: the cleanup hook takes the place of %q, and runs at the start "+
				"of jail %s",
			name, first.At.Line, first.Value,
			d.name).SettledBy(conffile.Edit{File: at.File, Line: at.Line, Old: name, New: poststop})
	}
	if first.Value == second.Value {
		return conffile.Warn(conffile.SetTwice, at, d.name, "remove one of the two",
			"%s is set to the same at line %d", name,
			first.At.Line)
	}
	fix := "write += in the second, or remove one"
	if d.rcPrefix != "" {
		fix = fmt.Sprintf("number them %sexec_…0, …1, or remove one", d.rcPrefix)
	}
	return conffile.Warn(conffile.SetTwice, at, d.name, fix,
		"%s is set at line %d already: %q is not run", name, first.At.Line, first.Value)
}
