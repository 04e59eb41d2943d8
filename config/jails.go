package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/jailconf"
)

// jailDef is a jail as rc.conf or jail.conf defines it, before it is decided whether it is a target.
type jailDef struct {
	name     string
	root     string
	fstabs   []string // files; the legacy default only if it exists
	mounts   []conffile.Located
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
	}
	if len(d.fstabs) > 0 {
		j.Fstab = d.fstabs[0]
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

// rcJails holds the jails that jail_ variables define, and the names of jail_list.
type rcJails struct {
	defs   []*jailDef
	listed []string
	names  map[string]bool // of listed
	listAt conffile.Origin
	known  bool // jail_list is set, and its value known
}

// rootdirVar matches the variables that define a jail.
var rootdirVar = regexp.MustCompile(`^jail_(.+)_rootdir$`)

// jails finds the jails of jail_list, in its order, and then the ones that have a root directory without
// being listed. exists tells whether a file is there, for the default fstab.
func (c *rcConf) jails(exists func(string) bool) *rcJails {
	js := &rcJails{names: map[string]bool{}}
	var list string
	list, js.listAt, js.known = c.get("jail_list")
	vars := map[string]bool{}
	for _, listed := range strings.Fields(list) {
		name := jailName(listed)
		if js.names[name] {
			c.warn(js.listAt, "name it once", "jail_list names %s twice", name)
			continue
		}
		js.listed, js.names[name] = append(js.listed, name), true
		vars[jailVar(name)] = true
		if d := c.jail(name, exists); d != nil {
			js.defs = append(js.defs, d)
		}
	}
	for _, jv := range c.unlisted(vars) {
		d := c.jail(jv, exists)
		if d == nil {
			continue
		}
		js.defs = append(js.defs, d)
		at := d.origin["root"]
		c.problems = append(c.problems, conffile.Warn(at, d.name, c.addToList(js, d.name),
			"jail %s is not in jail_list and will not be started", d.name).SettledBy(c.listEdit(d.name)))
	}
	return js
}

// unlisted returns the names, as in variables, of the jails with a root directory that jail_list lacks.
func (c *rcConf) unlisted(listed map[string]bool) []string {
	var names []string
	for v := range c.vars {
		if m := rootdirVar.FindStringSubmatch(v); m != nil && !listed[m[1]] {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return names
}

// listEdit returns the edits that add a jail to jail_list.
func (c *rcConf) listEdit(name string) conffile.Edit {
	return conffile.Edit{File: "/etc/rc.conf", New: fmt.Sprintf("jail_list=\"$jail_list %s\"", name)}
}

// addToList returns the text that says how to add a jail to jail_list.
func (c *rcConf) addToList(js *rcJails, name string) string {
	if js.known {
		return fmt.Sprintf("add it to jail_list at %s", js.listAt)
	}
	return fmt.Sprintf("write jail_list=%q", name)
}

// jail reads the variables of one jail as parse_options of rc.d/jail does. It returns nil if no root
// directory is known.
func (c *rcConf) jail(name string, exists func(string) bool) *jailDef {
	prefix := "jail_" + jailVar(name) + "_"
	root, at, ok := c.get(prefix + "rootdir")
	if !ok {
		return nil
	}
	d := &jailDef{
		name:     name,
		root:     root,
		rcPrefix: prefix,
		def:      c.definition(prefix),
		origin:   map[string]conffile.Origin{"root": at},
	}
	if _, at, ok := c.get(prefix + "hostname"); ok {
		d.origin["hostname"] = at // without it rc.d/jail looks at jail.conf
	}
	d.prestart = c.hooks(d, "prestart")
	d.poststop = c.hooks(d, "poststop")
	d.wrong = map[string][]conffile.Located{
		"prestop":   c.hooks(d, "prestop"),
		"poststart": c.hooks(d, "poststart"),
		"start":     c.hooks(d, "afterstart"),
	}
	for _, when := range []string{"start", "stop"} {
		if v, at, ok := c.get(prefix + "exec_" + when); ok {
			d.wrong[when] = append(d.wrong[when], conffile.Located{Value: v, At: at})
		}
	}
	c.jailFstab(d, exists)
	c.warnParameters(d)
	return d
}

// followed are the parameters that would change the result here if they had another value than the jail_
// variables.
var followed = regexp.MustCompile(`^(path|mount|mount\.fstab|exec\.(prestart|poststop|prestop|stop))\+?=`)

// warnParameters warns of parameters that reach jail(8) through jail_NAME_parameters, which cfgd does not
// read.
func (c *rcConf) warnParameters(d *jailDef) {
	for _, v := range []string{d.rcPrefix + "parameters", "jail_parameters"} {
		list, at, ok := c.get(v)
		if !ok {
			continue
		}
		for _, word := range strings.Fields(list) {
			if m := followed.FindStringSubmatch(word); m != nil {
				c.problems = append(c.problems,
					conffile.Warn(at, d.name, "use the jail_ variable for it, or jail.conf",
						"%s sets %s of jail %s, which is not followed here", v, m[1], d.name))
			}
		}
		return
	}
}

// hooks reads exec_WHEN0, exec_WHEN1, …. The first may be missing; the list ends at the next missing one.
// jail_exec_WHENn is the default of each.
func (c *rcConf) hooks(d *jailDef, when string) []conffile.Located {
	var out []conffile.Located
	for i := 0; ; i++ {
		v, at, ok := c.get(fmt.Sprintf("%sexec_%s%d", d.rcPrefix, when, i))
		if !ok {
			v, at, ok = c.get(fmt.Sprintf("jail_exec_%s%d", when, i))
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

// jailFstab finds the fstab: the named one, jail_fstab for all jails, or /etc/fstab.NAME. rc.d/jail uses
// it if it can be read.
func (c *rcConf) jailFstab(d *jailDef, exists func(string) bool) {
	for _, v := range []string{d.rcPrefix + "fstab", "jail_fstab"} {
		if file, at, ok := c.get(v); ok {
			d.fstabs, d.origin["fstab"] = []string{file}, at
			if !exists(file) {
				c.problems = append(c.problems, conffile.Warn(at, d.name, "write "+file+" or mend the name",
					"fstab %s of jail %s is not there", file, d.name))
			}
			return
		}
	}
	if file := "/etc/fstab." + d.name; exists(file) {
		d.fstabs, d.origin["fstab"] = []string{file}, conffile.Origin{File: file}
	}
}

// jailConfFile is a file in which rc.d/jail looks for jails.
type jailConfFile struct {
	name string
	only string // the jail that rc.d/jail starts from this file; "" for the common jail.conf
}

// jailConfFiles returns the files in which rc.d/jail looks for jails: those of a single jail first, the
// common one last.
func (c *rcConf) jailConfFiles(read *conffile.Files, listed []string) []jailConfFile {
	var files []jailConfFile
	for _, name := range listed {
		if file, _, ok := c.get("jail_" + jailVar(name) + "_conf"); ok {
			files = append(files, jailConfFile{rooted(file), name})
		}
	}
	for _, form := range [][2]string{{"/etc/jail.", ".conf"}, {"/etc/jail.conf.d/", ".conf"}} {
		names, _ := read.Glob(form[0] + "*" + form[1])
		for _, n := range names {
			only := strings.TrimSuffix(strings.TrimPrefix(n, form[0]), form[1])
			files = append(files, jailConfFile{n, only})
		}
	}
	common, _, ok := c.get("jail_conf")
	if !ok {
		common = "/etc/jail.conf"
	}
	return append(files, jailConfFile{rooted(common), ""})
}

// rooted makes a name absolute: rc(8) runs in the root directory.
func rooted(name string) string {
	if path.IsAbs(name) {
		return name
	}
	return "/" + name
}

// jailConfJails reads every jail.conf. The first file that defines a jail counts, as for rc.d/jail. A
// malformed common jail.conf is an error; a malformed file of a single jail is that jail's problem.
func (c *rcConf) jailConfJails(read *conffile.Files, js *rcJails) ([]*jailDef, error) {
	files := c.jailConfFiles(read, js.listed)
	own, common := files[:len(files)-1], files[len(files)-1]
	blocks, problems, err := readJailConf(read, common)
	if err != nil {
		return nil, conffile.FileError(common.name, err)
	}
	included := map[string]bool{}
	for _, b := range blocks {
		included[b.Origin.File] = true
	}
	s := &jailConfSet{c: c, seen: map[string]conffile.Origin{}}
	for _, f := range own {
		if included[f.name] && f.byInclude(js) {
			continue
		}
		blocks, problems, err := readJailConf(read, f)
		if err != nil {
			c.problems = append(c.problems, conffile.ProblemOf(err, f.name, f.only, ""))
			continue
		}
		s.add(blocks, problems)
		c.warnAlone(f, js, common.name)
	}
	s.add(blocks, problems)
	return s.defs, nil
}

// byInclude reports whether rc.d/jail starts a jail from the common jail.conf that includes its file, and
// not from the file alone, which may lack the defaults. That is so if jail_list does not name the jail,
// and always for jail.conf.d.
func (f jailConfFile) byInclude(js *rcJails) bool {
	return strings.HasPrefix(f.name, "/etc/jail.conf.d/") || !js.names[f.only]
}

// warnAlone warns of a file that rc.d/jail reads only for one jail, if it starts all jails from the
// common one.
func (c *rcConf) warnAlone(f jailConfFile, js *rcJails, common string) {
	if len(js.listed) == 0 {
		c.problems = append(c.problems, conffile.Warn(conffile.Origin{File: f.name}, f.only,
			fmt.Sprintf("write .include \"%s\"; in %s, or jail_list in rc.conf", f.name, common),
			"jail_list is not set, and %s does not include this file: its jail will not be started at boot",
			common))
	}
}

// readJailConf reads a file. A missing file has no jails.
func readJailConf(read *conffile.Files, f jailConfFile) ([]jailconf.Block, []conffile.Problem, error) {
	blocks, problems, err := jailconf.Load(read, f.name)
	if errors.Is(err, fs.ErrNotExist) && !read.Exists(f.name) {
		return nil, nil, nil
	}
	return blocks, problems, err
}

// jailConfSet collects the jails of several files, the first of each name.
type jailConfSet struct {
	c    *rcConf
	defs []*jailDef
	seen map[string]conffile.Origin
}

func (s *jailConfSet) add(blocks []jailconf.Block, problems []conffile.Problem) {
	s.c.problems = append(s.c.problems, problems...)
	for _, b := range blocks {
		if first, dup := s.seen[b.Name]; dup {
			s.c.warnTwice(b, first)
			continue
		}
		s.seen[b.Name] = b.Origin
		s.defs = append(s.defs, newJailDef(b))
	}
}

// warnTwice warns that a jail is defined in two files. The same block read twice, by .include and by its
// own name, is no mistake.
func (c *rcConf) warnTwice(b jailconf.Block, first conffile.Origin) {
	if b.Origin != first {
		c.problems = append(c.problems, conffile.Warn(b.Origin, b.Name, "remove one of the two",
			"jail %s is defined at %s already, which rc.d/jail takes", b.Name, first))
	}
}

// newJailDef makes a jailDef from a block of jail.conf.
func newJailDef(b jailconf.Block) *jailDef {
	d := &jailDef{
		name:   b.Name,
		def:    definitionOf(b),
		origin: map[string]conffile.Origin{"jail": b.Origin},
		hidden: b.Hidden,
	}
	if p := b.Values("path"); len(p) > 0 {
		d.root, d.origin["root"] = p[len(p)-1].Value, p[len(p)-1].At
	}
	for _, f := range b.Values("mount.fstab") {
		d.fstabs = append(d.fstabs, f.Value)
		d.origin["fstab"] = f.At
	}
	d.mounts = b.Values("mount")
	d.prestart, d.poststop = b.Values("exec.prestart"), b.Values("exec.poststop")
	d.wrong = map[string][]conffile.Located{}
	for when := range wrongPlace {
		d.wrong[when] = b.Values("exec." + when)
	}
	for key, list := range map[string][]conffile.Located{"prestart": d.prestart, "poststop": d.poststop} {
		if len(list) > 0 {
			d.origin[key] = list[len(list)-1].At
		}
	}
	return d
}
