package jailconf

import (
	"slices"
	"strconv"
	"strings"

	"cfgd/config/conffile"
)

// isWild reports whether a name is a wildcard: whether one of its components is "*".
func isWild(name string) bool { return slices.Contains(strings.Split(name, "."), "*") }

// wildMatch reports whether a wildcard applies to a jail: "*" matches a component, at the end one or
// more.
func wildMatch(pattern, name string) bool {
	for {
		n, nameRest, nameMore := strings.Cut(name, ".")
		p, patternRest, patternMore := strings.Cut(pattern, ".")
		switch {
		case !nameMore || !patternMore:
			return pattern == "*" || pattern == name
		case p != "*" && p != n:
			return false
		}
		name, pattern = nameRest, patternRest
	}
}

// isNumeric reports whether a block's name is a jail's id, as strtol(3) reads it.
func isNumeric(name string) bool {
	n, err := strconv.Atoi(name)
	return err == nil && n != 0
}

// merger merges sections into jails, within bounds for the whole file.
type merger struct{ *limits }

// numbered is a section with its place in the file.
type numbered struct {
	*section
	seq int
}

// blocks merges and expands every jail.
func (m merger) blocks(sections []*section) []Block {
	var names []string
	var wild []numbered
	own := map[string][]numbered{}
	for i, s := range sections {
		if s.loose || isWild(s.name) {
			wild = append(wild, numbered{s, i})
			continue
		}
		if own[s.name] == nil {
			names = append(names, s.name)
		}
		own[s.name] = append(own[s.name], numbered{s, i})
	}
	var blocks []Block
	for _, name := range names {
		m.warnSplit(own[name])
		if b := m.block(name, own[name], wild); m.err == nil {
			blocks = append(blocks, b)
		}
	}
	return blocks
}

// warnSplit warns that a jail has two blocks. They are merged here, because both are meant; jail(8) makes
// two jails of one name.
func (m merger) warnSplit(own []numbered) {
	for _, again := range own[1:] {
		m.problem(conffile.Warn(conffile.DefinedTwice, again.at, again.name, "put all into one block",
			"jail %s has a block at %s already, and jail(8) takes only one of them", again.name, own[0].at))
	}
}

// block merges the sections that apply to a jail, in the order of the file. Later assignments count.
func (m merger) block(name string, own, wild []numbered) Block {
	j := &params{limits: m.limits, name: name, byKey: map[string]*parameter{}}
	j.implied(own[0].at)
	for len(own)+len(wild) > 0 && m.spend(1) {
		if len(wild) == 0 || len(own) > 0 && own[0].seq < wild[0].seq {
			j.section(own[0].section)
			own = own[1:]
			continue
		}
		if wild[0].loose || wildMatch(wild[0].name, name) {
			j.section(wild[0].section)
		}
		wild = wild[1:]
	}
	j.nameless()
	b := j.expandAll()
	b.Origin = j.at
	return b
}

// implied sets what the block's name implies: name, or jid if it is a number.
func (j *params) implied(at conffile.Origin) {
	j.at = at
	param := "name"
	if isNumeric(j.name) {
		param = "jid"
	}
	j.builtin(param)
}

// nameless sets the name of a jail that only has an id to the id.
func (j *params) nameless() {
	if j.byKey[paramKey("name")] == nil {
		j.builtin("name")
	}
}

func (j *params) builtin(param string) {
	v := &parameter{name: param, fixed: true, at: j.at, origins: []conffile.Origin{j.at},
		values: []token{{kind: word, parts: []wordPart{{text: j.name}}}}}
	j.byKey[paramKey(param)] = v
	j.order = append(j.order, v)
}

func (j *params) section(s *section) {
	for i := range s.assigns {
		a := &s.assigns[i]
		if !j.limits.spend(1 + len(a.values)) {
			return
		}
		j.set(s, a)
	}
}

// set makes an assignment, as add_param of jail(8)'s config.c does.
func (j *params) set(s *section, a *assignment) {
	key := paramKey(a.name)
	v := j.byKey[key]
	if !j.may(v, key, a) {
		return
	}
	if v == nil {
		v = &parameter{variable: a.variable, fixed: key == "jid" || key == "name"}
		j.byKey[key] = v
		j.order = append(j.order, v)
	}
	if !a.add || len(a.values) == 0 {
		j.hide(v, s, a)
		v.values, v.origins = nil, nil
	}
	v.name, v.at, v.section = a.name, a.at, s
	v.values = append(v.values, a.values...)
	v.origins = append(v.origins, a.origins...)
}

// may reports whether jail(8) accepts an assignment, and records why not.
func (j *params) may(v *parameter, key string, a *assignment) bool {
	switch {
	case a.variable && (ownParams[key] || v != nil && !v.variable), !a.variable && v != nil && v.variable:
		j.limits.problem(conffile.Refuse(conffile.BadParameter, a.at, j.name,
			"give the variable another name",
			"variable $%s of jail %s has the name of a parameter", strings.TrimPrefix(a.name, "$"), j.name))
	case v != nil && v.fixed && key == "name":
		j.limits.problem(conffile.Refuse(conffile.BadParameter, a.at, j.name,
			"remove it, or rename the block",
			"name of jail %s cannot be set: it is that of the block", j.name))
	case v != nil && v.fixed:
		j.limits.problem(conffile.Refuse(conffile.BadParameter, a.at, j.name, "remove one of the two",
			"%s of jail %s cannot be set again",
			a.name, j.name))
	default:
		return true
	}
	return false
}

// hide records the command that an assignment replaces, if both are in the same section: that is hardly
// intended.
func (j *params) hide(v *parameter, s *section, a *assignment) {
	if v.section != s || len(v.values) == 0 || len(a.values) == 0 || !strings.HasPrefix(a.name, "exec.") {
		return
	}
	last := len(v.values) - 1
	j.hidden = append(j.hidden, hiddenAssign{
		a.name, v.values[last], a.values[0], v.origins[last], a.origins[0],
	})
}

// ownParams are the parameters that jail(8) itself knows, by their keys: no variable can have the name of
// one.
var ownParams = func() map[string]bool {
	known := map[string]bool{}
	for _, p := range strings.Fields(`
		allow.dying command depend exec.clean exec.consolelog exec.fib exec.jail_user
		exec.poststart exec.poststop exec.prepare exec.prestart exec.prestop exec.release
		exec.created exec.start exec.stop exec.system_jail_user exec.system_user exec.timeout
		interface ip_hostname mount mount.devfs mount.fdescfs mount.procfs mount.fstab
		stop.timeout vnet.interface zfs.dataset allow.chflags allow.mount allow.raw_sockets
		allow.set_hostname allow.socket_af allow.sysvipc devfs_ruleset host.hostname ip4.addr
		ip6.addr jid name path persist securelevel vnet`) {
		known[paramKey(p)] = true
	}
	return known
}()

// warnLateDefaults warns of parameters outside of blocks that set again what a block above them set.
// Here, as in FreeBSD 13 and before, they apply to that block too. Since FreeBSD 14, with .include,
// jail(8) treats everything outside of blocks as one section, at the place of the first.
func (m merger) warnLateDefaults(sections []*section) {
	first := slices.IndexFunc(sections, func(s *section) bool { return s.loose })
	if first < 0 {
		return
	}
	set := map[string]conffile.Origin{}
	for _, s := range sections[first+1:] {
		for _, a := range s.assigns {
			at, before := set[paramKey(a.name)]
			switch {
			case !s.loose && !before:
				set[paramKey(a.name)] = a.at
			case s.loose && before:
				m.problem(conffile.Warn(conffile.LateDefault, a.at, "",
					`write it into a block "* { … }", or above the first jail`,
					"%s is set here outside of blocks and at %s in one: it depends on the release of "+
						"FreeBSD which of them counts", a.name, at))
			}
		}
	}
}
